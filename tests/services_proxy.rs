//! The proxy that makes networks fail for other tests does what it says.

mod services;

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use services::proxy::{Aim, Proxy, Rule, Seen};

/// Longest wait of a client for bytes; long enough that only what never comes runs into it.
const SOON: Duration = Duration::from_secs(20);

/// A small HTTP server that keeps connections open, notes what it got, and answers with the body it got.
struct Server {
    address: String,
    got: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let got: Arc<Mutex<Vec<String>>> = Arc::default();
        let noted = got.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (noted, stream) = (noted.clone(), stream.unwrap());
                std::thread::spawn(move || serve(stream, &noted));
            }
        });
        Self { address, got }
    }

    fn got(&self) -> Vec<String> {
        self.got.lock().clone()
    }
}

fn serve(mut stream: TcpStream, noted: &Mutex<Vec<String>>) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    loop {
        let (line, body) = read_message(&mut reader)?;
        noted.lock().push(line.clone());
        let mut answer = Vec::new();
        if line.contains("chunked") {
            answer.extend(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            for piece in body.chunks(7) {
                write!(answer, "{:x};x=y\r\n", piece.len()).unwrap();
                answer.extend(piece);
                answer.extend(b"\r\n");
            }
            answer.extend(b"0\r\nTrailer: 1\r\n\r\n");
        } else {
            write!(answer, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).unwrap();
            if !line.starts_with("HEAD") {
                answer.extend(body);
            }
        }
        stream.write_all(&answer).ok()?;
    }
}

/// The first line of a request or answer, and its body.
fn read_message(reader: &mut BufReader<TcpStream>) -> Option<(String, Vec<u8>)> {
    let mut first = String::new();
    reader.read_line(&mut first).ok().filter(|count| *count > 0)?;
    let (mut length, mut chunked) = (0, false);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|count| *count > 0)?;
        let line = line.trim().to_ascii_lowercase();
        chunked |= line == "transfer-encoding: chunked";
        if let Some(count) = line.strip_prefix("content-length: ") {
            length = count.parse().unwrap();
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    if chunked {
        body = read_chunks(reader)?;
    }
    Some((first.trim().to_owned(), body))
}

fn read_chunks(reader: &mut BufReader<TcpStream>) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|count| *count > 0)?;
        let size = usize::from_str_radix(line.trim().split(';').next().unwrap(), 16).unwrap();
        if size == 0 {
            break;
        }
        let mut piece = vec![0; size + 2]; // a line end follows
        reader.read_exact(&mut piece).ok()?;
        body.extend(&piece[..size]);
    }
    let mut trailer = String::new();
    while reader.read_line(&mut trailer).ok()? > 2 {
        trailer.clear();
    }
    Some(body)
}

/// A client with one connection.
struct Client {
    stream: TcpStream,
    reader: BufReader<TcpStream>,
}

impl Client {
    fn connect(proxy: &Proxy) -> Self {
        let stream = TcpStream::connect(proxy.address()).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        let reader = BufReader::new(stream.try_clone().unwrap());
        Self { stream, reader }
    }

