//! What commands ask of a running coordinator (M1 of `docs/protocol.md`), and how it answers.
//!
//! A request's argument is a line of words; [`Wish`] is its meaning. A coordinator that serves
//! requests lets `icecore gc`, `drop`, `retain`, `pin`, `unpin` and `repair` work beside it without taking the
//! job over.

use std::fmt;
use std::pin::pin;
use std::str::FromStr;
use std::time::Duration;

use futures::future::{Either, select};

use super::core::Coordinator;
use super::retention::RetentionPolicy;
use crate::error::{Error, ErrorKind, Result};
use crate::gc::{GcPlan, GcReport, SweepScope};
use crate::layout::{CheckpointFolder, SharedName};
use crate::metadata::limits::MAX_CONTROL_TEXT_BYTES;
use crate::metadata::{Outcome, Request, RequestKind};

/// The most checkpoints that one request names: what fits its argument.
pub const MAX_REQUESTED_CHECKPOINTS: usize = 256;
/// The most objects that one request names: what fits its argument.
pub const MAX_REQUESTED_OBJECTS: usize = 64;
/// The most requests that lie there done with, and long enough for their askers to read the answers,
/// before [`Coordinator::serve_requests`] sweeps the job's records.
pub const MAX_DONE_REQUESTS: usize = 1_000;
/// How often an owner that is at a request looks for those who ask whether it is alive, in milliseconds.
const PING_INTERVAL_MS: u64 = 1_000;
/// What a living owner answers to [`Wish::Ping`].
const ALIVE: &str = "alive";
/// An unfinished upload of this age is no task's that goes on. Politeness only: a writer whose upload is removed all the
/// same fails to finish it.
const UNFINISHED_AGE: Duration = Duration::from_hours(24);

/// What is asked of the owner.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Wish {
    /// Remove what nothing references. The argument is `records` or `everything`.
    Gc(SweepScope),
    /// Say that you are alive, and change nothing. A [`RequestKind::Gc`] with the argument `nothing`.
    Ping,
    /// Drop checkpoints. The argument is the names of their folders.
    Drop(Vec<CheckpointFolder>),
    /// Apply a policy once. The argument is `last=<n> hourly=<n> daily=<n> weekly=<n>`.
    Retain(RetentionPolicy),
    /// Pin a checkpoint. The argument is its folder's name and, after a blank, the reason.
    Pin(CheckpointFolder, String),
    /// Remove the pins of a checkpoint. The argument is its folder's name.
    Unpin(CheckpointFolder),
    /// Give up a checkpoint whose index cannot be read. The argument is its folder's name.
    Repair(CheckpointFolder),
    /// Share damaged objects no more. The argument is their names.
    Distrust(Vec<SharedName>),
}

impl Wish {
    /// The request's kind.
    pub fn kind(&self) -> RequestKind {
        match self {
            Self::Gc(_) | Self::Ping => RequestKind::Gc,
            Self::Drop(_) => RequestKind::Drop,
            Self::Retain(_) => RequestKind::Retain,
            Self::Pin(..) => RequestKind::Pin,
            Self::Unpin(_) => RequestKind::Unpin,
            Self::Repair(_) => RequestKind::Repair,
            Self::Distrust(_) => RequestKind::Distrust,
        }
    }

