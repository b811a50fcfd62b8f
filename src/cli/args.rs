//! What can be written on the command line.

use std::num::NonZeroU64;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::store::{RateLimits, parse_size};

/// How long a command waits for the job's owner, in seconds.
const DEFAULT_WAIT_S: u64 = crate::ownership::requests::DEFAULT_WAIT_MS / 1000;

/// The options that every command takes stand under this heading.
const EVERYWHERE: &str = "Options of every command";

/// Incremental, verified, deduplicated checkpoints of RocksDB and keyed state.
#[derive(Debug, Parser)]
#[command(name = "icecore", version, propagate_version = true, max_term_width = 110)]
#[command(
    after_help = "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 damaged, 4 another owner, 5 something keeps it, \
    6 not found, 7 changed meanwhile, 8 no room, 9 not supported, 130/143 interrupted."
)]
pub(super) struct Cli {
    /// Where checkpoints lie: a folder, s3://bucket/prefix, hdfs://host:port/folder [env: ICECORE_STORE]
    #[arg(long, global = true, value_name = "PATH-OR-URL", help_heading = EVERYWHERE)]
    pub store: Option<String>,
    /// An option of the store, such as endpoint=http://127.0.0.1:9000; may be given several times
    /// [env: ICECORE_STORE_OPTIONS, a list with commas]
    #[arg(long, global = true, value_name = "KEY=VALUE", help_heading = EVERYWHERE)]
    pub store_option: Vec<String>,
    /// The job; may be left out where the store holds one only, and not for `snapshot` [env: ICECORE_JOB]
    #[arg(long, global = true, value_name = "ID", help_heading = EVERYWHERE)]
    pub job: Option<String>,
    #[command(flatten)]
    pub limits: LimitArgs,
    /// Print JSON for programs instead of text for people
    #[arg(long, global = true, help_heading = EVERYWHERE)]
    pub json: bool,
    /// Say more on stderr; twice and three times say still more
    #[arg(short, long, global = true, action = clap::ArgAction::Count, help_heading = EVERYWHERE)]
    pub verbose: u8,
    #[command(subcommand)]
    pub command: Command,
}

/// How fast bytes may move.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct LimitArgs {
    /// Write at most so many bytes a second to a store, such as 10M or 1.5MiB
    #[arg(long, global = true, value_name = "SIZE", value_parser = rate, help_heading = EVERYWHERE)]
    limit_upload: Option<NonZeroU64>,
    /// Read at most so many bytes a second from a store
    #[arg(long, global = true, value_name = "SIZE", value_parser = rate, help_heading = EVERYWHERE)]
    limit_download: Option<NonZeroU64>,
}

impl LimitArgs {
    pub(super) fn limits(self) -> RateLimits {
        RateLimits { upload_bytes_per_s: self.limit_upload, download_bytes_per_s: self.limit_download }
    }
}

fn rate(text: &str) -> Result<NonZeroU64, String> {
    let bytes_per_s = parse_size(text.strip_suffix("/s").unwrap_or(text)).map_err(|error| error.to_string())?;
    NonZeroU64::new(bytes_per_s)
        .ok_or_else(|| "nothing would move; leave the option out to move as fast as can be".to_owned())
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Take a checkpoint of a RocksDB folder, open or not, of whichever program
    Snapshot(SnapshotArgs),
    /// List the checkpoints
    List(ListArgs),
    /// Show a job, or a checkpoint down to its files
    Show(ShowArgs),
    /// Check that checkpoints restore, by length and hash of every file
    Verify(VerifyArgs),
    /// Restore a subtask's folder from a checkpoint, verified, whole or not at all
    Restore(RestoreArgs),
    /// Compare the files of two checkpoints
    Diff(DiffArgs),
    /// Bytes of each checkpoint: shared, its own, freed by dropping it
    Du,
    /// Say why a stored file is there and what becomes of it
    Why(WhyArgs),
    /// Drop checkpoints, and what only they need
    Drop(DropArgs),
    /// Have damaged objects stored anew, or give up a checkpoint whose index cannot be read
    Repair(RepairArgs),
    /// Drop the checkpoints that a policy does not keep
    Retain(RetainArgs),
    /// Keep a checkpoint until it is unpinned
    Pin(PinArgs),
    /// Remove the pins of a checkpoint
    Unpin(UnpinArgs),
    /// Find and remove what nothing references
    Gc(GcArgs),
    /// Copy a checkpoint, whole and verified, to a folder of your own
    #[command(visible_alias = "savepoint")]
    Export(ExportArgs),
    /// Copy checkpoints of a job, or a savepoint, to another store: what that lacks, verified, restartable
    Copy(CopyArgs),
    /// Run a job of workers that take checkpoints, and ask a running one
    #[cfg(feature = "job")]
    Job(super::job::JobArgs),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// How a command that changes a job gets to do so.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct OwnerArgs {
    /// Seconds to wait for the job's owner before taking the job over
    #[arg(long, value_name = "SECONDS", default_value_t = DEFAULT_WAIT_S)]
    pub wait: u64,
    /// Take the job over at once, fencing whoever runs it
    #[arg(long)]
    pub take_over: bool,
}

