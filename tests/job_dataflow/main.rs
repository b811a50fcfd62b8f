//! Timely dataflows in several processes under a job manager: whatever happens to them, each output comes out once.
//!
//! `numbers -> counts (by split and word) -> sums (by another key) -> files`, two to four workers, each a process of this program.

mod dataflow;
mod disturbed;
mod endings;
mod fetches;
mod job;
#[path = "../support/job_process.rs"]
mod job_process;
mod managers;
mod restores;
#[path = "../support/test_store.rs"]
mod test_store;

#[test]
#[ignore = "run by the other tests, in processes of its own"]
fn child_that_is_a_worker() {
    job::be_a_worker();
}

#[test]
#[ignore = "run by the other tests, in a process of its own"]
fn child_that_is_a_manager() {
    job::be_a_manager();
}
