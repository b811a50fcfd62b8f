//! The bytes of the control records: frame, message, and the rules that both ways obey.

use std::collections::HashSet;

use prost::Message;

use super::control::{Answer, Claim, Condemned, ControlRecord, Distrust, End, Outcome, Pin, Ref, Request, Start};
use super::fault::{Checked, Fault, ascending, at_most};
use super::frame::Format;
use super::limits::{MAX_CONDEMNED_OBJECTS, MAX_CONTROL_CHECKPOINTS, MAX_CONTROL_HOLDS, MAX_CONTROL_TEXT_BYTES};
use super::names::{
    epoch, epoch_to_wire, folder, folder_to_wire, hold, hold_to_wire, in_a_job, job, path, present, shared,
};
use super::{numbers, wire};
use crate::error::Result;
use crate::layout::{DistrustName, Uid};

/// More top-level fields than any record without lists has, later versions included.
const MAX_SMALL_FIELDS: usize = 64;
const MAX_LIST_FIELDS: usize = MAX_CONTROL_CHECKPOINTS + 2 * MAX_CONTROL_HOLDS + MAX_SMALL_FIELDS;
const ENCODE: &str = "encode a control object";
const DECODE: &str = "decode a control object";

/// A record and its message.
trait Wired: Sized {
    type Wire: Message + Default;
    const FRAME: Format;
    const MAX_FIELDS: usize;

    /// The rules, whichever way the record goes.
    fn check(&self) -> Checked;
    fn to_wire(&self) -> Self::Wire;
    fn from_wire(wire: Self::Wire) -> Checked<Self>;

    fn encode_framed(&self) -> Result<Vec<u8>> {
        self.check().map_err(|fault| fault.within(Self::FRAME.name()).of_writer(ENCODE))?;
        let message = self.to_wire();
        let mut object = Self::FRAME.begin(message.encoded_len());
        message.encode_raw(&mut object);
        Self::FRAME.seal(object)
    }

    fn read_body(body: &[u8]) -> Result<Self> {
        let read = || {
            let record = Self::from_wire(wire::decode("the body", body, Self::MAX_FIELDS)?)?;
            record.check()?;
            Ok(record)
        };
        read().map_err(|fault: Fault| fault.within(Self::FRAME.name()).of_reader(DECODE))
    }
}

macro_rules! control_record {
    ($($record:ident),*) => {$(
        impl ControlRecord for $record {
            const FORMAT: Format = <Self as Wired>::FRAME;

            fn encode(&self) -> Result<Vec<u8>> {
                self.encode_framed()
            }

            fn decode(object: &[u8]) -> Result<Self> {
                Self::read_body(<Self as Wired>::FRAME.unframe(object)?)
            }

            fn decode_body(body: &[u8]) -> Result<Self> {
                Self::read_body(body)
            }
        }
    )*};
}

control_record!(Claim, Start, End, Condemned, Pin, Ref, Distrust, Request, Answer);

fn check_text(what: &str, text: &str) -> Checked {
    at_most(&format!("{what}, bytes"), text.len(), MAX_CONTROL_TEXT_BYTES)
}

impl Wired for Claim {
    type Wire = wire::Claim;
    const FRAME: Format = Format::CLAIM;
    const MAX_FIELDS: usize = MAX_SMALL_FIELDS;

    fn check(&self) -> Checked {
        check_text("the holder", &self.holder)
    }

    fn to_wire(&self) -> wire::Claim {
        wire::Claim {
            epoch: Some(epoch_to_wire(self.epoch)),
            job: self.job.as_str().to_owned(),
            claimed_at_unix_ms: self.claimed_at_unix_ms,
            holder: self.holder.clone(),
        }
    }

    fn from_wire(wire: wire::Claim) -> Checked<Self> {
        Ok(Self {
            epoch: epoch(wire.epoch)?,
            job: job(&wire.job)?,
            claimed_at_unix_ms: wire.claimed_at_unix_ms,
            holder: wire.holder,
        })
    }
}

