//! The connection to the manager, on a thread of its own.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};
use tonic::Streaming;

use super::handle::{News, Order, Progress};
use super::{LEFT_EXIT_CODE, Leaving, WorkerOptions};
use crate::env::{Env, TokioRuntime};
use crate::error::{Error, ErrorKind, Result};
use crate::job::launch::LaunchOrder;
use crate::job::wire::rpc::{Client, from_status};
use crate::job::wire::{Deployment, Pass, Say, Tell};

/// Words to the manager that may wait for the network.
const MAX_WAITING_WORDS: usize = 16;
/// Words that news take at most.
const MAX_NEWS_WORDS: usize = 4;
/// The pause between two attempts to reach the manager at the start.
const CONNECT_PAUSE: Duration = Duration::from_millis(200);

/// Why a worker leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Over {
    /// `None`: the job came to its end.
    pub(super) kind: Option<ErrorKind>,
    pub(super) why: String,
}

impl Over {
    pub(super) fn left(kind: ErrorKind, why: impl Into<String>) -> Self {
        Self { kind: Some(kind), why: why.into() }
    }
}

impl From<Error> for Over {
    fn from(error: Error) -> Self {
        Self::left(error.kind(), error.to_string())
    }
}

/// What the workload's handle needs of the connection.
pub(super) struct Linked {
    pub(super) pass: Pass,
    pub(super) client: Client,
}

pub(super) struct Link {
    pub(super) order: LaunchOrder,
    pub(super) options: WorkerOptions,
    pub(super) env: Env,
    pub(super) progress: Arc<Progress>,
    pub(super) orders: mpsc::Sender<Order>,
    pub(super) deploy: Option<oneshot::Sender<(Deployment, Linked)>>,
    pub(super) reports: mpsc::Receiver<Say>,
    pub(super) over: watch::Sender<Option<Over>>,
}