    /// Reads a request.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for a kind that no coordinator serves; [`ErrorKind::InvalidInput`] for
    /// an argument of another form.
    pub fn parse(kind: RequestKind, argument: &str) -> Result<Self> {
        let fail = || Error::invalid("read a request", "its argument is not in the form icecore writes");
        match kind {
            RequestKind::Gc => match argument {
                "records" => Ok(Self::Gc(SweepScope::Records)),
                "" | "everything" => Ok(Self::Gc(SweepScope::Everything)),
                "nothing" => Ok(Self::Ping),
                _ => Err(fail()),
            },
            RequestKind::Drop => parse_names(argument, MAX_REQUESTED_CHECKPOINTS, "checkpoints").map(Self::Drop),
            RequestKind::Distrust => parse_names(argument, MAX_REQUESTED_OBJECTS, "objects").map(Self::Distrust),
            RequestKind::Retain => parse_policy(argument).map(Self::Retain).ok_or_else(fail),
            RequestKind::Pin => {
                let (folder, reason) = argument.split_once(' ').ok_or_else(fail)?;
                Ok(Self::Pin(folder.parse()?, reason.to_owned()))
            }
            RequestKind::Unpin => Ok(Self::Unpin(argument.parse()?)),
            RequestKind::Repair => Ok(Self::Repair(argument.parse()?)),
            RequestKind::Fork | RequestKind::Savepoint => {
                Err(Error::new(ErrorKind::Unsupported, "read a request", "this owner does not do that"))
            }
        }
    }
}

/// The argument.
impl fmt::Display for Wish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gc(SweepScope::Records) => f.write_str("records"),
            Self::Gc(SweepScope::Everything) => f.write_str("everything"),
            Self::Ping => f.write_str("nothing"),
            Self::Drop(folders) => write_names(f, folders),
            Self::Distrust(objects) => write_names(f, objects),
            Self::Retain(RetentionPolicy { last, hourly, daily, weekly }) => {
                write!(f, "last={last} hourly={hourly} daily={daily} weekly={weekly}")
            }
            Self::Pin(folder, reason) => write!(f, "{folder} {reason}"),
            Self::Unpin(folder) | Self::Repair(folder) => write!(f, "{folder}"),
        }
    }
}

fn parse_names<T: FromStr<Err = Error>>(argument: &str, most: usize, what: &str) -> Result<Vec<T>> {
    let words: Vec<&str> = argument.split(' ').take(most + 1).collect();
    if words.len() > most {
        let message = format!("it names more than {most} {what}");
        return Err(Error::new(ErrorKind::LimitExceeded, "read a request", message));
    }
    words.into_iter().map(T::from_str).collect()
}

fn write_names(f: &mut fmt::Formatter<'_>, names: &[impl ToString]) -> fmt::Result {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    f.write_str(&names.join(" "))
}

fn parse_policy(argument: &str) -> Option<RetentionPolicy> {
    let mut policy = RetentionPolicy { last: 0, hourly: 0, daily: 0, weekly: 0 };
    for word in argument.split(' ') {
        let (name, number) = word.split_once('=')?;
        let number = number.parse().ok()?;
        match name {
            "last" => policy.last = number,
            "hourly" => policy.hourly = number,
            "daily" => policy.daily = number,
            "weekly" => policy.weekly = number,
            _ => return None,
        }
    }
    Some(policy)
}

impl Coordinator {
    /// Does what commands asked of this coordinator since the last call, and answers them. Call it
    /// often, from one task. Returns how many were answered.
    ///
    /// What cannot be done is refused in the answer and is no error here.
    ///
    /// # Errors
    /// The tenure's end; what the store says of listing the requests or of writing an answer. The
    /// requests that are not answered yet are met by the next call.
    pub async fn serve_requests(&self) -> Result<usize> {
        self.tenure.check()?;
        let requests = self.inbox.pending(&self.tenure).await?;
        for request in &requests {
            let outcome = match self.inbox.decided(request.uid) {
                Some(outcome) => outcome,
                None if self.inbox.is_answered(request.uid) => continue,
                None => self.decide_alive(request).await?,
            };
            self.inbox.answer(&self.tenure, request.uid, outcome).await?;
        }
        if !requests.is_empty() {
            self.remove_done().await?;
        }
        Ok(requests.len())
    }

    /// Carries a request out, and meanwhile tells those who ask that this owner is alive: what takes long is
    /// no reason to fence it.
    async fn decide_alive(&self, request: &Request) -> Result<Outcome> {
        let mut work = pin!(self.decide(request));
        loop {
            let pause = self.env.runtime.sleep(Duration::from_millis(PING_INTERVAL_MS));
            match select(work, pause).await {
                Either::Left((outcome, _)) => return outcome,
                Either::Right((_, going_on)) => work = going_on,
            }
            if let Err(error) = self.answer_pings().await {
                // The work finds out by itself whether the tenure is over.
                tracing::debug!(%error, "could not tell that this owner is alive; it tries again");
            }
        }
    }

