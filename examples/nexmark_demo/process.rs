//! The job's process, seen from the demo: started, listened to, killed.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};

use icecore::{Error, ErrorKind, Result};

use crate::protocol::{JOB_VARIABLE, JobConfig, Report};

/// A running job.
pub struct JobProcess {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl JobProcess {
    /// Starts this very program as the job.
    pub fn start(config: &JobConfig) -> Result<Self> {
        let fail = |error| Error::io("start the job's process", "this program", error);
        let program = std::env::current_exe().map_err(fail)?;
        let config = serde_json::to_string(config)
            .map_err(|error| Error::new(ErrorKind::Internal, "start the job's process", error.to_string()))?;
        // Its input ends when the demo ends, however that happens, and then the job ends, too.
        let mut child = Command::new(program)
            .env(JOB_VARIABLE, config)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(fail)?;
        let out = child.stdout.take().ok_or_else(|| fail(std::io::Error::other("its output is not piped")))?;
        Ok(Self { child, lines: BufReader::new(out).lines() })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it says next; `None` when it has ended.
    pub fn next_report(&mut self) -> Result<Option<Report>> {
        let fail = |error| Error::io("listen to the job's process", "its output", error);
        let Some(line) = self.lines.next() else {
            let status = self.child.wait().map_err(fail)?;
            return if status.success() { Ok(None) } else { Err(failed(format!("it ended with {status}"))) };
        };
        let line = line.map_err(fail)?;
        match serde_json::from_str(&line) {
            Ok(Report::Failed { error }) => Err(failed(error)),
            Ok(report) => Ok(Some(report)),
            Err(error) => Err(failed(format!("it said {line:?}: {error}"))),
        }
    }

    /// kill -9, and how it ended.
    pub fn kill(mut self) -> Result<String> {
        let process = self.child.id();
        let fail = |error| Error::io("kill the job's process", process, error);
        self.child.kill().map_err(fail)?;
        let status = self.child.wait().map_err(fail)?;
        Ok(status.to_string())
    }
}

impl Drop for JobProcess {
    fn drop(&mut self) {
        // If the demo fails, its job goes with it. One that has ended already cannot be killed: fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn failed(why: String) -> Error {
    Error::new(ErrorKind::Internal, "run the job", why)
}
