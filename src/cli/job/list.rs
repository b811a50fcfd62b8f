//! `job list`: the jobs of a store, and which of them run.

use futures::StreamExt;
use serde::Serialize;

use super::tenure::Tenure;
use crate::cli::output::Done;
use crate::cli::place::{Job, Place};
use crate::cli::text::{Align, Table};
use crate::error::Result;
use crate::job::manager::last_event;
use crate::job::report::{CheckpointRecord, EventRecord};
use crate::layout::JobLayout;

/// How many jobs are asked at once.
const AT_ONCE: usize = 16;

#[derive(Debug, Serialize)]
struct Row {
    job: String,
    /// As the manager says; `held`: by who serves no port; `held, and does not answer`; `not running`, and how it ended if that is known; `cannot be read: why`.
    state: String,
    generation: Option<u64>,
    workers: Option<u32>,
    newest_checkpoint: Option<u64>,
    holder: Option<String>,
    page: Option<String>,
}

#[derive(Debug, Serialize)]
struct Listing {
    store: String,
    jobs: Vec<Row>,
}

pub(super) async fn run(place: &Place) -> Result<Done> {
    let store = place.store().await?;
    let children = store.list_children(None).await?;
    let jobs = children.iter().filter_map(|child| JobLayout::job_of_folder(&child.name));
    let jobs: Vec<Job> =
        jobs.map(|id| Ok(Job { store: store.clone(), layout: JobLayout::new(id)? })).collect::<Result<_>>()?;
    let rows: Vec<Row> = futures::stream::iter(jobs).map(|job| row(place, job)).buffered(AT_ONCE).collect().await;
    let listing = Listing { store: store.describe(), jobs: rows };
    Done::new(text(&listing), &listing)
}

async fn row(place: &Place, job: Job) -> Row {
    let mut row = Row {
        job: job.layout.job().to_string(),
        state: "not running".to_owned(),
        generation: None,
        workers: None,
        newest_checkpoint: None,
        holder: None,
        page: None,
    };
    let tenure = match Tenure::of(&job).await {
        Ok(tenure) => tenure,
        // No reason to show nothing of the others.
        Err(error) => {
            row.state = format!("cannot be read: {error}");
            return row;
        }
    };
    let Some(tenure) = tenure else {
        if let Ok(Some(last)) = last_event(&job.store, &job.layout).await
            && let Some(ending) = ending_of(&last)
        {
            row.state = format!("not running: {ending}");
        }
        return row;
    };
    row.page = tenure.address.map(|address| format!("http://{address}"));
    match tenure.report(&job, &place.env).await {
        Some(report) => {
            row.state = report.state;
            row.generation = Some(report.generation);
            row.workers = Some(report.parallelism);
            let complete = |record: &&CheckpointRecord| record.status == "complete";
            row.newest_checkpoint = report.checkpoints.iter().find(complete).map(|record| record.checkpoint);
        }
        // Killed, or on a machine that is not reached from here; or another job has its port now.
        None if tenure.address.is_some() => "held, and does not answer".clone_into(&mut row.state),
        None => "held".clone_into(&mut row.state),
    }
    row.holder = Some(tenure.holder);
    row
}

/// `finished`, `cancelled` or `failed`, if that is what the event says.
pub(super) fn ending_of(event: &EventRecord) -> Option<&'static str> {
    match event.kind.as_str() {
        "finished" => Some("finished"),
        "cancelled" => Some("cancelled"),
        "over" => Some("failed"),
        _ => None,
    }
}

fn text(listing: &Listing) -> String {
    use Align::{Left, Right};
    if listing.jobs.is_empty() {
        return format!("{} holds no job", listing.store);
    }
    let mut table = Table::new([
        ("JOB", Left),
        ("STATE", Left),
        ("GENERATION", Right),
        ("WORKERS", Right),
        ("CP", Right),
        ("HELD BY", Left),
    ]);
    let shown = |number: Option<u64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
    for row in &listing.jobs {
        table.row([
            row.job.clone(),
            row.state.clone(),
            shown(row.generation),
            shown(row.workers.map(u64::from)),
            shown(row.newest_checkpoint),
            row.holder.clone().unwrap_or_default(),
        ]);
    }
    table.render()
}
