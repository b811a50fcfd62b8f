//! Kafka, NEXMark, Kafka, in several processes, and everything that can die dies: workers, the manager, the broker. What a
//! `read_committed` consumer sees is compared record by record with what a single thread computes from the same events.

#[path = "../support/job_process.rs"]
mod job_process;
#[path = "../job_kafka/kafka.rs"]
#[allow(dead_code, reason = "some of it is for other tests")]
mod kafka;
#[path = "../../examples/nexmark_queries/queries/mod.rs"]
#[allow(dead_code, unused_imports, reason = "three of the queries are run here")]
mod queries;
#[path = "../nexmark_queries/reference.rs"]
#[allow(dead_code, reason = "three of the queries are run here")]
mod reference;
#[path = "../services/mod.rs"]
mod services;
#[path = "../../examples/nexmark_queries/source.rs"]
#[allow(dead_code, reason = "the events alone are needed")]
mod source;

mod faults;
#[path = "../../examples/job_demo/pipeline.rs"]
mod pipeline;
mod processes;
mod refusals;
mod stage;

#[test]
#[ignore = "run by the other tests, in processes of its own"]
fn child_that_is_a_worker() {
    processes::be_a_worker();
}

#[test]
#[ignore = "run by the other tests, in a process of its own"]
fn child_that_is_a_manager() {
    processes::be_a_manager();
}
