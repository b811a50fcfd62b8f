//! The job manager's web page in a real browser, by keyboard alone, of a job that really runs.

mod browser;
#[path = "../job_command/command.rs"]
#[allow(dead_code, reason = "some of it is for the tests of the command")]
mod command;
#[path = "../job_dataflow/dataflow.rs"]
#[allow(dead_code, reason = "outputs are compared by other tests")]
mod dataflow;
#[path = "../job_dataflow/job.rs"]
#[allow(dead_code, reason = "some of it is for a manager in the test")]
mod job;
#[path = "../support/job_process.rs"]
mod job_process;
mod page;

#[test]
#[ignore = "run by the other tests, in processes of its own"]
fn child_that_is_a_worker() {
    job::be_a_worker();
}
