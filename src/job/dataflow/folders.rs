//! The folders of a job's runs on one machine: `<local folder>/<job>/<epoch>-<generation>/<worker>/<operator>`.
//!
//! No two runs share one, so a worker that was paused and goes on writes into nobody's folder but its own. What earlier runs
//! left is a store of files that need not be fetched: it is kept until all workers of this run have restored, which a first
//! complete checkpoint shows, and then removed. Runs are told apart by their order, so a stale worker removes nothing of a newer one.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::remote::RemoteControl;
use crate::env::Env;
use crate::job::wire::Deployment;
use crate::layout::{Epoch, OperatorId};

/// Folders of earlier runs that are looked at. More than are left unless a job fails many times before its first checkpoint.
const MAX_FOLDERS: usize = 256;

/// A run among all that a job ever had, in their order.
type Run = (Epoch, u64);

/// The folder of one worker of one run.
#[derive(Clone, Debug)]
pub(super) struct RunFolder {
    job: PathBuf,
    run: Run,
    worker: u32,
}

impl RunFolder {
    pub(super) fn new(local: &Path, deployment: &Deployment) -> Self {
        let run = (deployment.epoch, deployment.generation);
        Self { job: local.join(deployment.job.as_str()), run, worker: deployment.worker }
    }

    fn of_run(&self) -> PathBuf {
        let (epoch, generation) = self.run;
        self.job.join(format!("{epoch}-{generation}"))
    }

    /// Where the database of an operator is.
    #[cfg(feature = "rocksdb")]
    pub(super) fn of_operator(&self, operator: &OperatorId) -> PathBuf {
        self.of_run().join(self.worker.to_string()).join(operator.as_str())
    }

    /// Where earlier runs had databases of an operator, the newest first. Files there are linked only if their content is the right one.
    pub(super) fn left_by_others(&self, operator: &OperatorId) -> Vec<PathBuf> {
        let mut older = self.older();
        older.sort_by(|(one, _), (other, _)| other.cmp(one));
        let workers = older.into_iter().flat_map(|(_, folder)| entries(&folder));
        let databases = workers.map(|worker| worker.join(operator.as_str()));
        databases.filter(|database| database.is_dir()).take(MAX_FOLDERS).collect()
    }

    fn older(&self) -> Vec<(Run, PathBuf)> {
        let runs = entries(&self.job).into_iter().filter_map(|folder| Some((run_of(&folder)?, folder)));
        runs.filter(|(run, _)| *run < self.run).collect()
    }

    /// Removes what earlier runs left, once a checkpoint of this one is complete.
    pub(super) async fn remove_older(self, control: Arc<RemoteControl>, env: Env) {
        if control.first_complete().await.is_err() {
            return;
        }
        let removed = env.blocking(move || {
            for (_, folder) in self.older() {
                // Another worker of this run may be removing it, too.
                if let Err(error) = fs::remove_dir_all(&folder) {
                    tracing::debug!(folder = %folder.display(), %error, "the folder of an earlier run is left");
                }
            }
        });
        if let Err(error) = removed.await {
            tracing::debug!(%error, "folders of earlier runs are left");
        }
    }
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).take(MAX_FOLDERS).collect()
}

/// `None` for a folder that is no run's.
fn run_of(folder: &Path) -> Option<Run> {
    let (epoch, generation) = folder.file_name()?.to_str()?.rsplit_once('-')?;
    Some((epoch.parse().ok()?, generation.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::{JobId, Uid};

    fn deployment(counter: u64, generation: u64) -> Deployment {
        Deployment {
            job: JobId::new("a").unwrap(),
            generation,
            worker: 1,
            peers: vec![String::new(); 2],
            operators: Vec::new(),
            restore: None,
            epoch: Epoch { counter, uid: Uid(7) },
            newest: crate::layout::CheckpointId(0),
            is_pausing: false,
        }
    }

    #[test]
    fn runs_are_in_the_order_of_tenures_then_generations() {
        let folder = tempfile::tempdir().unwrap();
        let run = |counter, generation| RunFolder::new(folder.path(), &deployment(counter, generation));
        let runs = [run(9, 1), run(9, 2), run(9, 10), run(10, 1)];
        for run in &runs {
            fs::create_dir_all(run.of_run()).unwrap();
        }
        fs::create_dir_all(folder.path().join("a/lost+found")).unwrap();
        for (number, run) in runs.iter().enumerate() {
            assert_eq!(run.older().len(), number, "{run:?}");
        }
    }

    #[test]
    fn databases_of_earlier_runs_are_found_the_newest_first() {
        let folder = tempfile::tempdir().unwrap();
        let run = |counter, generation| RunFolder::new(folder.path(), &deployment(counter, generation));
        let operator = OperatorId::new("count").unwrap();
        let database = |run: &RunFolder| run.of_run().join("0").join("count");
        let runs = [run(1, 2), run(1, 10), run(2, 1), run(3, 1)];
        for run in &runs {
            fs::create_dir_all(database(run)).unwrap();
        }
        let found = runs[2].left_by_others(&operator);
        assert_eq!(found, [database(&runs[1]), database(&runs[0])]);
    }
}
