//! A job manager and its workers: what is noticed, what is restarted, and that the result is exact.
//!
//! `in_process` has workers as tasks over the loopback interface, `killed` as processes that are killed, stopped and moved.

mod in_process;
mod killed;
mod support;
mod workload;

#[test]
#[ignore = "run by the tests of `killed`, in processes of its own"]
fn child_that_is_a_worker() {
    support::be_a_worker();
}

#[cfg(feature = "rocksdb")]
#[test]
#[ignore = "run by a test of `killed`, in processes of its own"]
fn child_that_leaves_while_databases_open() {
    support::leave_while_databases_open();
}
