//! One connection: two pumps, one for each direction, that obey the rule and the aims.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::{Mutex as AsyncMutex, watch};

use super::{Effect, Protocol, Rule, Shared, hadoop, http};

/// Bytes read at once.
const CHUNK: usize = 64 << 10;
/// A rate is kept by pausing this often.
const RATE_SLICE: Duration = Duration::from_millis(20);

/// Some bytes of one message, or of none that anybody aims at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    pub bytes: Bytes,
    pub begins: Begins,
    /// Whether they are the last of their message.
    pub ends: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begins {
    /// More of the message before, or bytes that belong to none.
    Nothing,
    Request {
        id: u64,
        name: String,
        path: String,
    },
    Answer {
        id: u64,
        status: String,
    },
    /// Something between messages that goes its way whatever is aimed at: HTTP's `100 Continue`.
    Aside,
}

/// Takes the bytes of a connection apart into messages. What is too short to be told yet it keeps.
pub trait Tracer: Send {
    fn up(&mut self, bytes: &[u8]) -> Vec<Piece>;
    fn down(&mut self, bytes: &[u8]) -> Vec<Piece>;
    /// The server will not see the newest request, so it has no answer from there.
    fn forget_newest(&mut self) {}
}

/// Of a protocol that nobody aims at.
struct Untraced;

impl Tracer for Untraced {
    fn up(&mut self, bytes: &[u8]) -> Vec<Piece> {
        vec![Piece { bytes: Bytes::copy_from_slice(bytes), begins: Begins::Nothing, ends: false }]
    }

    fn down(&mut self, bytes: &[u8]) -> Vec<Piece> {
        self.up(bytes)
    }
}

/// How a connection ends before both sides have closed it.
enum End {
    Cut,
    /// The client is cut, the server gets this request later.
    Held {
        id: u64,
        request: Vec<u8>,
    },
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Up,
    Down,
}

pub async fn connection(shared: Arc<Shared>, mut client: TcpStream) {
    let mut rule = shared.rule.subscribe();
    if rule.wait_for(|(_, rule)| *rule != Rule::Stall).await.is_err() {
        return;
    }
    let Ok(mut server) = TcpStream::connect(&shared.upstream).await else {
        reset(&client);
        return;
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let tracer: Box<dyn Tracer> = match shared.protocol {
        Protocol::Http => Box::new(http::Http::default()),
        Protocol::HadoopRpc => Box::new(hadoop::HadoopRpc::default()),
        Protocol::Bytes => Box::new(Untraced),
    };
    let link = Link { shared: &shared, tracer: Mutex::new(tracer), lost: Mutex::default(), last: Mutex::new(None) };
    let end = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let to_client = AsyncMutex::new(to_client);
        tokio::select! {
            end = link.up(from_client, to_server, &to_client) => end,
            end = link.down(from_server, &to_client) => end,
            () = shared.cut.notified() => Err(End::Cut),
            _ = rule.wait_for(|(_, rule)| *rule == Rule::Refuse) => Err(End::Cut),
        }
    };
    match end {
        Ok(()) => {}
        Err(End::Cut) => {
            reset(&client);
            reset(&server);
        }
        Err(End::Held { id, request }) => {
            let released = shared.release.notified();
            shared.note(|book| {
                book.held += 1;
                book.hits += 1;
            });
            reset(&client);
            drop(client);
            released.await;
            let status = link.land(&mut server, id, &request).await.unwrap_or_else(|| "the server closed".into());
            shared.note(|book| book.landed.push(status));
        }
    }
}

/// Lets the peer see a reset instead of an orderly end.
fn reset(stream: &TcpStream) {
    let _ = stream.set_zero_linger();
}

struct Link<'a> {
    shared: &'a Shared,
    tracer: Mutex<Box<dyn Tracer>>,
    /// Requests whose answers are to be lost.
    lost: Mutex<BTreeSet<u64>>,
    /// Who spoke last.
    last: Mutex<Option<Direction>>,
}

type Client<'a> = AsyncMutex<WriteHalf<'a>>;

