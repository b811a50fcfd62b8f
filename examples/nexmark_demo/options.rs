//! What can be asked for on the command line.

use std::path::PathBuf;

use clap::Parser;
use icecore::{Error, Result};

use crate::source::BATCH_EVENTS;

/// Checkpoints of a running job, a kill -9 in the middle, and the proof that nothing was lost.
#[derive(Clone, Debug, Parser)]
#[command(name = "nexmark_demo")]
pub struct Options {
    /// How many NEXMark events the job works through
    #[arg(long, default_value_t = 1_000_000)]
    pub events: u64,
    /// Events between two checkpoints
    #[arg(long, default_value_t = 50_000)]
    pub checkpoint_every: u64,
    /// Subtasks of each operator before the kill, and after it
    #[arg(long, default_value = "2,3", value_name = "BEFORE,AFTER", value_parser = parse_parallelism)]
    pub parallelism: (u32, u32),
    /// Work in this folder, which must be new or empty, and keep it; otherwise in a temporary one
    #[arg(long)]
    pub dir: Option<PathBuf>,
    /// Keep the temporary folder
    #[arg(long)]
    pub keep: bool,
    /// Where the checkpoints go: a folder, new or empty, or another store's address [default: `store` in the working folder]
    #[arg(long)]
    pub store: Option<String>,
    /// Leave this event out of the reference: the comparison must notice
    #[arg(long, hide = true, value_name = "OFFSET")]
    pub spoil_reference: Option<u64>,
}

impl Options {
    /// Rounds to whole batches and refuses what the story cannot be told with.
    pub fn check(mut self) -> Result<Self> {
        self.checkpoint_every = self.checkpoint_every.max(1).next_multiple_of(BATCH_EVENTS);
        self.events = self.events.next_multiple_of(self.checkpoint_every);
        if self.checkpoints() < 4 {
            return Err(Error::invalid("read the options", "there is no middle to kill the job in")
                .with_advice("ask for at least four times as many events as --checkpoint-every"));
        }
        Ok(self)
    }

    /// How many checkpoints the whole run takes.
    pub fn checkpoints(&self) -> u64 {
        self.events / self.checkpoint_every
    }

    /// The checkpoint that the kill interrupts.
    pub fn killed_checkpoint(&self) -> u64 {
        self.checkpoints() / 2 + 1
    }
}

fn parse_parallelism(text: &str) -> Result<(u32, u32), String> {
    let number = |text: &str| text.trim().parse::<u32>().ok().filter(|n| (1..=16).contains(n));
    let parts = text.split_once(',').and_then(|(before, after)| Some((number(before)?, number(after)?)));
    parts.ok_or_else(|| "two numbers from 1 to 16, such as 2,3".to_owned())
}
