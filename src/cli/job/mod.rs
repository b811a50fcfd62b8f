//! `job`: runs a job, and asks a running one.

mod ask;
mod list;
mod run;
mod status;
mod tenure;

use std::net::SocketAddr;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::args::KeepArgs;
use super::output::Done;
use super::place::Place;
use crate::error::{Error, Result};
use crate::job::RestartStrategy;
use crate::job::manager::{ManagedOperator, OnDamage};
use crate::keygroup::MaxParallelism;
use crate::layout::OperatorId;
use crate::store::{StorePath, parse_duration};

#[derive(Debug, Args)]
pub(in crate::cli) struct JobArgs {
    #[command(subcommand)]
    command: JobCommand,
}

#[derive(Debug, Subcommand)]
enum JobCommand {
    /// Run a job: start its workers, take checkpoints, recover from failures, until it ends or is stopped
    Run(Box<RunArgs>),
    /// List the jobs of the store, and which of them run
    List,
    /// Show how a job is: workers, checkpoints, failures
    Status(StatusArgs),
    /// Take a checkpoint now and wait until it is complete
    Checkpoint(CheckpointArgs),
    /// Take a savepoint: a checkpoint that stands for itself and that you own
    Savepoint(SavepointArgs),
    /// Go on with another number of workers, from a checkpoint that is taken first
    Rescale(RescaleArgs),
    /// Stop in good order: a last checkpoint, all outputs committed
    Stop(StopArgs),
    /// End a job at once
    Cancel(CancelArgs),
}

#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// A stateful operator and into how many key groups its keys are hashed, such as count:128; one for each operator
    #[arg(long, value_name = "ID:MAX-PARALLELISM", required = true, value_parser = operator)]
    pub(super) operator: Vec<ManagedOperator>,
    /// How many workers there are at first
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(super) workers: u32,
    /// Time between two checkpoints, such as 10s; `none`: only when somebody asks
    #[arg(long, default_value = "10s", value_name = "TIME", value_parser = interval)]
    pub(super) interval: Interval,
    /// Time between the end of a checkpoint and the next
    #[arg(long, default_value = "0s", value_name = "TIME", value_parser = parse_duration)]
    pub(super) min_pause: Duration,
    /// How long a checkpoint may take
    #[arg(long, default_value = "10m", value_name = "TIME", value_parser = parse_duration)]
    pub(super) timeout: Duration,
    /// How many checkpoints in a row may fail before the workers are started again
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(super) tolerable_failures: u32,
    #[command(flatten)]
    pub(super) keep: KeepArgs,
    /// How often workers say that they are alive
    #[arg(long, default_value = "10s", value_name = "TIME", value_parser = parse_duration)]
    pub(super) heartbeat_interval: Duration,
    /// After how long a worker that is silent, or stands still, has failed
    #[arg(long, default_value = "50s", value_name = "TIME", value_parser = parse_duration)]
    pub(super) heartbeat_timeout: Duration,
    /// How long all workers may take to report after they were started
    #[arg(long, default_value = "5m", value_name = "TIME", value_parser = parse_duration)]
    pub(super) startup_timeout: Duration,
    /// none, fixed-delay, failure-rate or exponential-delay, with parameters: fixed-delay,attempts=3,delay=10s
    #[arg(long, default_value = "exponential-delay", value_name = "STRATEGY")]
    pub(super) restart: RestartStrategy,
    /// Begin with the checkpoint or savepoint in this folder of the store, not with the newest checkpoint
    #[arg(long, value_name = "PATH", value_parser = folder)]
    pub(super) from: Option<StorePath>,
    /// Begin with it though the job has a newer checkpoint: what was put out since is put out again
    #[arg(long, requires = "from")]
    pub(super) rewind: bool,
    /// Take the job from a manager that runs it and answers
    #[arg(long)]
    pub(super) take_over: bool,
    /// What to do when a checkpoint that is to be restored is damaged: fail, or fall back to the one before
    #[arg(long, value_enum, default_value_t = DamageArg::Fail)]
    pub(super) on_damage: DamageArg,
    /// Begin although the checkpoint has state of operators that are not named: it is dropped with the checkpoint
    #[arg(long)]
    pub(super) allow_non_restored_state: bool,
    /// Where workers report
    #[arg(long, default_value = "127.0.0.1:0", value_name = "IP:PORT")]
    pub(super) listen: SocketAddr,
    /// Where the web page, the metrics and the other `job` commands are served
    #[arg(long, default_value = "127.0.0.1:0", value_name = "IP:PORT")]
    pub(super) http: SocketAddr,
    /// The address under which others reach that, if it is not the same
    #[arg(long, value_name = "IP:PORT")]
    pub(super) http_advertise: Option<SocketAddr>,
    /// The command of a worker; it finds what it is to do in ICECORE_WORKER_ORDER
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(super) command: Vec<String>,
}

