//! Workers as processes of this machine.

use std::fmt;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};

use async_trait::async_trait;
use parking_lot::Mutex;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

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

impl Worker {
    /// How its process has ended, if it has. What that has started ends, too.
    fn end(&mut self) -> std::io::Result<Option<ExitStatus>> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let has_ended = match i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            Some(process) => waitid(WaitId::Pid(process), options)?.is_some(),
            None => true,
        };
        if !has_ended {
            return Ok(None);
        }
        // Before its number is given away.
        self.kill();
        self.child.try_wait()
    }

    /// SIGKILL to its group, which stopped processes hear, too. It fails only for one that has ended already: as long as its end was not
    /// waited for, nobody else has its number.
    fn kill(&self) {
        let group = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(group) = group
            && let Err(error) = kill_process_group(group, Signal::KILL)
        {
            tracing::debug!(worker = self.worker, %error, "could not kill a worker");
        }
    }
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
        // A group of its own: the command may be a script that starts the worker, and both are to end.
        command.process_group(0);
        // A group in the background that reads a terminal is stopped.
        command.stdin(Stdio::null());
        let program = command.get_program().to_string_lossy().into_owned();
        let child = command.spawn().map_err(|error| Error::io("start a worker's process", program, error))?;
        let Pass { generation, worker, .. } = order.pass;
        self.children.lock().push(Worker { generation, worker, child, is_killed: false });
        Ok(())
    }

    async fn end(&self, generation: u64) {
        for worker in self.children.lock().iter_mut().filter(|worker| worker.generation == generation) {
            worker.is_killed = true;
            worker.kill();
        }
    }

    fn ended(&self) -> Vec<Ended> {
        let mut ended = Vec::new();
        self.children.lock().retain_mut(|worker| {
            let status = match worker.end() {
                Ok(None) => return true,
                Ok(Some(status)) => Ok(status),
                Err(error) => Err(error),
            };
            if !worker.is_killed {
                let exit_code = status.as_ref().ok().and_then(ExitStatus::code);
                let how =
                    status.map_or_else(|error| format!("its end cannot be told: {error}"), |status| status.to_string());
                let how = format!("its process ended: {how}");
                ended.push(Ended { generation: worker.generation, worker: worker.worker, how, exit_code });
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
            worker.kill();
            if let Err(error) = worker.child.wait() {
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::job::HeartbeatOptions;
    use crate::job::wire::Cookie;

    #[tokio::test]
    async fn what_a_worker_s_command_has_started_ends_with_it_though_it_is_stopped() {
        ends_with_all_it_has_started("kill -STOP $!", "wait", true).await;
    }

    #[tokio::test]
    async fn what_a_worker_s_command_has_started_does_not_outlive_it() {
        ends_with_all_it_has_started("true", "exit 1", false).await;
    }

    async fn ends_with_all_it_has_started(first: &str, then: &str, is_told_to: bool) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("child");
        let script = format!("sleep 1000 & {first}; echo $! > {}.new; mv {0}.new {0}; {then}", file.display());
        let launcher = ProcessLauncher::new(move |_| {
            let mut command = Command::new("sh");
            command.args(["-c", &script]);
            command
        });
        let pass = Pass { generation: 1, worker: 0, cookie: Cookie { first: 1, second: 2 } };
        let order = LaunchOrder { manager: "127.0.0.1:1".to_owned(), pass, heartbeat: HeartbeatOptions::default() };
        launcher.start(&order).await.unwrap();
        let until = async |is_so: &dyn Fn() -> bool| {
            for _ in 0..2_000 {
                if is_so() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            panic!("it never came");
        };
        until(&|| file.exists()).await;
        let child = std::fs::read_to_string(&file).unwrap();
        // One that has ended and was not waited for is there still, as a zombie.
        let lives = || {
            let state = std::fs::read_to_string(format!("/proc/{}/stat", child.trim())).unwrap_or_default();
            !state.is_empty() && !state.contains(") Z ")
        };
        assert!(lives());
        if is_told_to {
            launcher.end(1).await;
            until(&|| launcher.ended().is_empty() && launcher.process_ids(1).is_empty()).await;
        } else {
            until(&|| launcher.ended().first().is_some_and(|ended| ended.exit_code == Some(1))).await;
        }
        until(&|| !lives()).await;
    }
}
