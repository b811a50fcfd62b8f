//! The connections between the workers of one generation, over which records travel.
//!
//! Timely's own start-up tells peers apart by nothing but their number: a stale process would be let in, and one that never comes is
//! waited for for ever. So the connections are made here, and handed to timely. Each begins with a greeting both ways that carries the
//! generation's cookie: whoever has not got it is turned away. The worker of the greater number connects.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Result};
use crate::job::wire::{Cookie, Pass};

const OPERATION: &str = "connect a job's workers";
const MAGIC: &[u8; 8] = b"icecore1";
/// Magic, generation, cookie, who speaks, who is spoken to.
const GREETING_BYTES: usize = 8 + 8 + 16 + 4 + 4;
/// How long one that has connected may take to greet.
const GREETING_TIMEOUT: Duration = Duration::from_secs(5);
/// How long one attempt to connect may take.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(2);
/// The pause between two attempts, and between two looks for who has connected.
const PAUSE: Duration = Duration::from_millis(10);
/// How many that have connected may owe a greeting at once: more than that are turned away.
const MAX_STRANGERS: usize = 256;

/// Opens a port for peers, at the address of this machine that the manager is reached by. Returns that address, too.
///
/// # Errors
/// [`ErrorKind::Unreachable`] if the manager's address leads nowhere; what the operating system says.
pub(super) fn listen(manager: &str) -> Result<(TcpListener, String)> {
    let fail = |error| Error::io("open a worker's port", manager, error);
    let ip = own_address(manager).map_err(fail)?;
    let listener = TcpListener::bind((ip, 0)).map_err(fail)?;
    let address = listener.local_addr().map_err(fail)?;
    Ok((listener, address.to_string()))
}

/// From where the manager would be reached. Nothing is sent.
fn own_address(manager: &str) -> io::Result<IpAddr> {
    let manager = resolve(manager)?;
    let any: SocketAddr = match manager {
        SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
        SocketAddr::V6(_) => ([0_u16; 8], 0).into(),
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(manager)?;
    Ok(socket.local_addr()?.ip())
}

fn resolve(address: &str) -> io::Result<SocketAddr> {
    let unknown = || io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    address.to_socket_addrs()?.next().ok_or_else(unknown)
}

/// Connects this worker with every other of its generation; `peers` are the addresses of all. Blocks.
///
/// # Errors
/// [`ErrorKind::Unreachable`] naming the peers that did not come within `timeout`; what the operating system says.
pub(super) fn connect(
    listener: TcpListener,
    peers: &[String],
    pass: Pass,
    timeout: Duration,
) -> Result<Vec<Option<TcpStream>>> {
    let deadline = Instant::now() + timeout;
    let mut connections: Vec<Option<TcpStream>> = peers.iter().map(|_| None).collect();
    let own = pass.worker as usize;
    for (slot, (number, address)) in connections.iter_mut().zip((0..).zip(peers)).take(own) {
        *slot = Some(call(pass, number, address, deadline)?);
    }
    for (number, stream) in accept(listener, pass, peers.len(), deadline)? {
        if let Some(slot) = connections.get_mut(number as usize) {
            *slot = Some(stream);
        }
    }
    Ok(connections)
}

/// Connects to a peer, again and again until it answers as it must.
fn call(pass: Pass, peer: u32, address: &str, deadline: Instant) -> Result<TcpStream> {
    loop {
        let error = match call_once(pass, peer, address) {
            Ok(stream) => return Ok(stream),
            Err(error) => error,
        };
        if Instant::now() >= deadline {
            return Err(Error::new(ErrorKind::Unreachable, OPERATION, error.to_string())
                .with_object(format!("worker {peer} at {address}")));
        }
        thread::sleep(PAUSE);
    }
}

fn call_once(pass: Pass, peer: u32, address: &str) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&resolve(address)?, ATTEMPT_TIMEOUT)?;
    prepare(&stream)?;
    stream.write_all(&greeting(pass, pass.worker, peer))?;
    let mut answer = [0; GREETING_BYTES];
    stream.read_exact(&mut answer)?;
    if answer != greeting(pass, peer, pass.worker) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "who answers is not the worker of this generation"));
    }
    finish(stream)
}