/// Which manager is asked.
#[derive(Clone, Copy, Debug, Args)]
struct ManagerArgs {
    /// The manager's address, if the claim on the store does not tell it
    #[arg(long, value_name = "IP:PORT")]
    manager: Option<SocketAddr>,
}

#[derive(Debug, Args)]
struct StatusArgs {
    /// How many checkpoints and events to show
    #[arg(long, default_value_t = 10, value_name = "N")]
    last: usize,
    #[command(flatten)]
    manager: ManagerArgs,
}

#[derive(Debug, Args)]
struct CheckpointArgs {
    /// Write every byte anew
    #[arg(long)]
    full: bool,
    #[command(flatten)]
    manager: ManagerArgs,
}

#[derive(Debug, Args)]
struct SavepointArgs {
    /// Where it shall lie, relative to the store
    #[arg(value_parser = folder)]
    path: StorePath,
    #[command(flatten)]
    manager: ManagerArgs,
}

#[derive(Debug, Args)]
struct RescaleArgs {
    /// How many there shall be
    workers: u32,
    #[command(flatten)]
    manager: ManagerArgs,
}

#[derive(Debug, Args)]
struct StopArgs {
    /// Take a savepoint last, to this path of the store
    #[arg(long, value_name = "PATH", value_parser = folder)]
    savepoint: Option<StorePath>,
    #[command(flatten)]
    manager: ManagerArgs,
}

#[derive(Debug, Args)]
struct CancelArgs {
    /// Drop its checkpoints, too; those that somebody holds stay
    #[arg(long)]
    drop_checkpoints: bool,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    manager: ManagerArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum DamageArg {
    Fail,
    FallBack,
}

impl From<DamageArg> for OnDamage {
    fn from(arg: DamageArg) -> Self {
        match arg {
            DamageArg::Fail => Self::Fail,
            DamageArg::FallBack => Self::FallBack,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Interval(pub(super) Option<Duration>);

fn interval(text: &str) -> Result<Interval> {
    match text {
        "none" => Ok(Interval(None)),
        time => parse_duration(time).map(|time| Interval(Some(time))),
    }
}

/// A folder of the store, also as shells complete it: with a slash at its end.
fn folder(text: &str) -> Result<StorePath> {
    StorePath::new(text.trim_end_matches('/'))
}

fn operator(text: &str) -> Result<ManagedOperator> {
    let (id, number) = text.rsplit_once(':').ok_or_else(|| {
        Error::invalid("read an operator", "it says nothing of key groups").with_advice("write it as count:128")
    })?;
    let number = number.parse().map_err(|_| {
        Error::invalid("read an operator", "its max parallelism is no number").with_advice("write it as count:128")
    })?;
    Ok(ManagedOperator { operator: OperatorId::new(id)?, max_parallelism: MaxParallelism::new(number)? })
}

pub(in crate::cli) async fn run(place: &Place, args: JobArgs) -> Result<Done> {
    match args.command {
        JobCommand::Run(args) => run::run(place, *args).await,
        JobCommand::List => list::run(place).await,
        JobCommand::Status(args) => status::run(place, args.manager, args.last).await,
        JobCommand::Checkpoint(args) => ask::checkpoint(place, args.manager, args.full).await,
        JobCommand::Savepoint(args) => ask::savepoint(place, args.manager, &args.path).await,
        JobCommand::Rescale(args) => ask::rescale(place, args.manager, args.workers).await,
        JobCommand::Stop(args) => ask::stop(place, args.manager, args.savepoint.as_ref()).await,
        JobCommand::Cancel(args) => ask::cancel(place, args.manager, args.drop_checkpoints, args.dry_run).await,
    }
}