impl Link {
    /// Runs the connection on the calling thread until it is over.
    pub(super) fn run(mut self) {
        let over = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime.block_on(async {
                match TokioRuntime::current() {
                    // The workload's runtime may be busy: the connection's times are kept by this one.
                    Ok(own) => self.env.runtime = Arc::new(own),
                    Err(error) => return error.into(),
                }
                self.hold().await
            }),
            Err(error) => Error::io("run a worker", "the connection's thread", error).into(),
        };
        tracing::info!(worker = self.order.pass.worker, why = over.why, "the worker leaves");
        let code = if over.kind.is_none() { 0 } else { LEFT_EXIT_CODE };
        if self.options.leaving == Leaving::ExitProcess {
            // Before anybody else hears of it, and ends the process in another way; and without destructors, which would take
            // away what other threads still use (RocksDB's tables of options: a segmentation fault instead of the code).
            signal_hook::low_level::exit(code);
        }
        self.over.send_replace(Some(over));
    }

    /// Connects, registers, and holds the connection.
    async fn hold(&mut self) -> Over {
        let (client, said, told) = match self.register().await {
            Ok(registered) => registered,
            Err(error) => return error.into(),
        };
        self.keep(&client, said, told).await
    }

    async fn register(&mut self) -> Result<(Client, mpsc::Sender<Bytes>, Streaming<Bytes>)> {
        let client = self.connect().await?;
        let (said, words) = mpsc::channel::<Bytes>(MAX_WAITING_WORDS);
        let register = Say::Register {
            pass: self.order.pass,
            name: self.options.name.clone(),
            data_address: self.options.data_address.clone(),
        };
        // The queue is empty.
        let _ = said.try_send(register.encode());
        let words =
            futures::stream::unfold(words, |mut words| async move { words.recv().await.map(|next| (next, words)) });
        let gone = self.env.runtime.sleep(self.order.heartbeat.timeout);
        let told = tokio::select! {
            told = client.work(words) => told?,
            () = gone => return Err(self.gone("it does not answer")),
        };
        Ok((client, said, told))
    }

    /// Until the manager answers, for no longer than it may be silent later.
    async fn connect(&self) -> Result<Client> {
        let begin = self.env.clock.monotonic();
        loop {
            match Client::connect(&self.order.manager).await {
                Ok(client) => return Ok(client),
                Err(error) if error.kind() != ErrorKind::Unreachable => return Err(error),
                Err(error) if self.env.clock.monotonic().saturating_sub(begin) >= self.order.heartbeat.timeout => {
                    return Err(error);
                }
                Err(_) => self.env.runtime.sleep(CONNECT_PAUSE).await,
            }
        }
    }

    fn gone(&self, why: &str) -> Error {
        let message = format!("{why} for {:.1} s", self.order.heartbeat.timeout.as_secs_f64());
        Error::new(ErrorKind::Unreachable, "hear the job manager", message).with_object(&self.order.manager)
    }

    async fn keep(&mut self, client: &Client, said: mpsc::Sender<Bytes>, mut told: Streaming<Bytes>) -> Over {
        let (interval, timeout) = (self.order.heartbeat.interval, self.order.heartbeat.timeout);
        let mut heard_at = self.env.clock.monotonic();
        let mut next_beat = heard_at;
        let (mut news, mut told_news) = (self.progress.news(), News::default());
        loop {
            let now = self.env.clock.monotonic();
            if now >= next_beat {
                let generation = self.order.pass.generation;
                let heartbeat = Say::Heartbeat { generation, heartbeat: self.progress.heartbeat() };
                // If the network takes no more, the manager's answers stay away, too.
                let _ = said.try_send(heartbeat.encode());
                next_beat = now.saturating_add(interval);
            }
            let wake = next_beat.min(heard_at.saturating_add(timeout)).saturating_sub(now);
            tokio::select! {
                word = told.message() => {
                    heard_at = self.env.clock.monotonic();
                    if let Err(over) = self.take(word.map_err(|status| from_status(&status)), client) {
                        return over;
                    }
                }
                report = self.reports.recv() => match report {
                    Some(report) => {
                        // It comes behind what there was to say before.
                        let now = *news.borrow_and_update();
                        for word in words_of(told_news, now) {
                            let _ = said.try_send(word.encode());
                        }
                        told_news = now;
                        // A queue that is full of heartbeats is a manager that reads nothing.
                        if said.try_send(report.encode()).is_err() {
                            return Over::left(ErrorKind::Temporary, "the connection to the job manager takes no more");
                        }
                    }
                    None => return Over::left(ErrorKind::Cancelled, "the worker was dropped"),
                },
                room = said.reserve_many(MAX_NEWS_WORDS), if *news.borrow() != told_news => {
                    let now = *news.borrow_and_update();
                    let words = room.into_iter().flatten();
                    words.zip(words_of(told_news, now)).for_each(|(room, word)| room.send(word.encode()));
                    told_news = now;
                }
                // The sender lives as long as this.
                _ = news.changed() => {}
                () = self.env.runtime.sleep(wake) => {
                    // Looked at only when nothing waits to be read: after a pause of this process, what came meanwhile counts.
                    if self.env.clock.monotonic().saturating_sub(heard_at) >= timeout {
                        return self.gone("it says nothing").into();
                    }
                }
            }
        }
    }

    fn take(&mut self, word: Result<Option<Bytes>>, client: &Client) -> Result<(), Over> {
        let Some(bytes) = word? else {
            return Err(Over::left(ErrorKind::Fenced, "the job manager closed the connection"));
        };
        let order = match Tell::decode(&bytes)? {
            Tell::Heard => return Ok(()),
            Tell::Leave { is_end: true, why } => return Err(Over { kind: None, why }),
            Tell::Leave { why, .. } => return Err(Over::left(ErrorKind::Fenced, format!("told to leave: {why}"))),
            Tell::Deploy(deployment) => return self.deployed(deployment, client),
            Tell::Trigger { trigger, ends_epoch } => Order::Trigger { trigger, ends_epoch },
            Tell::Epochs(epochs) => Order::Epochs(epochs),
            Tell::Pause => Order::Pause,
            Tell::Close => Order::Close,
            Tell::Complete(folder) => Order::Complete(folder),
            Tell::SavepointComplete(folder) => Order::SavepointComplete(folder),
            Tell::Aborted { checkpoint, reason } => Order::Aborted { checkpoint, reason },
        };
        match self.orders.try_send(order) {
            // Closed: the workload has returned, and needs no more of them.
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
            Err(mpsc::error::TrySendError::Full(_)) => {
                Err(Over::left(ErrorKind::LimitExceeded, "the workload takes no orders"))
            }
        }
    }

    fn deployed(&mut self, deployment: Deployment, client: &Client) -> Result<(), Over> {
        let pass = self.order.pass;
        if (deployment.generation, deployment.worker) != (pass.generation, pass.worker) {
            return Err(Over::left(ErrorKind::Corrupt, "the deployment is another worker's"));
        }
        let Some(deploy) = self.deploy.take() else {
            return Err(Over::left(ErrorKind::Corrupt, "there was a deployment already"));
        };
        // The worker was dropped meanwhile: the next report says so.
        let _ = deploy.send((deployment, Linked { pass, client: client.clone() }));
        Ok(())
    }
}

/// What is new since the last time.
fn words_of(told: News, now: News) -> impl Iterator<Item = Say> {
    let restored = now.restored.filter(|_| told.restored.is_none()).map(Say::Restored);
    let resumed = (now.has_resumed && !told.has_resumed).then_some(Say::Resumed);
    let epoch = (now.epoch > told.epoch).then_some(Say::Epoch(now.epoch));
    let drained = (now.is_drained && !told.is_drained).then_some(Say::Drained);
    restored.into_iter().chain(resumed).chain(epoch).chain(drained)
}
