//! Workers as processes of this machine.

use std::fmt;
use std::process::{Child, Command, ExitStatus};

use async_trait::async_trait;
use parking_lot::Mutex;

use super::launch::{Ended, LaunchOrder, Launcher, ORDER_VARIABLE};
use super::wire::Pass;
use crate::error::{Error, Result};

/// Starts each worker by a command that finds its order in [`ORDER_VARIABLE`].
pub struct ProcessLauncher {
    command: Box<dyn Fn(&LaunchOrder) -> Command + Send + Sync>,
    children: Mutex<Vec<Worker>>,
}

struct Worker {
    generation: u64,
    worker: u32,
    child: Child,
    /// It was told to end: how it does is nobody's failure.
    is_killed: bool,
}

impl ProcessLauncher {
    /// `command` gives the command of a worker, without its order.
    pub fn new(command: impl Fn(&LaunchOrder) -> Command + Send + Sync + 'static) -> Self {
        Self { command: Box::new(command), children: Mutex::default() }
    }

    /// The process ids of the workers of a generation that have not ended, by their numbers.
    pub fn process_ids(&self, generation: u64) -> Vec<(u32, u32)> {
        let children = self.children.lock();
        let own = children.iter().filter(|child| child.generation == generation);
        own.map(|child| (child.worker, child.child.id())).collect()
    }
}

#[async_trait]
impl Launcher for ProcessLauncher {
    async fn start(&self, order: &LaunchOrder) -> Result<()> {
        let mut command = (self.command)(order);
        command.env(ORDER_VARIABLE, order.to_string());
        let program = command.get_program().to_string_lossy().into_owned();
        let child = command.spawn().map_err(|error| Error::io("start a worker's process", program, error))?;
        let Pass { generation, worker, .. } = order.pass;
        self.children.lock().push(Worker { generation, worker, child, is_killed: false });
        Ok(())
    }

    async fn end(&self, generation: u64) {
        for worker in self.children.lock().iter_mut().filter(|worker| worker.generation == generation) {
            worker.is_killed = true;
            // SIGKILL, which a stopped process hears, too. It fails only for one that has ended already.
            if let Err(error) = worker.child.kill() {
                tracing::debug!(worker = worker.worker, %error, "could not kill a worker");
            }
        }
    }

    fn ended(&self) -> Vec<Ended> {
        let mut ended = Vec::new();
        self.children.lock().retain_mut(|worker| {
            let status = match worker.child.try_wait() {
                Ok(None) => return true,
                Ok(Some(status)) => status.to_string(),
                Err(error) => format!("its end cannot be told: {error}"),
            };
            if !worker.is_killed {
                let how = format!("its process ended: {status}");
                ended.push(Ended { generation: worker.generation, worker: worker.worker, how });
            }
            false
        });
        ended
    }
}

impl Drop for ProcessLauncher {
    /// Leaves no process behind.
    fn drop(&mut self) {
        for worker in self.children.get_mut() {
            let ended: std::io::Result<ExitStatus> = worker.child.kill().and_then(|()| worker.child.wait());
            if let Err(error) = ended {
                tracing::warn!(worker = worker.worker, %error, "a worker's process may be left behind");
            }
        }
    }
}

impl fmt::Debug for ProcessLauncher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessLauncher").field("children", &self.children.lock().len()).finish_non_exhaustive()
    }
}
