//! The story: each step is what a person would do, with the command that a person would use.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use icecore::{Error, ErrorKind, Result};
use nexmark::event::Event;
use serde_json::Value;

use crate::StoryOptions;
use crate::pipeline::{Question, Topics};
use crate::source::{self, SPLITS};
use crate::{reference, topics};

const JOB: &str = "hot-items";
/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(180);
/// Later than all events by far: it lets every window end, and its own never does.
const FAR_EVENTS: u64 = 10_000_000;

fn failed(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Io, "play the demo", message)
}

fn say(text: &str) {
    println!("{text}");
    // A line that cannot be written is one that nobody reads.
    let _ = std::io::stdout().flush();
}

/// The command and where it works.
struct Stage<'a> {
    options: &'a StoryOptions,
    question: Question,
    topics: Topics,
    store: PathBuf,
    folder: PathBuf,
}

/// `icecore job run`. Ended with the story, however that ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Stage<'_> {
    fn icecore(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.options.icecore);
        command.args(words).env("ICECORE_STORE", &self.store).env("ICECORE_JOB", JOB).stdin(Stdio::null());
        command
    }

    /// What a command prints as JSON.
    fn json(&self, words: &[&str]) -> Result<Value> {
        let output = self.icecore(&[words, &["--json"]].concat()).output();
        let output = output.map_err(|error| Error::io("run", self.options.icecore.display(), error))?;
        match output.status.success() {
            true => serde_json::from_slice(&output.stdout).map_err(|error| failed(error.to_string())),
            false => {
                let said: Value = serde_json::from_slice(&output.stderr).unwrap_or_default();
                Err(failed(format!("`icecore {}`: {}", words.join(" "), text(&said["error"]["message"]))))
            }
        }
    }

    fn start(&self) -> Result<Running> {
        let this = std::env::current_exe().map_err(|error| Error::io("find", "this program", error))?;
        let (this, local) = (this.display().to_string(), self.folder.join("local").display().to_string());
        let store = self.store.display().to_string();
        let operators: Vec<String> = self.question.operators().iter().map(|id| format!("{id}:128")).collect();
        let mut words = vec!["job", "run", "--workers", "2", "--interval", "500ms", "--keep-last", "3"];
        words.extend(["--heartbeat-interval", "200ms", "--heartbeat-timeout", "2s", "--tolerable-failures", "10"]);
        words.extend(["--restart", "fixed-delay,attempts=10,delay=200ms", "--http", &self.options.http]);
        operators.iter().for_each(|operator| words.extend(["--operator", operator.as_str()]));
        let shown = words.join(" ");
        words.extend(["--", &this, "worker", "--bootstrap", &self.topics.bootstrap, "--events", &self.topics.events]);
        words.extend(["--results", &self.topics.results, "--query", &self.options.query]);
        words.extend(["--store", &store, "--local", &local]);
        say(&format!("   $ icecore {shown} -- job_demo worker ..."));
        let log = std::fs::File::create(self.log()).map_err(|error| Error::io("write", "the log", error))?;
        let child = self.icecore(&words).stdout(Stdio::null()).stderr(log).spawn();
        child.map(Running).map_err(|error| Error::io("run", self.options.icecore.display(), error))
    }

    fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// Waits until the job's status is such.
    fn until(&self, running: &mut Running, what: &str, is_so: impl Fn(&Value) -> bool) -> Result<Value> {
        let began = Instant::now();
        loop {
            if let Ok(status) = self.json(&["job", "status"])
                && is_so(&status)
            {
                return Ok(status);
            }
            if let Ok(Some(status)) = running.0.try_wait() {
                return Err(failed(format!("the job manager ended: {status}; {}", last_line(&self.log()))));
            }
            if began.elapsed() > PATIENCE {
                return Err(failed(format!("it never came: {what}")));
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// What must come out.
    fn expected(&self) -> Vec<String> {
        let events: Vec<Event> = source::events(0, 1).take(self.options.events as usize).collect();
        let mut texts: Vec<String> = match self.question {
            Question::HotItems => reference::hot_items(&events).iter().map(ToString::to_string).collect(),
            Question::HighestBids => reference::highest_bids(&events).iter().map(ToString::to_string).collect(),
            Question::NewSellers => reference::new_sellers(&events).iter().map(ToString::to_string).collect(),
        };
        texts.sort_unstable();
        texts
    }
}

pub fn play(options: &StoryOptions) -> Result<()> {
    let question = Question::named(&options.query)
        .ok_or_else(|| Error::invalid("choose a query", "there is none such").with_advice("there are q5, q7 and q8"))?;
    let folder = tempfile::tempdir().map_err(|error| Error::io("make", "a folder", error))?;
    let tag = std::process::id();
    let topics = Topics {
        bootstrap: options.bootstrap.clone(),
        events: format!("demo-events-{tag}"),
        results: format!("demo-results-{tag}"),
    };
    let store = folder.path().join("store");
    let stage = Stage { options, question, topics, store, folder: folder.path().to_owned() };
    say(&format!("1. {} events of NEXMark into Kafka, {} a second", options.events, options.per_second));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Error::io("start", "the runtime", error))?;
    let made = [(stage.topics.events.as_str(), SPLITS as i32), (stage.topics.results.as_str(), 2)];
    runtime.block_on(topics::create(&options.bootstrap, &made))?;
    thread::scope(|scope| {
        let filling = scope.spawn(|| fill(&stage));
        let played = disturb(&stage);
        let filled = filling.join().map_err(|_| failed("the events' thread panicked"))?;
        let mut running = played?;
        filled?;
        end(&stage, &mut running)
    })
}

/// All events, and then one of a far time in each partition, which ends the windows.
fn fill(stage: &Stage<'_>) -> Result<()> {
    let filler = topics::Filler::new(&stage.topics.bootstrap, &stage.topics.events)?;
    let encode = |event: &Event| serde_json::to_vec(event).map_err(|error| failed(error.to_string()));
    let began = Instant::now();
    for (number, event) in (0..stage.options.events).zip(source::events(0, 1)) {
        let due = Duration::from_secs_f64(number as f64 / stage.options.per_second as f64);
        if let Some(early) = due.checked_sub(began.elapsed()) {
            filler.flush()?;
            thread::sleep(early.max(Duration::from_millis(5)));
        }
        filler.add((number % SPLITS) as i32, &encode(&event)?)?;
    }
    let last = source::events(FAR_EVENTS, 1).find(|event| matches!(event, Event::Person(_)));
    let last = encode(&last.ok_or_else(|| failed("no event ends the windows"))?)?;
    (0..SPLITS).try_for_each(|split| filler.add(split as i32, &last))?;
    filler.flush()
}

/// Kills a worker, and rescales.
fn disturb(stage: &Stage<'_>) -> Result<Running> {
    say("2. two workers, state in RocksDB, a checkpoint every 500 ms");
    let mut running = stage.start()?;
    let status = stage.until(&mut running, "two checkpoints", |status| newest(status) >= 2)?;
    let page = status["manager"]["holder"].as_str().and_then(|holder| holder.rsplit(' ').next()).unwrap_or_default();
    say(&format!("   the page: {page}"));
    say("3. kill -9 of a worker");
    let name = status["workers"][0]["name"].as_str().unwrap_or_default();
    let process = name.rsplit(' ').next().unwrap_or_default();
    let (generation, killed_at) = (status["generation"].as_u64(), Instant::now());
    let killed = Command::new("kill").args(["-9", process]).status();
    killed.map_err(|error| Error::io("run", "kill", error))?;
    let noticed = stage.until(&mut running, "the failure", |status| status["failures"] == 1)?;
    say(&format!("   noticed after {} ms: {}", killed_at.elapsed().as_millis(), text(&noticed["last_failure"])));
    let after = newest(&noticed);
    let again = stage.until(&mut running, "a record after the failure", |status| {
        status["generation"].as_u64() > generation && status["recovery"]["total_ms"].is_u64()
    })?;
    say(&format!(
        "   records are processed again after {} ms, from {}",
        killed_at.elapsed().as_millis(),
        restored(&again)
    ));
    say(&format!("   {}", steps(&again["recovery"])));
    stage.until(&mut running, "a checkpoint after the failure", |status| newest(status) > after)?;
    say(&format!("   the next checkpoint is complete after {} ms", killed_at.elapsed().as_millis()));
    say("4. three workers");
    say("   $ icecore job rescale 3");
    let rescaled = stage.json(&["job", "rescale", "3"])?;
    let from = rescaled["checkpoint"].as_u64().unwrap_or(0);
    let three = stage.until(&mut running, "a checkpoint of three", |status| {
        status["parallelism"] == 3 && status["state"] == "running" && newest(status) > from
    })?;
    say(&format!("   from {}", restored(&three)));
    for operator in three["operators"].as_array().into_iter().flatten() {
        say(&format!("   {}: key groups {}", text(&operator["operator"]), operator["key_groups"]));
    }
    Ok(running)
}

/// Waits for the results, compares them, and shows what happened.
fn end(stage: &Stage<'_>, running: &mut Running) -> Result<()> {
    let expected = stage.expected();
    say(&format!("5. results, as a read_committed consumer sees them: {} must come", expected.len()));
    let began = Instant::now();
    let mut seen = topics::read(&stage.topics.bootstrap, &stage.topics.results)?;
    while seen.len() < expected.len() && began.elapsed() < PATIENCE {
        thread::sleep(Duration::from_millis(200));
        seen = topics::read(&stage.topics.bootstrap, &stage.topics.results)?;
    }
    if seen != expected {
        let different = seen.iter().zip(&expected).find(|(is, must)| is != must);
        return Err(failed(format!(
            "{} of {} results came, the first that differs: {different:?}",
            seen.len(),
            expected.len()
        )));
    }
    say("   each came once, as if nothing had happened");
    say("   $ icecore job status --last 5");
    let status = stage.icecore(&["job", "status", "--last", "5"]).output();
    let status = status.map_err(|error| Error::io("run", stage.options.icecore.display(), error))?;
    String::from_utf8_lossy(&status.stdout).lines().for_each(|line| say(&format!("   {line}")));
    if std::io::stdout().is_terminal() && !stage.options.no_wait {
        say("   look at the page for as long as you like; Ctrl-C ends everything");
        loop {
            thread::park();
        }
    }
    say("6. the job's end in good order");
    say("   $ icecore job stop --savepoint savepoints/the-end");
    stage.json(&["job", "stop", "--savepoint", "savepoints/the-end"])?;
    let ended = running.0.wait().map_err(|error| Error::io("wait for", "the job manager", error))?;
    let again = topics::read(&stage.topics.bootstrap, &stage.topics.results)?;
    if !ended.success() || again != expected {
        return Err(failed(format!("the job ended with {ended}, and {} results", again.len())));
    }
    say(&format!("equal: {} results, each exactly once", expected.len()));
    Ok(())
}

/// The number of the newest complete checkpoint.
fn newest(status: &Value) -> u64 {
    let all = status["checkpoints"].as_array().into_iter().flatten();
    let complete = all.filter(|one| one["status"] == "complete");
    complete.filter_map(|one| one["checkpoint"].as_u64()).max().unwrap_or(0)
}

fn restored(status: &Value) -> String {
    match status["restored_from"]["checkpoint"].as_u64() {
        Some(checkpoint) => format!("checkpoint {checkpoint}"),
        None => "nothing".to_owned(),
    }
}

/// How the workers came to run, step by step.
fn steps(recovery: &Value) -> String {
    let ms = |step: &str| recovery[step].as_u64().unwrap_or(0);
    format!(
        "of these: pause {} ms, start {} ms, restore {} ms ({} files fetched, {} linked), first record {} ms",
        ms("pause_ms"),
        ms("start_ms"),
        ms("restore_ms"),
        ms("fetched_files"),
        ms("linked_files"),
        ms("resume_ms")
    )
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn last_line(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().next_back().unwrap_or_default().to_owned()
}
