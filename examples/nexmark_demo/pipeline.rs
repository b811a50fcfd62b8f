//! Subtasks as threads, events routed to them by key group, and barriers between the events.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use icecore::keygroup::MaxParallelism;
use icecore::snapshot::Trigger;
use icecore::state::KeyedBackend;
use icecore::state::typed::KeyContext;
use icecore::{Error, ErrorKind, Result};
use nexmark::event::Event;

use crate::dump::dump_rows;
use crate::operators::{AuctionEvent, Auctions, Operator, People, PersonEvent};
use crate::source::Batch;

/// Key groups of both operators, for the whole life of the job.
pub const KEY_GROUPS: u32 = 128;
/// Batches that wait before a subtask. Few, so that a barrier is soon through.
const QUEUED_BATCHES: usize = 4;

enum Message<E> {
    Events(Vec<E>, i64),
    /// Cuts the stream: what came before is in the checkpoint, what comes after is not.
    Barrier(Trigger),
}

/// All subtasks of one operator.
pub struct Subtasks<O: Operator> {
    key_groups: MaxParallelism,
    senders: Vec<SyncSender<Message<O::Event>>>,
    threads: Vec<JoinHandle<Result<()>>>,
}

impl<O: Operator + 'static> Subtasks<O> {
    pub fn new() -> Result<Self> {
        Ok(Self { key_groups: MaxParallelism::new(KEY_GROUPS)?, senders: Vec::new(), threads: Vec::new() })
    }

    /// Starts the next subtask, with `backend` as its state. `on_barrier` takes its part of a
    /// checkpoint. When the stream ends it writes its rows into the folder `dump`.
    pub fn start<B: KeyedBackend + 'static>(
        &mut self,
        backend: B,
        dump: PathBuf,
        on_barrier: impl FnMut(&mut B, Trigger) -> Result<()> + Send + 'static,
    ) -> Result<()> {
        let (sender, receiver) = sync_channel(QUEUED_BATCHES);
        let index = self.senders.len();
        let thread = std::thread::Builder::new()
            .name(format!("{}-{index}", O::NAME))
            .spawn(move || {
                let mut backend = run_subtask::<O, B>(backend, receiver, on_barrier)?;
                dump_rows(&mut backend, &dump, O::NAME, index)
            })
            .map_err(|error| Error::io("start a subtask", O::NAME, error))?;
        self.senders.push(sender);
        self.threads.push(thread);
        Ok(())
    }

    fn send(&mut self, events: Vec<O::Event>, watermark_ms: i64) -> Result<()> {
        let parallelism = self.senders.len() as u32;
        let mut parts: Vec<Vec<O::Event>> = self.senders.iter().map(|_| Vec::new()).collect();
        for event in events {
            let group = self.key_groups.key_group_of(&O::key(&event));
            parts[self.key_groups.subtask_of_group(group, parallelism)? as usize].push(event);
        }
        for (subtask, part) in parts.into_iter().enumerate() {
            self.deliver(subtask, Message::Events(part, watermark_ms))?;
        }
        Ok(())
    }

    fn barrier(&mut self, trigger: &Trigger) -> Result<()> {
        (0..self.senders.len()).try_for_each(|subtask| self.deliver(subtask, Message::Barrier(trigger.clone())))
    }

    fn deliver(&mut self, subtask: usize, message: Message<O::Event>) -> Result<()> {
        if self.senders[subtask].send(message).is_ok() {
            return Ok(());
        }
        // It hung up, so it has failed, and says why.
        self.senders.clear();
        self.join()?;
        Err(Error::new(ErrorKind::Internal, "run a subtask", "it ended before its input").with_object(O::NAME))
    }

    fn join(&mut self) -> Result<()> {
        for thread in self.threads.drain(..) {
            let panicked = |_| Error::new(ErrorKind::Internal, "run a subtask", "it panicked").with_object(O::NAME);
            thread.join().map_err(panicked)??;
        }
        Ok(())
    }
}

fn run_subtask<O: Operator, B: KeyedBackend>(
    backend: B,
    messages: Receiver<Message<O::Event>>,
    mut on_barrier: impl FnMut(&mut B, Trigger) -> Result<()>,
) -> Result<B> {
    let mut context = KeyContext::new(backend);
    let mut operator = O::open(&mut context)?;
    for message in messages {
        match message {
            Message::Barrier(trigger) => on_barrier(context.backend_mut(), trigger)?,
            Message::Events(events, watermark_ms) => {
                for event in events {
                    context.set_current_key(&O::key(&event))?;
                    operator.process(&mut context, event)?;
                }
                operator.advance(&mut context, watermark_ms)?;
            }
        }
    }
    Ok(context.into_backend())
}

/// The job's stateful part.
pub struct Pipeline {
    pub auctions: Subtasks<Auctions>,
    pub people: Subtasks<People>,
}

impl Pipeline {
    /// Sends events where their keys live.
    pub fn feed(&mut self, batch: Batch) -> Result<()> {
        let (mut auctions, mut people) = (Vec::new(), Vec::new());
        for event in batch.events {
            match event {
                Event::Person(person) => people.push(PersonEvent::Registered(Box::new(person))),
                Event::Auction(auction) => {
                    let (seller, category) = (auction.seller as u64, auction.category as u64);
                    people.push(PersonEvent::Opened { seller, auction: auction.id as u64, category });
                    auctions.push(AuctionEvent::Opened(Box::new(auction)));
                }
                Event::Bid(bid) => {
                    let (bidder, channel, price) = (bid.bidder as u64, bid.channel.clone(), bid.price as u64);
                    people.push(PersonEvent::Bid { bidder, channel, price });
                    auctions.push(AuctionEvent::Bid(bid));
                }
            }
        }
        self.auctions.send(auctions, batch.watermark_ms)?;
        self.people.send(people, batch.watermark_ms)
    }

    /// Sends a checkpoint's barrier behind everything fed so far.
    pub fn barrier(&mut self, trigger: &Trigger) -> Result<()> {
        self.auctions.barrier(trigger)?;
        self.people.barrier(trigger)
    }

    /// Ends the stream and waits for every subtask.
    pub fn finish(mut self) -> Result<()> {
        self.auctions.senders.clear();
        self.people.senders.clear();
        self.auctions.join()?;
        self.people.join()
    }
}
