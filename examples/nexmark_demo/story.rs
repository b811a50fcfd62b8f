//! The demo, from its first line to its last.

use std::path::{Path, PathBuf};
use std::time::Instant;

use icecore::env::Env;
use icecore::store::{Access, StoreRef};
use icecore::{Error, ErrorKind, Result};

use crate::aftermath::{collect_and_verify, print_tree};
use crate::dump::compare;
use crate::job::{RETAINED, open_store};
use crate::options::Options;
use crate::process::JobProcess;
use crate::protocol::{CheckpointRow, JobConfig, Report};
use crate::screen::{Screen, count, size};

/// Where everything of one demo lies.
struct Place {
    root: PathBuf,
    store: String,
    /// Removes the folder at the end.
    temporary: Option<tempfile::TempDir>,
}

/// Tells the story; `false` if its end is not what was promised.
pub fn tell(options: &Options) -> Result<bool> {
    let started = Instant::now();
    let place = Place::make(options)?;
    // Opened here so that a store that cannot be is refused at once.
    let runtime = crate::new_runtime()?;
    // Some clients work in the runtime that they are made in.
    let _inside = runtime.enter();
    let env = Env::system()?;
    let store = open_store(&place.store, &env)?;
    runtime.block_on(async { refuse_taken(&store).await })?;
    let mut screen = Screen::new();
    let (_, after) = options.parallelism;
    screen.line("icecore: checkpoints of a running job, a kill -9 in the middle, and the proof that nothing was lost.");
    screen.line(format_args!(
        "{} NEXMark events go through two operators (auctions, people) whose state is in RocksDB,",
        count(options.events)
    ));
    screen.line(format_args!(
        "with an incremental checkpoint every {} events to {}.",
        count(options.checkpoint_every),
        place.store
    ));
    let mut rows = Vec::new();
    run_and_kill(options, &place, &mut screen, &mut rows)?;
    resume(options, &place, &mut screen, &mut rows)?;
    let is_equal = check_state(options, &place, &mut screen)?;
    screen.section(
        4,
        &format!("Collect what the kill left behind, and verify the {RETAINED} checkpoints that are kept."),
    );
    runtime.block_on(async {
        collect_and_verify(store.clone(), &env, after, &screen).await?;
        show_savings(&rows, &screen);
        screen.section(6, "What is on the store now.");
        print_tree(&store, &screen).await
    })?;
    screen.line(format_args!("\nThis took {} seconds.", started.elapsed().as_secs()));
    say_goodbye(place, is_equal, &screen);
    Ok(is_equal)
}

fn job_config(options: &Options, place: &Place, name: &str, parallelism: u32) -> JobConfig {
    JobConfig {
        store: Some(place.store.clone()),
        work: place.root.join(name),
        dump: place.root.join(format!("{name}-final-state")),
        events: options.events,
        checkpoint_every: options.checkpoint_every,
        parallelism,
        hold_checkpoint: None,
        skip_event: None,
    }
}

/// Runs the first process until a checkpoint is in flight, and kills it.
fn run_and_kill(options: &Options, place: &Place, screen: &mut Screen, rows: &mut Vec<CheckpointRow>) -> Result<()> {
    let (before, _) = options.parallelism;
    let config =
        JobConfig { hold_checkpoint: Some(options.killed_checkpoint()), ..job_config(options, place, "first", before) };
    screen.section(1, &format!("Run the job: {before} subtasks an operator, in a process of its own."));
    screen.line("   sync: how long a subtask stands still; async: hashing and uploading, while it goes on.");
    screen.table_head();
    screen.begin_run(options.events, 0, "running");
    let mut job = JobProcess::start(&config)?;
    let mut held: Option<(u64, u64, u64, u64)> = None;
    let mut offset = 0;
    // Well after the barrier, and before the next one: where the job cannot get beyond.
    let is_time = |at: u64, offset: u64| offset >= at + options.checkpoint_every / 2;
    while !held.is_some_and(|(_, at, _, _)| is_time(at, offset)) {
        match job.next_report()? {
            Some(Report::Checkpoint(row)) => {
                screen.table_row(&row);
                rows.push(row);
            }
            Some(Report::Held { checkpoint, offset, acknowledged, of }) => {
                held = Some((checkpoint, offset, acknowledged, of));
            }
            Some(Report::Progress { offset: at }) => {
                screen.advance(at);
                offset = at;
            }
            Some(_) => {}
            None => return Err(Error::new(ErrorKind::Internal, "kill the job", "it ended before it was killed")),
        }
    }
    screen.end_run();
    let Some((checkpoint, _, acknowledged, of)) = held else { return Ok(()) };
    let process = job.id();
    let status = job.kill()?;
    screen.line(format_args!(
        "   {checkpoint:>5}   in flight: {acknowledged} of {of} parts acknowledged (the demo holds the others back, so that the kill"
    ));
    screen.line("           hits in the middle); the job went on to process events");
    screen.line(format_args!("   kill -9 {process}  ->  {status}, at event {} or a little later", count(offset)));
    let lost = folder_bytes(&config.work);
    std::fs::remove_dir_all(&config.work).map_err(|error| Error::io("remove", config.work.display(), error))?;
    screen.line(format_args!("   its databases ({}) are deleted, too: only the store is left", size(lost)));
    Ok(())
}