    fn send(&mut self, method: &str, path: &str, body: &[u8]) -> std::io::Result<()> {
        write!(self.stream, "{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len())?;
        self.stream.write_all(body)
    }

    /// The answer's first line and body; `None` if the connection is cut.
    fn ask(&mut self, method: &str, path: &str, body: &[u8]) -> Option<(String, Vec<u8>)> {
        self.send(method, path, body).ok()?;
        read_message(&mut self.reader)
    }

    fn put(&mut self, path: &str) -> bool {
        let answer = self.ask("PUT", path, path.as_bytes());
        assert!(answer.iter().all(|(line, body)| line == "HTTP/1.1 200 OK" && body == path.as_bytes()), "{answer:?}");
        answer.is_some()
    }
}

#[test]
fn what_passes_is_unchanged_and_every_request_is_seen() {
    let server = Server::start();
    let proxy = Proxy::http(&server.address);
    let mut client = Client::connect(&proxy);
    let body: Vec<u8> = (0..300_000_u32).map(|at| (at % 251) as u8).collect();
    assert_eq!(client.ask("PUT", "/a?x=1", &body).unwrap(), ("HTTP/1.1 200 OK".into(), body));
    assert!(client.put("/b"));
    let seen = |name: &str, path: &str| Seen { name: name.into(), path: path.into() };
    assert_eq!(proxy.seen(), [seen("PUT", "/a?x=1"), seen("PUT", "/b")]);
    assert_eq!((proxy.count("PUT", "x=1"), proxy.count("GET", ""), proxy.connections()), (1, 0, 1));
}

#[test]
fn chunked_bodies_head_and_asides_do_not_blur_where_messages_end() {
    let server = Server::start();
    let proxy = Proxy::http(&server.address);
    let mut client = Client::connect(&proxy);
    // Byte by byte, so that every border is met.
    for byte in b"PUT /chunked HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n" {
        client.stream.write_all(&[*byte]).unwrap();
    }
    assert_eq!(read_message(&mut client.reader).unwrap().0, "HTTP/1.1 100 Continue");
    assert_eq!(read_message(&mut client.reader).unwrap(), ("HTTP/1.1 200 OK".into(), b"hello world".to_vec()));

    client.send("HEAD", "/head", b"").unwrap();
    assert_eq!(read_message(&mut client.reader).unwrap().0, "HTTP/1.1 200 OK");
    proxy.lose_answer(Aim::at("PUT", "/chunked"));
    assert!(client.put("/plain"));
    client.send("PUT", "/chunked", b"lost").unwrap();
    assert_eq!(read_message(&mut client.reader).unwrap().0, "HTTP/1.1 100 Continue", "an aside is not the answer");
    assert_eq!(read_message(&mut client.reader), None);
    proxy.wait_hits(1);
}

#[test]
fn a_request_is_applied_and_its_answer_lost() {
    let server = Server::start();
    let proxy = Proxy::http(&server.address);
    proxy.lose_answer(Aim::at("PUT", "aimed").nth(2));
    let mut client = Client::connect(&proxy);
    assert!(client.put("/aimed/1") && client.put("/other"));
    assert_eq!(client.ask("GET", "/aimed/get", b"").unwrap().0, "HTTP/1.1 200 OK");
    assert!(!client.put("/aimed/2"));
    proxy.wait_hits(1);
    assert_eq!(server.got().last().unwrap(), "PUT /aimed/2 HTTP/1.1");

    let mut client = Client::connect(&proxy);
    assert!(client.put("/aimed/3"), "one shot, one hit");
    assert_eq!(proxy.hits(), 1);
    proxy.lose_answer(Aim::at("PUT", "").times(u64::MAX));
    assert!(!client.put("/x") && !Client::connect(&proxy).put("/y"));
    proxy.clear_aims();
    assert!(Client::connect(&proxy).put("/z"));
}

#[test]
fn a_request_is_lost_before_the_server_hears_of_it() {
    let server = Server::start();
    let proxy = Proxy::http(&server.address);
    proxy.lose_request(Aim::at("PUT", "/lost"));
    let mut client = Client::connect(&proxy);
    assert!(client.put("/first") && !client.put("/lost"));
    proxy.wait_hits(1);
    assert!(Client::connect(&proxy).put("/last"));
    assert_eq!(server.got(), ["PUT /first HTTP/1.1", "PUT /last HTTP/1.1"]);
}

#[test]
fn a_write_lands_after_its_writer_gave_up() {
    let server = Server::start();
    let proxy = Proxy::http(&server.address);
    proxy.hold(Aim::at("PUT", "/late"));
    assert!(!Client::connect(&proxy).put("/late"));
    assert!(Client::connect(&proxy).put("/meanwhile"));
    assert_eq!(server.got(), ["PUT /meanwhile HTTP/1.1"]);
    assert_eq!(proxy.release(), ["200"]);
    assert_eq!(server.got(), ["PUT /meanwhile HTTP/1.1", "PUT /late HTTP/1.1"]);
}

#[test]
fn an_answer_can_come_from_the_proxy() {
    let server = Server::start();
    let proxy = Proxy::http(&server.address);
    proxy.answer(Aim::at("PUT", "/busy").times(2), "503 Slow Down", "<Code>SlowDown</Code>");
    let mut client = Client::connect(&proxy);
    for _ in 0..2 {
        let answer = client.ask("PUT", "/busy", b"x").unwrap();
        assert_eq!(answer, ("HTTP/1.1 503 Slow Down".into(), b"<Code>SlowDown</Code>".to_vec()));
    }
    assert!(client.put("/busy"), "the connection lives on");
    assert_eq!((server.got().len(), proxy.hits()), (1, 2));
}

#[test]
fn refused_means_that_nothing_listens_until_it_does_again() {
    let server = Server::start();
    let proxy = Proxy::http(&server.address);
    let mut open = Client::connect(&proxy);
    assert!(open.put("/1"));
    for _ in 0..20 {
        proxy.set(Rule::Refuse);
        assert_eq!(TcpStream::connect(proxy.address()).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        proxy.set(Rule::Pass);
        assert!(Client::connect(&proxy).put("/2"));
    }
    assert!(!open.put("/3"), "an open connection was cut");
}

#[test]
fn a_stalled_connection_says_nothing_and_goes_on_later() {
    let server = Server::start();
    let proxy = Proxy::http(&server.address);
    let mut client = Client::connect(&proxy);
    assert!(client.put("/1"));
    proxy.set(Rule::Stall);
    client.send("PUT", "/2", b"late").unwrap();
    client.stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let mut byte = [0];
    assert_eq!(client.stream.read(&mut byte).unwrap_err().kind(), ErrorKind::WouldBlock);
    let mut other = Client::connect(&proxy);
    other.send("PUT", "/3", b"later").unwrap();
    assert_eq!(server.got().len(), 1);

    client.stream.set_read_timeout(Some(SOON)).unwrap();
    proxy.set(Rule::Pass);
    assert_eq!(read_message(&mut client.reader).unwrap().1, b"late");
    assert_eq!(read_message(&mut other.reader).unwrap().1, b"later");
}

#[test]
fn every_turn_is_late_by_the_delay() {
    let server = Server::start();
    let proxy = Proxy::http(&server.address);
    let mut client = Client::connect(&proxy);
    let delay = Duration::from_millis(60);
    proxy.set(Rule::Delay(delay));
    let start = Instant::now();
    assert!(client.put("/1") && client.put("/2"));
    assert!(start.elapsed() >= 4 * delay, "{:?}", start.elapsed());
    let start = Instant::now();
    client.ask("PUT", "/big", &vec![1; 10 << 20]).unwrap();
    assert!(start.elapsed() < 100 * delay, "a turn is late once, not once a chunk: {:?}", start.elapsed());
}

#[test]
fn a_rate_is_kept_in_both_directions() {
    let server = Server::start();
    let proxy = Proxy::http(&server.address);
    let mut client = Client::connect(&proxy);
    proxy.set(Rule::Rate { bytes_per_second: 1 << 20 });
    let start = Instant::now();
    client.ask("PUT", "/1", &vec![1; 512 << 10]).unwrap();
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(950), "half a second up, half a second down: {took:?}");
}

#[test]
fn connections_are_cut_at_a_byte_and_so_often_as_told() {
    let server = Server::start();
    let proxy = Proxy::bytes(&server.address);
    let body = vec![7; 100_000];
    proxy.set(Rule::CutDown { after: 1000, times: 2 });
    for _ in 0..2 {
        let mut client = Client::connect(&proxy);
        client.send("PUT", "/cut", &body).unwrap();
        let mut got = Vec::new();
        let error = client.stream.read_to_end(&mut got).unwrap_err();
        assert_eq!((got.len(), error.kind()), (1000, ErrorKind::ConnectionReset));
    }
    let mut client = Client::connect(&proxy);
    assert_eq!(client.ask("PUT", "/whole", &body).unwrap().1, body);
    assert_eq!((server.got().len(), proxy.cuts()), (3, 2));

    // Upwards, and counted anew from when the rule is set: on a connection that is long open.
    proxy.set(Rule::CutUp { after: 50_000, times: u64::MAX });
    assert!(client.ask("PUT", "/up", &body).is_none());
    assert!(Client::connect(&proxy).ask("PUT", "/up", &body).is_none());
    assert!(Client::connect(&proxy).put("/short"), "fewer bytes than that pass");
    assert_eq!((server.got().len(), proxy.cuts()), (4, 4));
}

#[test]
fn all_open_connections_are_cut_at_once() {
    let server = Server::start();
    let proxy = Proxy::http(&server.address);
    let mut clients = [Client::connect(&proxy), Client::connect(&proxy)];
    assert!(clients.iter_mut().all(|client| client.put("/1")));
    proxy.cut();
    assert!(clients.iter_mut().all(|client| !client.put("/2")));
    assert!(Client::connect(&proxy).put("/3"));
}

#[test]
fn no_server_behind_it_looks_like_a_cut() {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let proxy = Proxy::http(&gone);
    assert!(!Client::connect(&proxy).put("/1"));
}

/// Hadoop's own client, and a call of which the answer is lost: the folder is there all the same.
#[test]
fn the_answer_of_one_call_to_a_real_namenode_is_lost() {
    let Some(cluster) = services::HdfsCluster::start(1) else { return };
    let proxy = Proxy::hadoop_rpc(cluster.address().host_and_port());
    let through = |path: &str| format!("hdfs://{}{path}", proxy.address());
    cluster.shell(&["-mkdir", &through("/passed")]);
    assert_eq!((proxy.count("mkdirs", ""), proxy.hits()), (1, 0), "{:?}", proxy.seen());

    proxy.lose_answer(Aim::at("mkdirs", "/lost"));
    cluster.shell(&["-mkdir", "-p", &through("/other")]);
    assert_eq!(proxy.hits(), 0);
    let error = cluster.try_shell(&["-mkdir", "-p", &through("/lost")]).unwrap_err();
    assert!(error.contains("Connection reset"), "{error}");
    proxy.wait_hits(1);
    cluster.shell(&["-test", "-d", "/lost"]);

    // One that lands after its client gave up.
    proxy.hold(Aim::at("delete", "/other"));
    let error = cluster.try_shell(&["-rm", "-r", "-skipTrash", &through("/other")]).unwrap_err();
    assert!(error.contains("Connection reset"), "{error}");
    cluster.shell(&["-test", "-d", "/other"]);
    assert_eq!(proxy.release(), ["0"], "a success");
    assert!(cluster.try_shell(&["-test", "-d", "/other"]).is_err());
}
