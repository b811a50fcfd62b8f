//! A server, or several, driven by lines: the other end of `scripts/services.d/guard.bash`.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// Longest wait for an answer to a command. The script has shorter limits of its own.
const ANSWER_WITHIN: Duration = Duration::from_secs(240);

/// The `key value` lines of an answer.
pub type Facts = BTreeMap<String, String>;

pub struct Supervised {
    child: Child,
    /// `None` once it is stopped: its end is what stops the servers.
    commands: Option<ChildStdin>,
    lines: Receiver<String>,
    what: String,
}

enum Answer {
    Ok(Facts),
    Error(String),
    Unavailable(String),
}

impl Supervised {
    /// Starts `scripts/services serve <arguments>` and waits until the servers are ready.
    ///
    /// # Panics
    /// If they do not start although their programs are on this machine.
    pub fn start(arguments: &[&str]) -> Result<(Self, Facts), Unavailable> {
        let what = arguments.join(" ");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/services");
        let started =
            Command::new(script).arg("serve").args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = match started {
            Ok(child) => child,
            Err(error) => return Err(Unavailable(format!("scripts/services does not run on this machine: {error}"))),
        };
        let (sender, lines) = channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let mut supervised = Self { commands: child.stdin.take(), child, lines, what };
        match supervised.answer() {
            Answer::Ok(facts) => Ok((supervised, facts)),
            Answer::Error(text) => panic!("{}: {text}", supervised.what),
            Answer::Unavailable(why) => Err(Unavailable(why)),
        }
    }

    /// Sends a command and waits until it is carried out.
    ///
    /// # Panics
    /// If it fails, with what the server wrote last.
    pub fn ask(&mut self, command: &str) -> Facts {
        self.try_ask(command).unwrap_or_else(|failure| panic!("{failure}"))
    }

    /// The same, with what the server wrote last as the error.
    pub fn try_ask(&mut self, command: &str) -> Result<Facts, String> {
        let commands = self.commands.as_mut().expect("the server was stopped");
        writeln!(commands, "{command}").unwrap_or_else(|error| panic!("{}: {command}: {error}", self.what));
        match self.answer() {
            Answer::Ok(facts) => Ok(facts),
            Answer::Error(text) | Answer::Unavailable(text) => Err(format!("{}: {command}: {text}", self.what)),
        }
    }

    fn answer(&mut self) -> Answer {
        let until = Instant::now() + ANSWER_WITHIN;
        let (mut facts, mut log) = (Facts::new(), String::new());
        loop {
            let line = match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => line,
                Err(RecvTimeoutError::Timeout) => {
                    return Answer::Error(format!("no answer within {ANSWER_WITHIN:?}{log}"));
                }
                Err(RecvTimeoutError::Disconnected) => return Answer::Error(format!("scripts/services ended{log}")),
            };
            match line.split_once(' ').unwrap_or((&line, "")) {
                ("ok", _) => return Answer::Ok(facts),
                ("error", text) => return Answer::Error(format!("{text}{log}")),
                ("unavailable", text) => return Answer::Unavailable(text.into()),
                ("log", text) => log += &format!("\n  | {text}"),
                (key, value) => _ = facts.insert(key.into(), value.into()),
            }
        }
    }

    /// The process whose input keeps the servers alive.
    pub fn guard(&self) -> u32 {
        self.child.id()
    }

    /// Kills the servers, removes their folder, and returns when that is done.
    pub fn stop(&mut self) {
        drop(self.commands.take());
        let _ = self.child.wait();
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Why a server cannot be had on this machine.
#[derive(Clone, Debug)]
pub struct Unavailable(String);

impl Unavailable {
    /// # Panics
    /// With `CI` set, where nothing may be skipped.
    pub fn skip(&self) {
        let Self(why) = self;
        assert!(std::env::var_os("CI").is_none(), "CI skips nothing, but: {why}");
        eprintln!("SKIPPED: {}: {why}", std::thread::current().name().unwrap_or("a test"));
    }
}

/// A fact that every server of its kind tells.
pub fn fact(facts: &Facts, key: &str) -> String {
    facts.get(key).unwrap_or_else(|| panic!("scripts/services did not tell '{key}': {facts:?}")).clone()
}

pub fn path_fact(facts: &Facts, key: &str) -> PathBuf {
    PathBuf::from(fact(facts, key))
}