/// Restores the newest complete checkpoint in a new process, and lets it go on to the end.
fn resume(options: &Options, place: &Place, screen: &mut Screen, rows: &mut Vec<CheckpointRow>) -> Result<()> {
    let (_, after) = options.parallelism;
    let config = job_config(options, place, "second", after);
    screen
        .section(2, &format!("Restore in a new process, now with {after} subtasks an operator, and go on to the end."));
    let mut job = JobProcess::start(&config)?;
    let mut is_restored = false;
    while let Some(report) = job.next_report()? {
        match report {
            Report::Restored { checkpoint, from_parallelism, offset, files, bytes, ms } => {
                is_restored = true;
                screen.line(format_args!(
                    "   checkpoint {checkpoint}, the newest complete one: {files} files, {}, each verified by its SHA-256,",
                    size(bytes)
                ));
                screen.line(format_args!(
                    "   from {from_parallelism} to {after} subtasks in {ms} ms; the source goes back to event {}",
                    count(offset)
                ));
                let killed = options.killed_checkpoint();
                screen.line(format_args!(
                    "   checkpoint {killed} has no _metadata, so it never was: its number is not used again"
                ));
                screen.table_head();
                screen.begin_run(options.events, offset, "running");
            }
            Report::Checkpoint(row) => {
                screen.table_row(&row);
                rows.push(row);
            }
            Report::Progress { offset } => screen.advance(offset),
            Report::Held { .. } | Report::Failed { .. } | Report::Done { .. } => {}
        }
    }
    screen.end_run();
    match is_restored {
        true => Ok(()),
        false => Err(Error::new(ErrorKind::Internal, "restore", "the second process started from nothing")),
    }
}

/// Runs the same events undisturbed in memory, and compares.
fn check_state(options: &Options, place: &Place, screen: &mut Screen) -> Result<bool> {
    screen.section(3, "Run the same events undisturbed: in memory, one subtask, no checkpoint, no RocksDB. Compare.");
    let reference =
        JobConfig { store: None, skip_event: options.spoil_reference, ..job_config(options, place, "reference", 1) };
    screen.begin_run(options.events, 0, "reference");
    let mut job = JobProcess::start(&reference)?;
    while let Some(report) = job.next_report()? {
        if let Report::Progress { offset } = report {
            screen.advance(offset);
        }
    }
    screen.end_run();
    let killed = job_config(options, place, "second", options.parallelism.1);
    let comparison = compare(&killed.dump, &reference.dump)?;
    for state in &comparison.states {
        let name = format!("{}.{}", state.operator, state.state);
        screen.line(format_args!("   {name:<20} {:>9} rows {:>9}", count(state.rows), size(state.bytes)));
    }
    let rows: u64 = comparison.states.iter().map(|state| state.rows).sum();
    let [digest, reference] = &comparison.digests;
    screen.line(format_args!("   killed and restored  sha256 {digest}"));
    screen.line(format_args!("   undisturbed          sha256 {reference}"));
    match &comparison.difference {
        None => screen.line(format_args!("   EQUAL: all {} rows, key by key.", count(rows))),
        Some(difference) => screen.line(format_args!("   NOT EQUAL. The first difference: {difference}")),
    }
    Ok(comparison.difference.is_none() && digest == reference)
}

