//! What a worker's process is started with.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use async_trait::async_trait;

use super::liveness::HeartbeatOptions;
use super::wire::Pass;
use crate::error::{Error, Result};

/// The environment variable that a worker's process finds its order in ([`LaunchOrder`]'s text form).
pub const ORDER_VARIABLE: &str = "ICECORE_WORKER_ORDER";

/// Where a worker reports, and as whom.
///
/// Text form: `<host:port> <generation> <worker> <cookie> <interval in ms> <timeout in ms>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaunchOrder {
    /// The manager's `host:port`.
    pub manager: String,
    /// Who the worker is.
    pub pass: Pass,
    /// How often it sends a heartbeat, and after how long without an answer it leaves.
    pub heartbeat: HeartbeatOptions,
}

impl LaunchOrder {
    /// The order that this process was started with; `None`: it is no worker.
    ///
    /// # Errors
    /// [`crate::ErrorKind::InvalidInput`] for one that cannot be read.
    pub fn of_this_process() -> Result<Option<Self>> {
        std::env::var(ORDER_VARIABLE).ok().map(|text| text.parse()).transpose()
    }
}

impl fmt::Display for LaunchOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { manager, pass: Pass { generation, worker, cookie }, heartbeat } = self;
        let (interval, timeout) = (heartbeat.interval.as_millis(), heartbeat.timeout.as_millis());
        write!(f, "{manager} {generation} {worker} {cookie} {interval} {timeout}")
    }
}

impl FromStr for LaunchOrder {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let fail = || {
            Error::invalid("read a worker's order", "it is no `host:port generation worker cookie interval timeout`")
                .with_advice("start workers through the job manager")
        };
        let number = |text: &str| text.parse::<u64>().map_err(|_| fail());
        let parts: Vec<&str> = text.split(' ').collect();
        let [manager, generation, worker, cookie, interval, timeout] = parts.as_slice() else { return Err(fail()) };
        let order = Self {
            manager: (*manager).to_owned(),
            pass: Pass {
                generation: number(generation)?,
                worker: worker.parse().map_err(|_| fail())?,
                cookie: cookie.parse()?,
            },
            heartbeat: HeartbeatOptions {
                interval: Duration::from_millis(number(interval)?),
                timeout: Duration::from_millis(number(timeout)?),
            },
        };
        order.heartbeat.check()?;
        Ok(order)
    }
}

/// A worker that came to its end without having been told to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Its generation.
    pub generation: u64,
    /// Which it was.
    pub worker: u32,
    /// How it ended, for a person.
    pub how: String,
    /// The exit code of its process, if it had one and came to its end by itself.
    pub exit_code: Option<i32>,
}

/// Starts workers and ends them: as processes of this machine ([`super::ProcessLauncher`]), or wherever an engine's
/// resources are.
#[async_trait]
pub trait Launcher: fmt::Debug + Send + Sync + 'static {
    /// Starts one worker. It need not have reported when this returns.
    ///
    /// # Errors
    /// It could not be started: the generation fails.
    async fn start(&self, order: &LaunchOrder) -> Result<()>;

    /// Ends every worker of a generation, with force. Must not wait for what cannot be reached: a worker that goes on
    /// nevertheless changes nothing.
    async fn end(&self, generation: u64);

    /// Those that ended by themselves since the last call. A launcher that cannot tell says nothing: the broken
    /// connection tells, or that a worker did not report in time.
    fn ended(&self) -> Vec<Ended> {
        Vec::new()
    }
}