/// How many checkpoints are kept.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(super) struct KeepArgs {
    /// Keep the newest N
    #[arg(long, value_name = "N")]
    pub keep_last: Option<u32>,
    /// Keep the newest of each of the last N hours that have one
    #[arg(long, value_name = "N")]
    pub keep_hourly: Option<u32>,
    /// Keep the newest of each of the last N days that have one
    #[arg(long, value_name = "N")]
    pub keep_daily: Option<u32>,
    /// Keep the newest of each of the last N weeks that have one
    #[arg(long, value_name = "N")]
    pub keep_weekly: Option<u32>,
}

#[derive(Debug, Args)]
pub(super) struct SnapshotArgs {
    /// The folder that holds CURRENT and the MANIFEST
    pub folder: PathBuf,
    /// The name of the state within the job
    #[arg(long, default_value = "db", value_name = "ID")]
    pub operator: String,
    /// How often to begin anew when the database changes under the snapshot
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub attempts: u32,
    /// Hold the files by hard links in this folder, on the same file system, while they are sent
    #[arg(long, value_name = "FOLDER")]
    pub staging: Option<PathBuf>,
    #[command(flatten)]
    pub keep: KeepArgs,
    #[command(flatten)]
    pub owner: OwnerArgs,
}

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// Also what does not count, and why
    #[arg(long)]
    pub all: bool,
}

/// How far down `show` goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(super) enum Depth {
    Checkpoint,
    Operator,
    Keygroup,
    Files,
}

#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    /// A checkpoint's number, its folder's name, or `latest`; without it, the job
    pub checkpoint: Option<String>,
    /// Show the exported checkpoint in this folder, or at this address, instead
    #[arg(long, value_name = "FOLDER", conflicts_with = "checkpoint")]
    pub from: Option<PathBuf>,
    /// An option of the remote store that --from names; may be given several times
    #[arg(long, value_name = "KEY=VALUE", requires = "from", conflicts_with = "checkpoint")]
    pub from_option: Vec<String>,
    /// Only this operator
    #[arg(long, value_name = "ID")]
    pub operator: Option<String>,
    /// Only this subtask
    #[arg(long, value_name = "INDEX")]
    pub subtask: Option<u32>,
    /// Only what may hold keys of this key group
    #[arg(long, value_name = "N")]
    pub key_group: Option<u16>,
    /// How far down to go
    #[arg(long, value_enum, default_value_t = Depth::Files)]
    pub depth: Depth,
}

#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    /// A checkpoint's number, its folder's name, or `latest` (the default)
    #[arg(conflicts_with = "all")]
    pub checkpoint: Option<String>,
    /// Every checkpoint that counts
    #[arg(long)]
    pub all: bool,
    /// The exported checkpoint in this folder, or at this address
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["checkpoint", "all"])]
    pub from: Option<PathBuf>,
    /// An option of the remote store that --from names; may be given several times
    #[arg(long, value_name = "KEY=VALUE", requires = "from", conflicts_with_all = ["checkpoint", "all"])]
    pub from_option: Vec<String>,
    /// Read and hash every byte (the default)
    #[arg(long, conflicts_with = "quick")]
    pub deep: bool,
    /// Only whether every object is there and long enough
    #[arg(long)]
    pub quick: bool,
}