impl Link<'_> {
    async fn up(&self, mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, client: &Client<'_>) -> Result<(), End> {
        let mut shape = Shape::new(self.shared, Direction::Up);
        let mut buffer = vec![0; CHUNK];
        // What becomes of the request that is passing, its id, and what is held of it.
        let (mut effect, mut current, mut held) = (None, 0, Vec::new());
        loop {
            let count = from.read(&mut buffer).await.map_err(|_| End::Cut)?;
            if count == 0 {
                let _ = to.shutdown().await;
                return std::future::pending().await; // the other direction ends the connection
            }
            let pieces = self.tracer.lock().up(&buffer[..count]);
            for piece in pieces {
                if let Begins::Request { id, name, path } = &piece.begins {
                    effect = self.shared.meet(name, path, &piece.bytes);
                    current = *id;
                    if let Some(Effect::LoseAnswer) = effect {
                        self.lost.lock().insert(current);
                    }
                }
                match &effect {
                    None | Some(Effect::LoseAnswer) => self.pass(&mut shape, &piece.bytes, &mut to).await?,
                    Some(Effect::Hold) => held.extend_from_slice(&piece.bytes),
                    Some(Effect::LoseRequest | Effect::Answer(_)) => {}
                }
                if !piece.ends {
                    continue;
                }
                match effect.take() {
                    Some(Effect::LoseRequest) => {
                        self.shared.note(|book| book.hits += 1);
                        return Err(End::Cut);
                    }
                    Some(Effect::Hold) => return Err(End::Held { id: current, request: held }),
                    Some(Effect::Answer(answer)) => {
                        self.tracer.lock().forget_newest();
                        client.lock().await.write_all(answer.as_bytes()).await.map_err(|_| End::Cut)?;
                        self.shared.note(|book| book.hits += 1);
                    }
                    None | Some(Effect::LoseAnswer) => {}
                }
            }
        }
    }

    async fn down(&self, mut from: ReadHalf<'_>, client: &Client<'_>) -> Result<(), End> {
        let mut shape = Shape::new(self.shared, Direction::Down);
        let mut buffer = vec![0; CHUNK];
        let mut swallow = false;
        loop {
            let count = from.read(&mut buffer).await.map_err(|_| End::Cut)?;
            if count == 0 {
                if swallow {
                    self.shared.note(|book| book.hits += 1);
                    return Err(End::Cut);
                }
                let _ = client.lock().await.shutdown().await;
                return Ok(());
            }
            let pieces = self.tracer.lock().down(&buffer[..count]);
            for piece in pieces {
                match &piece.begins {
                    Begins::Answer { id, .. } => swallow = self.lost.lock().remove(id),
                    Begins::Aside => swallow = false,
                    Begins::Nothing | Begins::Request { .. } => {}
                }
                if !swallow {
                    self.pass(&mut shape, &piece.bytes, &mut *client.lock().await).await?;
                } else if piece.ends {
                    self.shared.note(|book| book.hits += 1);
                    return Err(End::Cut);
                }
            }
        }
    }

    /// Passes bytes on as the rule of the moment has it.
    async fn pass(
        &self,
        shape: &mut Shape<'_>,
        mut bytes: &[u8],
        to: &mut (impl AsyncWrite + Unpin),
    ) -> Result<(), End> {
        while !bytes.is_empty() {
            let rule = shape.rule().await;
            let turned = self.last.lock().replace(shape.direction) != Some(shape.direction);
            let count = match rule {
                Rule::Delay(delay) if turned => {
                    tokio::time::sleep(delay).await;
                    bytes.len()
                }
                Rule::Rate { bytes_per_second } => {
                    tokio::time::sleep(RATE_SLICE).await;
                    let slice = bytes_per_second as f64 * RATE_SLICE.as_secs_f64();
                    bytes.len().min((slice as usize).max(1))
                }
                Rule::CutUp { after, .. } if shape.direction == Direction::Up => shape.before_cut(after, bytes.len()),
                Rule::CutDown { after, .. } if shape.direction == Direction::Down => {
                    shape.before_cut(after, bytes.len())
                }
                _ => bytes.len(),
            };
            if count == 0 {
                self.shared.note(|book| book.cuts += 1);
                return Err(End::Cut);
            }
            to.write_all(&bytes[..count]).await.map_err(|_| End::Cut)?;
            shape.passed += count as u64;
            bytes = &bytes[count..];
        }
        Ok(())
    }

    /// Sends a request that was held, and answers the status of its answer.
    async fn land(&self, server: &mut TcpStream, id: u64, request: &[u8]) -> Option<String> {
        server.write_all(request).await.ok()?;
        let mut buffer = vec![0; CHUNK];
        let mut found = None;
        loop {
            let count = server.read(&mut buffer).await.ok().filter(|count| *count > 0)?;
            for piece in self.tracer.lock().down(&buffer[..count]) {
                if let Begins::Answer { id: answered, status } = piece.begins
                    && answered == id
                {
                    found = Some(status);
                }
                if piece.ends && found.is_some() {
                    return found;
                }
            }
        }
    }
}

/// One direction's count under the rule of the moment.
struct Shape<'a> {
    shared: &'a Shared,
    rule: watch::Receiver<(u64, Rule)>,
    direction: Direction,
    number: u64,
    passed: u64,
}

impl<'a> Shape<'a> {
    fn new(shared: &'a Shared, direction: Direction) -> Self {
        Self { shared, rule: shared.rule.subscribe(), direction, number: 0, passed: 0 }
    }

    /// The rule, once it lets anything pass.
    async fn rule(&mut self) -> Rule {
        let found = self.rule.wait_for(|(_, rule)| *rule != Rule::Stall).await.map(|found| *found);
        let Ok((number, rule)) = found else {
            return std::future::pending().await; // the proxy ends
        };
        if number != self.number {
            (self.number, self.passed) = (number, 0);
        }
        rule
    }

    /// How many of the next bytes pass before the cut: none if it is now.
    fn before_cut(&self, after: u64, next: usize) -> usize {
        let left = after.saturating_sub(self.passed);
        if left == 0 && !self.shared.take_cut() {
            return next;
        }
        next.min(usize::try_from(left).unwrap_or(usize::MAX))
    }
}