fn show_savings(rows: &[CheckpointRow], screen: &Screen) {
    screen.section(5, "What incremental checkpoints saved: uploaded (#), and not uploaded because it was there (.).");
    screen.bars(rows);
    let uploaded: u64 = rows.iter().map(|row| row.uploaded_bytes).sum();
    let full: u64 = rows.iter().map(CheckpointRow::full_bytes).sum();
    screen.line(format_args!(
        "   in all: {} uploaded; {} checkpoints in full would have been {}, {:.1} times as much.",
        size(uploaded),
        rows.len(),
        size(full),
        full as f64 / uploaded.max(1) as f64
    ));
    screen.line("   Not counted: what the killed process had sent for the checkpoint that never was.");
    screen.line("   A long # bar is a compaction: RocksDB merged the files of several checkpoints into new ones.");
    screen.line("   (In full: the sum of the sizes of all files a checkpoint consists of, at every checkpoint.)");
}

fn say_goodbye(place: Place, is_equal: bool, screen: &Screen) {
    if !is_equal {
        screen.line("The final states are NOT equal: see above. This is a bug in icecore or in the demo.");
    }
    // What a folder of its own holds goes with it; a store that was named stays.
    let is_store_gone = place.temporary.is_some() && Path::new(&place.store).starts_with(&place.root);
    if is_store_gone {
        screen.line(
            "Its folder is removed now. To look around in it, run: make demo ARGS='--dir /tmp/nexmark', and then",
        );
        print_commands(screen, "/tmp/nexmark/store");
    } else {
        let kept = if place.temporary.is_some() { place.store.clone() } else { place.root.display().to_string() };
        screen.line(format_args!("Everything is kept in {kept}. Try next, as long as the store is there:"));
        print_commands(screen, &place.store);
    }
}

fn print_commands(screen: &Screen, store: &str) {
    screen.line(
        "   alias icecore='cargo run -q --features rocksdb,memory,s3,hdfs,job,timely,cli,test-support --bin icecore --'",
    );
    screen.line(format_args!(
        "   icecore --store {store} list    # the checkpoints; `show` has their files, `du` their shared bytes"
    ));
}

impl Place {
    fn make(options: &Options) -> Result<Self> {
        let wanted = options.dir.as_deref().unwrap_or(Path::new("the temporary folder"));
        let fail = |error| Error::io("make the demo's folder", wanted.display(), error);
        let (root, temporary) = match &options.dir {
            Some(folder) => {
                refuse_content(folder)?;
                std::fs::create_dir_all(folder).map_err(fail)?;
                (std::path::absolute(folder).map_err(fail)?, None)
            }
            None => {
                let folder = tempfile::Builder::new().prefix("icecore-demo-").tempdir().map_err(fail)?;
                match options.keep {
                    true => (folder.keep(), None),
                    false => (folder.path().to_owned(), Some(folder)),
                }
            }
        };
        let store = match &options.store {
            None => root.join("store").display().to_string(),
            Some(store) => store.clone(),
        };
        Ok(Self { root, store, temporary })
    }
}

/// The demo fills the folder, and removes what is of no use any more.
fn refuse_content(folder: &Path) -> Result<()> {
    match std::fs::read_dir(folder).map(|mut entries| entries.next().is_some()) {
        Ok(true) => Err(not_empty(folder.display())),
        Ok(false) | Err(_) => Ok(()),
    }
}

/// An earlier demo's checkpoints would be taken up, and nothing would be left to show.
async fn refuse_taken(store: &StoreRef) -> Result<()> {
    store.probe(Access::Read).await?;
    match store.list_children(None).await?.is_empty() {
        true => Ok(()),
        false => Err(not_empty(store.describe())),
    }
}

fn not_empty(place: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::AlreadyExists, "start the demo", "the folder is not empty")
        .with_object(place)
        .with_advice("name a new one, or remove it")
}

fn folder_bytes(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => folder_bytes(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}