#[derive(Debug, Args)]
#[command(
    override_usage = "icecore restore [OPTIONS] CHECKPOINT TARGET\n       icecore restore [OPTIONS] --from FOLDER TARGET"
)]
pub(super) struct RestoreArgs {
    /// CHECKPOINT: a number, a folder's name, or `latest`. TARGET: the folder to make
    #[arg(value_name = "CHECKPOINT TARGET", num_args = 1..=2, required = true)]
    pub what: Vec<PathBuf>,
    /// Restore the exported checkpoint in this folder, or at this address
    #[arg(long, value_name = "FOLDER")]
    pub from: Option<PathBuf>,
    /// An option of the remote store that --from names; may be given several times
    #[arg(long, value_name = "KEY=VALUE", requires = "from")]
    pub from_option: Vec<String>,
    /// The operator, where the checkpoint has several
    #[arg(long, value_name = "ID")]
    pub operator: Option<String>,
    /// The subtask, where the operator has several
    #[arg(long, value_name = "INDEX")]
    pub subtask: Option<u32>,
    /// If the checkpoint is damaged, take the newest older one that is sound
    #[arg(long)]
    pub fall_back: bool,
    /// A folder of a closed database whose files may be linked where they are the same, by hash
    #[arg(long, value_name = "FOLDER")]
    pub link_from: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct DiffArgs {
    /// The older checkpoint: a number, a folder's name, or `latest`
    pub a: String,
    /// The newer checkpoint
    pub b: String,
}

#[derive(Debug, Args)]
pub(super) struct WhyArgs {
    /// An object's path, a shared object's name, the beginning of a hash, or a file's name in its database
    pub file: String,
}

#[derive(Debug, Args)]
pub(super) struct DropArgs {
    /// Numbers or folder names
    #[arg(required = true)]
    pub checkpoints: Vec<String>,
    /// Only say what would be deleted
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub owner: OwnerArgs,
}

#[derive(Debug, Args)]
#[command(
    override_usage = "icecore repair [OPTIONS] --objects <CHECKPOINT|OBJECT|all>...\n       icecore repair [OPTIONS] CHECKPOINT"
)]
pub(super) struct RepairArgs {
    /// With --objects: checkpoints that are read for damage, or stored objects, or `all`. Without: one checkpoint
    /// whose index cannot be read
    #[arg(required = true, value_name = "WHAT")]
    pub what: Vec<String>,
    /// Share damaged objects no more, so that the next snapshot stores their content anew
    #[arg(long)]
    pub objects: bool,
    /// Only look whether every object is there and long enough
    #[arg(long, requires = "objects")]
    pub quick: bool,
    /// Only say what would be done
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub owner: OwnerArgs,
}

#[derive(Debug, Args)]
pub(super) struct RetainArgs {
    #[command(flatten)]
    pub keep: KeepArgs,
    /// Only say what would be deleted
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub owner: OwnerArgs,
}

#[derive(Debug, Args)]
pub(super) struct PinArgs {
    /// A number, a folder's name, or `latest`
    pub checkpoint: String,
    /// Why, for whoever wonders later
    #[arg(long)]
    pub reason: String,
    #[command(flatten)]
    pub owner: OwnerArgs,
}

#[derive(Debug, Args)]
pub(super) struct UnpinArgs {
    /// A number, a folder's name, or `latest`
    pub checkpoint: String,
    #[command(flatten)]
    pub owner: OwnerArgs,
}

#[derive(Debug, Args)]
pub(super) struct GcArgs {
    /// Only say what would be deleted
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub owner: OwnerArgs,
}

#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    /// A number, a folder's name, or `latest`
    pub checkpoint: String,
    /// The folder to make, outside any job's: on this machine, or by its address on a remote store
    pub target: PathBuf,
    /// An option of the remote store that TARGET names; may be given several times
    #[arg(long, value_name = "KEY=VALUE")]
    pub to_option: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct CopyArgs {
    /// The store to copy from, named as for --store. --job names the job
    pub from: String,
    /// The store to copy to
    pub to: String,
    /// An option of the store to copy from, such as region=eu-west-1; may be given several times
    #[arg(long, value_name = "KEY=VALUE")]
    pub from_option: Vec<String>,
    /// An option of the store to copy to; may be given several times
    #[arg(long, value_name = "KEY=VALUE")]
    pub to_option: Vec<String>,
    /// Only this checkpoint (a number, a folder's name, or `latest`); may be given several times
    #[arg(long, value_name = "CHECKPOINT")]
    pub checkpoint: Vec<String>,
    /// What the job is called at the target, if not the same
    #[arg(long, value_name = "ID")]
    pub to_job: Option<String>,
    /// Only say what would be copied
    #[arg(long)]
    pub dry_run: bool,
    /// After a damaged checkpoint go on with the others
    #[arg(long)]
    pub keep_going: bool,
    /// Copy also what cannot keep its number, or stands beside another job's state: it becomes the newest there
    #[arg(long)]
    pub on_top: bool,
    /// Pin at the target what is pinned at the source
    #[arg(long)]
    pub pins: bool,
    /// Copy the savepoint at this path of the source instead
    #[arg(long, value_name = "PATH", conflicts_with_all = ["checkpoint", "to_job", "keep_going", "on_top", "pins"])]
    pub savepoint: Option<String>,
    /// Where the savepoint goes, if not to the same path
    #[arg(long, value_name = "PATH", requires = "savepoint")]
    pub to_path: Option<String>,
    #[command(flatten)]
    pub owner: OwnerArgs,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn rates_are_sizes_a_second_and_never_nothing() {
        let read = |text| rate(text).ok().map(NonZeroU64::get);
        assert_eq!((read("10M"), read("1.5MiB/s")), (Some(10_000_000), Some(3 << 19)));
        assert_eq!((read("0"), read("0.1"), read("fast"), read("10M/m")), (None, None, None, None));
    }

    #[test]
    fn the_definitions_do_not_contradict_each_other() {
        Cli::command().debug_assert();
    }
}