/// Waits for all workers of greater numbers.
fn accept(listener: TcpListener, pass: Pass, workers: usize, deadline: Instant) -> Result<Vec<(u32, TcpStream)>> {
    let fail = |error| Error::io(OPERATION, "its own port", error);
    listener.set_nonblocking(true).map_err(fail)?;
    let mut missing: std::collections::BTreeSet<u32> = (pass.worker + 1..workers as u32).collect();
    let mut connected = Vec::new();
    let (greeted, greetings) = mpsc::channel();
    let mut strangers = 0;
    while !missing.is_empty() {
        match listener.accept() {
            Ok((stream, _)) if strangers < MAX_STRANGERS => {
                strangers += 1;
                let greeted = greeted.clone();
                // One that says nothing holds up nobody else.
                thread::spawn(move || greeted.send(answer(stream, pass, workers as u32)));
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(PAUSE),
            Err(error) => return Err(fail(error)),
        }
        while let Ok(outcome) = greetings.try_recv() {
            strangers -= 1;
            match outcome {
                // One that lost its first connection in the meantime comes a second time: the last one counts.
                Ok((number, stream)) => {
                    missing.remove(&number);
                    connected.push((number, stream));
                }
                Err(error) => tracing::warn!(%error, "somebody who is no peer was turned away"),
            }
        }
        if !missing.is_empty() && Instant::now() >= deadline {
            let message = format!("workers {missing:?} did not connect in time");
            return Err(Error::new(ErrorKind::Unreachable, OPERATION, message));
        }
    }
    Ok(connected)
}

/// Answers the greeting of one that has connected, if it is a peer of a greater number.
fn answer(mut stream: TcpStream, pass: Pass, workers: u32) -> io::Result<(u32, TcpStream)> {
    let stranger = |why: &str| Err(io::Error::new(io::ErrorKind::InvalidData, why.to_owned()));
    stream.set_nonblocking(false)?;
    prepare(&stream)?;
    let mut said = [0; GREETING_BYTES];
    stream.read_exact(&mut said)?;
    let Some(from) = said.get(GREETING_BYTES - 8..GREETING_BYTES - 4).and_then(|bytes| bytes.try_into().ok()) else {
        return stranger("its greeting is too short");
    };
    let from = u32::from_le_bytes(from);
    if said != greeting(pass, from, pass.worker) {
        return stranger("it is of another generation, or looks for another worker");
    }
    if from <= pass.worker || from >= workers {
        return stranger("its number is none that connects to this worker");
    }
    stream.write_all(&greeting(pass, pass.worker, from))?;
    Ok((from, finish(stream)?))
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(GREETING_TIMEOUT))?;
    stream.set_write_timeout(Some(GREETING_TIMEOUT))
}

/// As timely wants it: it waits for as long as it takes, and small messages go at once.
fn finish(stream: TcpStream) -> io::Result<TcpStream> {
    stream.set_read_timeout(None)?;
    stream.set_write_timeout(None)?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn greeting(pass: Pass, from: u32, to: u32) -> [u8; GREETING_BYTES] {
    let Cookie { first, second } = pass.cookie;
    let mut bytes = [0; GREETING_BYTES];
    let parts = MAGIC
        .iter()
        .copied()
        .chain(pass.generation.to_le_bytes())
        .chain(first.to_le_bytes())
        .chain(second.to_le_bytes())
        .chain(from.to_le_bytes())
        .chain(to.to_le_bytes());
    bytes.iter_mut().zip(parts).for_each(|(byte, part)| *byte = part);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    fn pass(worker: u32, generation: u64) -> Pass {
        Pass { generation, worker, cookie: Cookie { first: generation, second: 7 } }
    }

    /// Ports of `workers` workers.
    fn ports(workers: usize) -> (Vec<TcpListener>, Vec<String>) {
        (0..workers).map(|_| listen("127.0.0.1:1").unwrap()).unzip()
    }

    fn connect_all(listeners: Vec<TcpListener>, peers: &[String]) -> Vec<Vec<Option<TcpStream>>> {
        let connecting: Vec<_> = (0..)
            .zip(listeners)
            .map(|(number, listener)| {
                let peers = peers.to_vec();
                thread::spawn(move || connect(listener, &peers, pass(number, 3), PATIENCE).unwrap())
            })
            .collect();
        connecting.into_iter().map(|connected| connected.join().unwrap()).collect()
    }

    #[test]
    fn each_worker_is_connected_with_each_other_one() {
        let (listeners, peers) = ports(4);
        let mut all = connect_all(listeners, &peers);
        for (from, to) in (0..4).flat_map(|from| (0..4).map(move |to| (from, to))) {
            let byte = [(10 * from + to) as u8];
            let Some(stream) = &mut all[from][to] else {
                assert_eq!(from, to);
                continue;
            };
            stream.write_all(&byte).unwrap();
            let mut read = [0];
            all[to][from].as_mut().unwrap().read_exact(&mut read).unwrap();
            assert_eq!(read, byte);
        }
    }

    #[test]
    fn a_stale_peer_and_a_stranger_are_turned_away_and_hold_nobody_up() {
        let (listeners, peers) = ports(2);
        let mut silent = TcpStream::connect(&peers[0]).unwrap();
        let mut stale = TcpStream::connect(&peers[0]).unwrap();
        stale.write_all(&greeting(pass(1, 2), 1, 0)).unwrap();
        let all = connect_all(listeners, &peers);
        assert!(all[0][1].is_some() && all[1][0].is_some());
        let mut nothing = [0];
        assert!(matches!(stale.read(&mut nothing), Ok(0) | Err(_)), "a stale peer was answered");
        assert!(matches!(silent.read(&mut nothing), Ok(0) | Err(_)), "a stranger was answered");
    }

    #[test]
    fn a_stale_process_at_a_peer_s_address_is_not_taken_for_it() {
        let (stale, stale_address) = listen("127.0.0.1:1").unwrap();
        let (own, address) = listen("127.0.0.1:1").unwrap();
        let peers = vec![stale_address.clone(), address];
        let answering = thread::spawn(move || {
            let accepted = accept(stale, pass(0, 2), 2, Instant::now() + Duration::from_millis(500));
            accepted.map(|connected| connected.len())
        });
        let error = connect(own, &peers, pass(1, 3), Duration::from_millis(100)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unreachable);
        assert!(error.to_string().contains(&stale_address), "{error}");
        assert_eq!(answering.join().unwrap().unwrap_err().kind(), ErrorKind::Unreachable);
    }

    #[test]
    fn a_peer_that_never_comes_is_named() {
        let (mut listeners, peers) = ports(3);
        let error = connect(listeners.remove(0), &peers, pass(0, 3), Duration::from_millis(50)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unreachable);
        assert!(error.to_string().contains("{1, 2}"), "{error}");
    }
}
