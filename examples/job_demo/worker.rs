//! A worker, as `icecore job run` starts it.

use icecore::env::Env;
use icecore::job::LaunchOrder;
use icecore::job::dataflow::{DataflowOptions, StateBackend, run_job_worker};
use icecore::store::{StoreAddress, StoreOptions};
use icecore::{Error, Result};

use crate::WorkerOptions;
use crate::pipeline::{Question, Topics};

pub fn work(options: WorkerOptions) -> Result<()> {
    let question =
        Question::named(&options.query).ok_or_else(|| Error::invalid("choose a query", "there is none such"))?;
    let order = LaunchOrder::of_this_process()?.ok_or_else(|| {
        Error::invalid("be a worker", "a job manager starts workers: `icecore job run ... -- job_demo worker ...`")
    })?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|error| Error::io("start", "the runtime", error))?;
    runtime.block_on(async {
        let env = Env::system()?;
        let store = icecore::store::open(&StoreAddress::parse(&options.store)?, &StoreOptions::new(), env.clone())?;
        let mut dataflow = DataflowOptions::new(options.local);
        dataflow.backend = StateBackend::RocksDb(Default::default());
        let topics = Topics { bootstrap: options.bootstrap, events: options.events, results: options.results };
        run_job_worker(order, store, env, dataflow, move |scope, start, checkpoints| {
            question.build(scope, start, &topics, checkpoints)
        })
        .await
    })
}