impl Wired for Start {
    type Wire = wire::Start;
    const FRAME: Format = Format::START;
    const MAX_FIELDS: usize = MAX_LIST_FIELDS;

    fn check(&self) -> Checked {
        at_most("adopted checkpoints", self.adopted.len(), MAX_CONTROL_CHECKPOINTS)?;
        at_most("adopted refs", self.refs.len(), MAX_CONTROL_HOLDS)?;
        at_most("adopted pins", self.pins.len(), MAX_CONTROL_HOLDS)?;
        ascending("adopted checkpoints", &self.adopted, |folder| *folder)?;
        ascending("adopted refs", &self.refs, |name| *name)?;
        ascending("adopted pins", &self.pins, |name| *name)
    }

    fn to_wire(&self) -> wire::Start {
        wire::Start {
            epoch: Some(epoch_to_wire(self.epoch)),
            adopted: self.adopted.iter().copied().map(folder_to_wire).collect(),
            refs: self.refs.iter().copied().map(hold_to_wire).collect(),
            pins: self.pins.iter().copied().map(hold_to_wire).collect(),
        }
    }

    fn from_wire(wire: wire::Start) -> Checked<Self> {
        Ok(Self {
            epoch: epoch(wire.epoch)?,
            adopted: wire.adopted.into_iter().map(folder).collect::<Checked<_>>()?,
            refs: wire.refs.into_iter().map(hold).collect::<Checked<_>>()?,
            pins: wire.pins.into_iter().map(hold).collect::<Checked<_>>()?,
        })
    }
}

impl Wired for End {
    type Wire = wire::End;
    const FRAME: Format = Format::END;
    const MAX_FIELDS: usize = MAX_SMALL_FIELDS;

    fn check(&self) -> Checked {
        Ok(())
    }

    fn to_wire(&self) -> wire::End {
        wire::End { epoch: Some(epoch_to_wire(self.epoch)) }
    }

    fn from_wire(wire: wire::End) -> Checked<Self> {
        Ok(Self { epoch: epoch(wire.epoch)? })
    }
}

impl Wired for Condemned {
    type Wire = wire::Condemned;
    const FRAME: Format = Format::CONDEMNED;
    const MAX_FIELDS: usize = MAX_CONTROL_CHECKPOINTS + MAX_CONDEMNED_OBJECTS + MAX_SMALL_FIELDS;

    fn check(&self) -> Checked {
        at_most("dropped checkpoints", self.dropped.len(), MAX_CONTROL_CHECKPOINTS)?;
        at_most("condemned objects", self.objects.len(), MAX_CONDEMNED_OBJECTS)?;
        ascending("dropped checkpoints", &self.dropped, |folder| *folder)?;
        let mut seen = HashSet::with_capacity(self.objects.len());
        for object in &self.objects {
            in_a_job(object)?;
            if !seen.insert(object.as_str()) {
                return Err(Fault::bad(format!("`{object}` is named twice")));
            }
        }
        Ok(())
    }

    fn to_wire(&self) -> wire::Condemned {
        wire::Condemned {
            epoch: Some(epoch_to_wire(self.epoch)),
            uid: self.uid.0,
            dropped: self.dropped.iter().copied().map(folder_to_wire).collect(),
            objects: self.objects.iter().map(|path| path.as_str().to_owned()).collect(),
        }
    }

    fn from_wire(wire: wire::Condemned) -> Checked<Self> {
        Ok(Self {
            epoch: epoch(wire.epoch)?,
            uid: Uid(wire.uid),
            dropped: wire.dropped.into_iter().map(folder).collect::<Checked<_>>()?,
            objects: wire.objects.into_iter().map(path).collect::<Checked<_>>()?,
        })
    }
}

impl Wired for Pin {
    type Wire = wire::Pin;
    const FRAME: Format = Format::PIN;
    const MAX_FIELDS: usize = MAX_SMALL_FIELDS;

    fn check(&self) -> Checked {
        check_text("the reason", &self.reason)
    }

    fn to_wire(&self) -> wire::Pin {
        wire::Pin {
            name: Some(hold_to_wire(self.name)),
            reason: self.reason.clone(),
            created_at_unix_ms: self.created_at_unix_ms,
        }
    }