    async fn answer_pings(&self) -> Result<()> {
        for request in self.inbox.pending(&self.tenure).await? {
            if Wish::parse(request.kind, &request.argument).is_ok_and(|wish| wish == Wish::Ping) {
                self.inbox.answer(&self.tenure, request.uid, Outcome::Done(ALIVE.to_owned())).await?;
            }
        }
        Ok(())
    }

    /// Carries a request out, and remembers what became of it: the answer may need several attempts.
    async fn decide(&self, request: &Request) -> Result<Outcome> {
        let outcome = match self.grant(request).await {
            Ok(text) => Outcome::Done(text),
            // A tenure that is over has nothing to answer: its asker finds out by the claims.
            Err(error) => match self.tenure.check() {
                Ok(()) => Outcome::Refused(error.to_string()),
                Err(over) => return Err(over),
            },
        };
        tracing::info!(job = %self.layout.job(), kind = ?request.kind, ?outcome, "request");
        let outcome = bounded(outcome);
        self.inbox.decide(request.uid, outcome.clone());
        Ok(outcome)
    }

    /// Removes requests that are done with, if they are many: a job that nobody sweeps would gather
    /// them until they can be listed no more.
    async fn remove_done(&self) -> Result<()> {
        // Each is a request and its answer.
        if self.inbox.done(&self.tenure)?.len() <= 2 * MAX_DONE_REQUESTS {
            return Ok(());
        }
        match self.collect(SweepScope::Records, false).await {
            Ok(_) => Ok(()),
            Err(error) => {
                tracing::warn!(%error, "could not remove requests that are done; a later call does");
                self.tenure.check()
            }
        }
    }

    async fn grant(&self, request: &Request) -> Result<String> {
        match Wish::parse(request.kind, &request.argument)? {
            Wish::Ping => Ok(ALIVE.to_owned()),
            Wish::Gc(scope) => {
                let (_, report) = self.collect(scope, false).await?;
                match scope {
                    SweepScope::Everything => Ok(format!("{report}; {}", self.remove_unfinished().await)),
                    _ => Ok(report.to_string()),
                }
            }
            Wish::Drop(folders) => {
                let drops: Vec<_> = folders.into_iter().map(|folder| (folder, "asked for".to_owned())).collect();
                let (plan, report) = self.drop_checkpoints(&drops, false).await?;
                told(&plan, &report)
            }
            Wish::Repair(folder) => {
                let (plan, report) = self.repair(folder).await?;
                told(&plan, &report)
            }
            Wish::Distrust(objects) => self.distrust(&objects, "a request says so").await.map(|done| done.to_string()),
            Wish::Retain(policy) => {
                let (_, plan, report) = self.apply_retention(policy, false).await?;
                told(&plan, &report)
            }
            Wish::Pin(folder, reason) => self.pin(folder, &reason).await.map(|name| format!("pinned as {name}")),
            Wish::Unpin(folder) => self.unpin(folder).await.map(|count| format!("{count} pins removed")),
        }
    }

    /// Frees what crashed writers left of objects. The job's tasks are writing, too: theirs are young.
    pub(crate) async fn remove_unfinished(&self) -> String {
        match self.store.remove_unfinished(Some(self.layout.root()), UNFINISHED_AGE).await {
            Ok(removed) => format!("{removed} unfinished uploads removed"),
            Err(error) => {
                tracing::warn!(%error, "could not remove unfinished uploads");
                format!("unfinished uploads were not removed: {}", error.message())
            }
        }
    }
}

