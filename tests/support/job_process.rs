//! The processes of a job: its manager, and what it has started.
#![allow(dead_code)] // each test binary uses some of it

use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A job's manager that is a process. Dropping it kills it.
pub struct ManagerProcess(Child);

impl ManagerProcess {
    pub fn start(mut command: Command) -> Self {
        Self(command.spawn().unwrap())
    }

    /// Whether it came to its end in good order; `None` while it runs.
    pub fn ended(&mut self) -> Option<bool> {
        self.0.try_wait().unwrap().map(|status| status.success())
    }

    pub fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    pub fn signal(&self, name: &str) {
        signal(self.0.id(), name);
    }

    /// The processes that it has started and that live.
    pub fn workers(&self) -> Vec<u32> {
        let own = self.0.id();
        let mut workers: Vec<u32> = std::fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter(|process| parent_of(*process) == Some(own))
            .collect();
        workers.sort_unstable();
        workers
    }
}

impl Drop for ManagerProcess {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The parent of a process that is no zombie.
fn parent_of(process: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?;
    (state != "Z").then(|| fields.next()?.parse().ok()).flatten()
}

pub fn signal(process: u32, name: &str) {
    // One that has ended meanwhile cannot be told anything.
    let _ = Command::new("kill").args([format!("-{name}"), process.to_string()]).stderr(Stdio::null()).status();
}

/// What a manager's or a worker's process runs in. What it logs goes to its standard error.
pub fn runtime() -> tokio::runtime::Runtime {
    #[cfg(feature = "cli")]
    tracing_subscriber::fmt().with_ansi(false).with_writer(std::io::stderr).with_max_level(tracing::Level::INFO).init();
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Lays a wish for a manager's process into its folder, whole: that may look at any moment.
#[allow(dead_code, reason = "the tests of the command have no such process")]
pub fn wish(folder: &Path, name: &str, text: &str) {
    let new = folder.join(format!("{name}.new"));
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, folder.join(name)).unwrap();
}

/// The wish that lies there, if one does.
pub fn taken_wish(folder: &Path, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(folder.join(name)).ok()?;
    std::fs::remove_file(folder.join(name)).unwrap();
    Some(text)
}
