//! `icecore job`, and the port that its manager serves: jobs of real workers, run and asked by the command.

mod command;
#[path = "../job_dataflow/dataflow.rs"]
mod dataflow;
mod ends;
mod http;
#[path = "../job_dataflow/job.rs"]
#[allow(dead_code, reason = "some of it is for a manager in the test")]
mod job;
#[path = "../support/job_process.rs"]
mod job_process;
mod refusals;
mod runs;

#[test]
#[ignore = "run by the other tests, in processes of its own"]
fn child_that_is_a_worker() {
    job::be_a_worker();
}
