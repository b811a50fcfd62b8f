//! A network that fails as told: a TCP proxy between a client under test and a real server.
//!
//! - [`Rule`]s hold for all connections: late, stalled, cut, refused, slow. They can be changed at any time.
//! - Aims pick out single requests, of HTTP or Hadoop RPC, by name, path and count, and lose the answer of one that
//!   was carried out, lose the request, hold it back until its client has given up, or answer in the server's place.
//!
//! It runs on a thread of its own, so tests may block and may stop their clocks.

mod hadoop;
mod http;
mod relay;

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{Notify, watch};

/// Longest wait for something that the test expects of the proxy.
const PATIENCE: Duration = Duration::from_secs(60);
/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1024;

/// What happens to every connection. A change holds at once, also for those that are open.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    Pass,
    /// The first bytes after those of the other side come later by this: each request and each answer.
    Delay(Duration),
    /// Accepts, takes nothing and says nothing. When the rule ends, what was sent goes on.
    Stall,
    /// Nothing listens, and open connections are cut.
    Refuse,
    /// Connections are cut (reset) when they have passed this many bytes to the server, counted from when the rule was
    /// set or the connection began; so often, after which they pass.
    CutUp {
        after: u64,
        times: u64,
    },
    /// The same for bytes from the server.
    CutDown {
        after: u64,
        times: u64,
    },
    /// Each connection, in each direction, at this rate.
    Rate {
        bytes_per_second: u64,
    },
}

/// Which requests are meant: the first `skip` that fit are left alone, then `times` are hit.
#[derive(Clone, Debug)]
pub struct Aim {
    name: String,
    part: String,
    skip: u64,
    times: u64,
}

impl Aim {
    /// The next request with this name (an HTTP method, or an RPC method of Hadoop) whose path contains `part`.
    pub fn at(name: &str, part: &str) -> Self {
        Self { name: name.into(), part: part.into(), skip: 0, times: 1 }
    }

    /// Leaves the first ones that fit alone: `nth(2)` aims at the second.
    pub fn nth(self, number: u64) -> Self {
        Self { skip: number.checked_sub(1).expect("requests are counted from 1"), ..self }
    }

    pub fn times(self, times: u64) -> Self {
        Self { times, ..self }
    }
}

/// What happens to a request that was aimed at.
#[derive(Clone, Debug)]
enum Effect {
    /// The server gets it and answers; the client is cut instead of getting the answer.
    LoseAnswer,
    /// The client is cut when it has sent all of it; the server gets nothing.
    LoseRequest,
    /// As `LoseRequest`, but the server gets it later, when the test says so.
    Hold,
    /// The server gets nothing, the client this.
    Answer(String),
}

/// A request that came by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub name: String,
    /// Path and query; empty for RPC.
    pub path: String,
}

#[derive(Clone, Copy)]
enum Protocol {
    Http,
    HadoopRpc,
    Bytes,
}

/// What the connections' tasks and the test share.
struct Shared {
    upstream: String,
    protocol: Protocol,
    /// The rule and its number, which starts the counting of bytes anew.
    rule: watch::Sender<(u64, Rule)>,
    book: Mutex<Book>,
    changed: Condvar,
    release: Notify,
    cut: Notify,
}

#[derive(Default)]
struct Book {
    aims: Vec<(Aim, Effect)>,
    seen: Vec<Seen>,
    connections: u64,
    cuts: u64,
    /// The number of the rule that the listener follows.
    rule: u64,
    /// Requests that met with the effect of an aim, to its end.
    hits: u64,
    held: u64,
    /// What became of the held requests that were released.
    landed: Vec<String>,
}

impl Shared {
    /// Notes a request, and what is to become of it. `content` is where a part of its path is looked for.
    fn meet(&self, name: &str, path: &str, content: &[u8]) -> Option<Effect> {
        let mut book = self.book.lock();
        book.seen.push(Seen { name: name.into(), path: path.into() });
        for (aim, effect) in &mut book.aims {
            if aim.times == 0 || aim.name != name || !contains(content, aim.part.as_bytes()) {
                continue;
            }
            if aim.skip > 0 {
                aim.skip -= 1;
                continue;
            }
            aim.times -= 1;
            return Some(effect.clone());
        }
        None
    }

    fn note(&self, change: impl FnOnce(&mut Book)) {
        change(&mut self.book.lock());
        self.changed.notify_all();
    }

    /// Whether a connection that has passed the bytes of a cutting rule is to be cut.
    fn take_cut(&self) -> bool {
        let mut taken = false;
        self.rule.send_if_modified(|(_, rule)| {
            if let Rule::CutUp { times, .. } | Rule::CutDown { times, .. } = rule
                && *times > 0
            {
                *times -= 1;
                taken = true;
            }
            false // the rule stays the same one: nobody starts counting anew
        });
        taken
    }
}

fn contains(all: &[u8], part: &[u8]) -> bool {
    part.is_empty() || all.windows(part.len()).any(|window| window == part)
}

/// A proxy in front of one server; dropping it cuts what is open.
pub struct Proxy {
    shared: Arc<Shared>,
    address: SocketAddr,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// For an HTTP server at `upstream` (`127.0.0.1:PORT`).
    pub fn http(upstream: &str) -> Self {
        Self::start("127.0.0.1:0", upstream, Protocol::Http)
    }

    /// For Hadoop's RPC, a NameNode's.
    pub fn hadoop_rpc(upstream: &str) -> Self {
        Self::start("127.0.0.1:0", upstream, Protocol::HadoopRpc)
    }

    /// For any protocol: rules only, no aims.
    pub fn bytes(upstream: &str) -> Self {
        Self::start("127.0.0.1:0", upstream, Protocol::Bytes)
    }

