//! A service on a loopback port that answers as a test says, and remembers what it was asked.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

/// A request as it came.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) method: String,
    /// Path and query.
    pub(super) target: String,
    /// Names in small letters.
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Asked {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn is_listing(&self) -> bool {
        self.method == "GET" && self.target.contains("list-type=2")
    }

    pub(super) fn is_part(&self) -> bool {
        self.method == "PUT" && self.target.contains("partNumber=")
    }
}

/// What it answers.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    /// A status and a body.
    Say(u16, String),
    /// The same, with headers.
    SayWith(u16, Vec<(&'static str, String)>, String),
    /// Nothing; the connection is cut.
    Cut,
    /// Nothing for so long.
    Wait(Duration),
    /// A body that says it is longer than it is.
    Short(String),
}

pub(super) fn ok(body: impl Into<String>) -> Answer {
    Answer::Say(200, body.into())
}

pub(super) fn refuse(status: u16, code: &str) -> Answer {
    Answer::Say(status, format!("<Error><Code>{code}</Code><Message>said the test</Message></Error>"))
}

/// What S3 answers to a PUT.
pub(super) fn written() -> Answer {
    Answer::SayWith(200, vec![("etag", "\"tag\"".to_owned())], String::new())
}

/// A listing without objects.
pub(super) fn empty_listing() -> Answer {
    ok("<?xml version=\"1.0\"?><ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>")
}

type Script = Box<dyn FnMut(&Asked) -> Answer + Send>;

/// See the module's text. Its threads end with the process, or when nobody talks to them.
pub(super) struct Service {
    endpoint: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Service {
    pub(super) fn start(script: impl FnMut(&Asked) -> Answer + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let script: Arc<Mutex<Script>> = Arc::new(Mutex::new(Box::new(script)));
        let record = asked.clone();
        std::thread::spawn(move || {
            for connection in listener.incoming().map_while(Result::ok) {
                let (script, record) = (script.clone(), record.clone());
                std::thread::spawn(move || serve(connection, &script, &record));
            }
        });
        Self { endpoint, asked }
    }

    pub(super) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    pub(super) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().clone()
    }

    pub(super) fn count(&self, which: impl Fn(&Asked) -> bool) -> usize {
        self.asked.lock().iter().filter(|asked| which(asked)).count()
    }
}

fn serve(connection: TcpStream, script: &Mutex<Script>, record: &Mutex<Vec<Asked>>) {
    let mut reader = BufReader::new(connection.try_clone().unwrap());
    let mut writer = connection;
    while let Some(asked) = read(&mut reader) {
        let answer = {
            let answer = (script.lock())(&asked);
            record.lock().push(asked.clone());
            answer
        };
        let (status, headers, body, length) = match answer {
            Answer::Say(status, body) => (status, Vec::new(), body.clone(), body.len()),
            Answer::SayWith(status, headers, body) => (status, headers, body.clone(), body.len()),
            Answer::Short(body) => (200, Vec::new(), body.clone(), body.len() + 10),
            Answer::Cut => return,
            Answer::Wait(time) => {
                std::thread::sleep(time);
                return;
            }
        };
        let mut head = format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n");
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        let body = if asked.method == "HEAD" { String::new() } else { body };
        let sent = writer.write_all(format!("{head}\r\n{body}").as_bytes());
        if sent.is_err() || (asked.method != "HEAD" && body.len() < length) {
            return;
        }
    }
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<Asked> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|length| *length > 0)?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, target) = (words.next()?, words.next()?);
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length").and_then(|(_, value)| value.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    Some(Asked { method, target, headers, body })
}