    fn from_wire(wire: wire::Pin) -> Checked<Self> {
        Ok(Self {
            name: hold(present("its name", wire.name)?)?,
            reason: wire.reason,
            created_at_unix_ms: wire.created_at_unix_ms,
        })
    }
}

impl Wired for Ref {
    type Wire = wire::Ref;
    const FRAME: Format = Format::REF;
    const MAX_FIELDS: usize = MAX_SMALL_FIELDS;

    fn check(&self) -> Checked {
        Ok(())
    }

    fn to_wire(&self) -> wire::Ref {
        wire::Ref {
            name: Some(hold_to_wire(self.name)),
            holder: self.holder.as_str().to_owned(),
            created_at_unix_ms: self.created_at_unix_ms,
        }
    }

    fn from_wire(wire: wire::Ref) -> Checked<Self> {
        Ok(Self {
            name: hold(present("its name", wire.name)?)?,
            holder: job(&wire.holder)?,
            created_at_unix_ms: wire.created_at_unix_ms,
        })
    }
}

impl Wired for Distrust {
    type Wire = wire::Distrust;
    const FRAME: Format = Format::DISTRUST;
    const MAX_FIELDS: usize = MAX_SMALL_FIELDS;

    fn check(&self) -> Checked {
        check_text("the reason", &self.reason)
    }

    fn to_wire(&self) -> wire::Distrust {
        wire::Distrust {
            object: self.name.object.to_string(),
            writer: Some(epoch_to_wire(self.name.writer)),
            uid: self.name.uid.0,
            reason: self.reason.clone(),
            created_at_unix_ms: self.created_at_unix_ms,
        }
    }

    fn from_wire(wire: wire::Distrust) -> Checked<Self> {
        let name = DistrustName { object: shared(&wire.object)?, writer: epoch(wire.writer)?, uid: Uid(wire.uid) };
        Ok(Self { name, reason: wire.reason, created_at_unix_ms: wire.created_at_unix_ms })
    }
}

impl Wired for Request {
    type Wire = wire::Request;
    const FRAME: Format = Format::REQUEST;
    const MAX_FIELDS: usize = MAX_SMALL_FIELDS;

    fn check(&self) -> Checked {
        check_text("the argument", &self.argument)
    }

    fn to_wire(&self) -> wire::Request {
        wire::Request {
            uid: self.uid.0,
            kind: numbers::number(self.kind),
            argument: self.argument.clone(),
            created_at_unix_ms: self.created_at_unix_ms,
        }
    }

    fn from_wire(wire: wire::Request) -> Checked<Self> {
        Ok(Self {
            uid: Uid(wire.uid),
            kind: numbers::value(wire.kind)?,
            argument: wire.argument,
            created_at_unix_ms: wire.created_at_unix_ms,
        })
    }
}

const OUTCOME_DONE: u32 = 1;
const OUTCOME_REFUSED: u32 = 2;

impl Wired for Answer {
    type Wire = wire::Answer;
    const FRAME: Format = Format::ANSWER;
    const MAX_FIELDS: usize = MAX_SMALL_FIELDS;

    fn check(&self) -> Checked {
        match &self.result {
            Outcome::Done(text) | Outcome::Refused(text) => check_text("the text", text),
        }
    }

    fn to_wire(&self) -> wire::Answer {
        let (outcome, text) = match &self.result {
            Outcome::Done(text) => (OUTCOME_DONE, text),
            Outcome::Refused(text) => (OUTCOME_REFUSED, text),
        };
        wire::Answer { uid: self.uid.0, outcome, text: text.clone() }
    }

    fn from_wire(wire: wire::Answer) -> Checked<Self> {
        let result = match wire.outcome {
            OUTCOME_DONE => Outcome::Done(wire.text),
            OUTCOME_REFUSED => Outcome::Refused(wire.text),
            other => return Err(Fault::unknown(format!("there is no outcome of number {other}"))),
        };
        Ok(Self { uid: Uid(wire.uid), result })
    }
}