    /// The same at an address of one's choice, such as a DataNode's alias.
    pub fn bytes_at(listen: &str, upstream: &str) -> Self {
        Self::start(listen, upstream, Protocol::Bytes)
    }

    fn start(listen: &str, upstream: &str, protocol: Protocol) -> Self {
        let listener = std::net::TcpListener::bind(listen).unwrap_or_else(|error| panic!("proxy at {listen}: {error}"));
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            upstream: upstream.into(),
            protocol,
            rule: watch::Sender::new((0, Rule::Pass)),
            book: Mutex::default(),
            changed: Condvar::new(),
            release: Notify::new(),
            cut: Notify::new(),
        });
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let accepting = shared.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                tokio::select! {
                    () = accept(accepting, TcpListener::from_std(listener).unwrap(), address) => {}
                    _ = stopped => {}
                }
            });
        });
        Self { shared, address, stop: Some(stop), thread: Some(thread) }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns when the rule holds for whoever connects.
    pub fn set(&self, rule: Rule) {
        self.shared.rule.send_modify(|(number, current)| {
            *number += 1;
            *current = rule;
        });
        let number = self.shared.rule.borrow().0;
        self.wait("a rule to hold", |book| book.rule >= number);
    }

    /// Cuts every open connection, once.
    pub fn cut(&self) {
        self.shared.cut.notify_waiters();
    }

    /// The server carries it out and answers, and the client never hears of it: the connection is reset instead.
    pub fn lose_answer(&self, aim: Aim) {
        self.aim(aim, Effect::LoseAnswer);
    }

    /// The client sends all of it and is cut; the server never hears of it.
    pub fn lose_request(&self, aim: Aim) {
        self.aim(aim, Effect::LoseRequest);
    }

    /// The client sends all of it and is cut; the server gets it when [`Proxy::release`] is called: a write that lands late.
    pub fn hold(&self, aim: Aim) {
        self.aim(aim, Effect::Hold);
    }

    /// HTTP only: the client gets this status (`503 Slow Down`) and body, the server nothing.
    pub fn answer(&self, aim: Aim, status: &str, body: &str) {
        let length = body.len();
        let head = format!("HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nContent-Length: {length}\r\n\r\n");
        self.aim(aim, Effect::Answer(head + body));
    }

    fn aim(&self, aim: Aim, effect: Effect) {
        assert!(!matches!(self.shared.protocol, Protocol::Bytes), "no requests are told apart in bytes");
        self.shared.book.lock().aims.push((aim, effect));
    }

    /// Forgets all aims, hit or not.
    pub fn clear_aims(&self) {
        self.shared.book.lock().aims.clear();
    }

    /// Sends the server what is held, and returns the statuses of its answers when it has given them.
    ///
    /// # Panics
    /// If that takes more than a minute.
    pub fn release(&self) -> Vec<String> {
        let held = self.shared.book.lock().held as usize;
        self.shared.release.notify_waiters();
        self.wait("held requests to land", |book| book.landed.len() == held);
        self.shared.book.lock().landed.clone()
    }

    /// Waits until aims have been hit so often since the start, to the end of their effect.
    ///
    /// # Panics
    /// If that takes more than a minute.
    pub fn wait_hits(&self, hits: u64) {
        self.wait(&format!("{hits} hits"), |book| book.hits >= hits);
    }

    fn wait(&self, what: &str, is: impl Fn(&Book) -> bool) {
        let (mut book, until) = (self.shared.book.lock(), Instant::now() + PATIENCE);
        while !is(&book) {
            let late = self.shared.changed.wait_until(&mut book, until).timed_out();
            assert!(!late || is(&book), "the proxy waited {PATIENCE:?} in vain for {what}; it saw {:?}", book.seen);
        }
    }

    /// Aims hit since the start, to the end of their effect.
    pub fn hits(&self) -> u64 {
        self.shared.book.lock().hits
    }

    /// Connections accepted since the start.
    pub fn connections(&self) -> u64 {
        self.shared.book.lock().connections
    }

    /// Connections cut by rules since the start.
    pub fn cuts(&self) -> u64 {
        self.shared.book.lock().cuts
    }

    /// The requests that came by since the start, in order.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.book.lock().seen.clone()
    }

    /// How many requests of this name, with this part in their path, came by since the start.
    pub fn count(&self, name: &str, part: &str) -> usize {
        self.shared.book.lock().seen.iter().filter(|seen| seen.name == name && seen.path.contains(part)).count()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Takes connections, as the rule says.
async fn accept(shared: Arc<Shared>, listener: TcpListener, address: SocketAddr) {
    let mut rule = shared.rule.subscribe();
    let mut listener = Some(listener);
    let mut reserved: Option<TcpSocket> = None;
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let (number, current) = *rule.borrow_and_update();
        let refuse = current == Rule::Refuse;
        if refuse && let Some(open) = listener.take() {
            drop(open);
            // Bound but not listening: connections are refused, and the port stays ours.
            reserved = Some(bind(address).await);
        } else if !refuse && let Some(socket) = reserved.take() {
            listener = Some(socket.listen(BACKLOG).unwrap());
        }
        shared.note(|book| book.rule = number);
        tokio::select! {
            _ = rule.changed() => {}
            accepted = async { listener.as_ref().unwrap().accept().await }, if listener.is_some() => {
                if let Ok((client, _)) = accepted {
                    shared.note(|book| book.connections += 1);
                    connections.spawn(relay::connection(shared.clone(), client));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// A port that was just closed may take a moment to be free.
async fn bind(address: SocketAddr) -> TcpSocket {
    let until = Instant::now() + PATIENCE;
    loop {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        match socket.bind(address) {
            Ok(()) => return socket,
            Err(error) => assert!(Instant::now() < until, "proxy at {address}: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
