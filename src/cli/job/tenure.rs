//! Who has a job: its newest claim on the store, and what the manager that wrote it says.

use std::net::SocketAddr;

use crate::cli::owner::read_claim;
use crate::cli::place::Job;
use crate::env::Env;
use crate::error::Result;
use crate::job::http::{JobClient, address_of_holder};
use crate::job::report::JobReport;
use crate::layout::Epoch;
use crate::ownership::Epochs;

/// A claim that has not ended.
#[derive(Debug)]
pub(super) struct Tenure {
    owner: Epoch,
    /// What who claimed the job calls itself.
    pub(super) holder: String,
    /// Where it is asked, if it says so. The claim may be old, and the port somebody else's by now.
    pub(super) address: Option<SocketAddr>,
}

impl Tenure {
    /// The one that the job is in, if it is in one.
    ///
    /// # Errors
    /// As [`Epochs::list`] and [`read_claim`].
    pub(super) async fn of(job: &Job) -> Result<Option<Self>> {
        let Some(owner) = Epochs::list(&*job.store, &job.layout).await?.living_owner() else { return Ok(None) };
        let holder = read_claim(job, owner).await?.holder;
        let address = address_of_holder(&holder);
        Ok(Some(Self { owner, holder, address }))
    }

    /// Whether who says that is the job's manager in this tenure.
    pub(super) fn is_of(&self, job: &Job, report: &JobReport) -> bool {
        report.job == job.layout.job().as_str() && report.manager.epoch == self.owner.to_string()
    }

    /// What the manager says, if it answers where the claim says that it is.
    pub(super) async fn report(&self, job: &Job, env: &Env) -> Option<JobReport> {
        let report = JobClient::new(self.address?, env.clone()).report().await.ok()?;
        self.is_of(job, &report).then_some(report)
    }
}