/// What a drop did, in a few lines. If all that was asked for was refused, that is a refusal.
fn told(plan: &GcPlan, report: &GcReport) -> Result<String> {
    let refused: Vec<String> =
        plan.refused.iter().map(|refused| format!("{}: {}", refused.folder, refused.why)).collect();
    if plan.dropped.is_empty() && !refused.is_empty() {
        return Err(Error::new(ErrorKind::Blocked, "drop checkpoints", refused.join("; ")));
    }
    let mut text = format!("{} checkpoints dropped; {report}", plan.dropped.len());
    for refused in refused {
        text += &format!("\nkept {refused}");
    }
    Ok(text)
}

/// An answer that fits its record.
fn bounded(outcome: Outcome) -> Outcome {
    let cut = |mut text: String| {
        let end = (0..=MAX_CONTROL_TEXT_BYTES.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or(0));
        text
    };
    match outcome {
        Outcome::Done(text) => Outcome::Done(cut(text)),
        Outcome::Refused(text) => Outcome::Refused(cut(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::{CheckpointId, ContentHash, Epoch, FileKind, Tag, Uid};

    fn shared(epoch: Epoch, upload: u64) -> SharedName {
        let tag =
            Tag { epoch, generation: epoch.counter, checkpoint: CheckpointId(epoch.counter), upload: Uid(upload) };
        SharedName { hash: ContentHash::of(b"x"), tag, kind: FileKind::Manifest }
    }

    #[test]
    fn as_many_objects_as_a_request_may_name_fit_it() {
        let longest = shared(Epoch { counter: u64::MAX, uid: Uid(u64::MAX) }, u64::MAX);
        let wish = Wish::Distrust(vec![longest; MAX_REQUESTED_OBJECTS]);
        assert!(wish.to_string().len() <= MAX_CONTROL_TEXT_BYTES);
    }

    #[test]
    fn a_wish_reads_back_from_its_request() {
        let epoch = Epoch { counter: 2, uid: Uid(7) };
        let folder = |id| CheckpointFolder { checkpoint: CheckpointId(id), epoch };
        let object = |upload| shared(epoch, upload);
        let wishes = [
            Wish::Gc(SweepScope::Records),
            Wish::Gc(SweepScope::Everything),
            Wish::Ping,
            Wish::Drop(vec![folder(1), folder(2)]),
            Wish::Retain(RetentionPolicy { last: 1, hourly: 2, daily: 3, weekly: 4 }),
            Wish::Pin(folder(3), "before the upgrade".to_owned()),
            Wish::Unpin(folder(3)),
            Wish::Repair(folder(3)),
            Wish::Distrust(vec![object(1), object(2)]),
        ];
        for wish in wishes {
            assert_eq!(Wish::parse(wish.kind(), &wish.to_string()).unwrap(), wish);
        }
    }

    #[test]
    fn a_hostile_argument_is_refused() {
        let many = vec!["cp-1.1-0000000000000001"; MAX_REQUESTED_CHECKPOINTS + 1].join(" ");
        let hostile = [
            (RequestKind::Gc, "all of it"),
            (RequestKind::Drop, ""),
            (RequestKind::Drop, "../cp-1"),
            (RequestKind::Drop, many.as_str()),
            (RequestKind::Retain, ""),
            (RequestKind::Retain, "last=-1"),
            (RequestKind::Retain, "first=1"),
            (RequestKind::Pin, "cp-1.1-0000000000000001"),
            (RequestKind::Unpin, "1"),
            (RequestKind::Repair, "1"),
            (RequestKind::Distrust, ""),
            (RequestKind::Distrust, "000012.sst"),
            (RequestKind::Distrust, "job-a/shared/x"),
        ];
        for (kind, argument) in hostile {
            assert!(Wish::parse(kind, argument).is_err(), "{kind:?} {argument:?} was taken");
        }
    }

    #[test]
    fn an_answer_fits_its_record_and_is_cut_between_characters() {
        let Outcome::Done(text) = bounded(Outcome::Done("ü".repeat(MAX_CONTROL_TEXT_BYTES))) else { unreachable!() };
        assert!(text.len() <= MAX_CONTROL_TEXT_BYTES && text.len() > MAX_CONTROL_TEXT_BYTES - 2);
    }
}
