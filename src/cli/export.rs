//! `export CHECKPOINT FOLDER`: a copy that stands on its own.

use std::path::Path;

use serde::Serialize;

use super::args::ExportArgs;
use super::output::Done;
use super::place::{Place, folder_address, options};
use super::progress::Bar;
use super::select::{find, open, open_unknown};
use super::text::{count, size};
use crate::error::{Error, Result};
use crate::layout::JobLayout;
use crate::restore::export_checkpoint;
use crate::store::StoreAddress;
use crate::transfer::TransferLimits;

#[derive(Debug, Serialize)]
struct Report {
    job: String,
    checkpoint: u64,
    folder: String,
    target: String,
    files: u64,
    bytes: u64,
}

pub(super) async fn run(place: &Place, args: ExportArgs) -> Result<Done> {
    let (job, view) = place.view().await?;
    let address = folder_address(&args.target)?;
    refuse_inside_a_job(&address)?;
    let checkpoint = match open_unknown(place, &job, &view, &args.checkpoint).await? {
        Some(checkpoint) => checkpoint,
        None => open(&job, find(&view, &args.checkpoint)?)?,
    };
    let target = place.open(&address, &options(None, &args.to_option)?).await?;
    let bar = Bar::new(place.output, "export");
    place.signals.awaits();
    let written = tokio::select! {
        biased;
        written = export_checkpoint(&place.env, &checkpoint, &target, None, TransferLimits::default(), &bar) => written?,
        () = place.signals.received() => {
            return Err(place.signals.error("the target is unfinished (it has no `_metadata`); remove it"));
        }
    };
    bar.finish();
    let report = Report {
        job: job.layout.job().to_string(),
        checkpoint: checkpoint.metadata.checkpoint.0,
        folder: checkpoint.metadata.folder().to_string(),
        target: args.target.display().to_string(),
        files: written.files,
        bytes: written.bytes,
    };
    let (files, bytes) = (count(report.files, "file"), size(report.bytes));
    let text = format!("exported checkpoint {} to {}: {files}, {bytes}", report.checkpoint, report.target);
    Done::new(text, &report)
}

/// A folder below a job's would be taken for an orphan, or left alone as unknown, but never be safe.
fn refuse_inside_a_job(target: &StoreAddress) -> Result<()> {
    let is_inside = match target {
        StoreAddress::Local(folder) => lies_in_a_job(folder)?,
        // What lies above it cannot be seen from there: the name is enough.
        StoreAddress::S3 { prefix, .. } | StoreAddress::Hdfs { prefix, .. } => {
            prefix.split('/').any(|name| JobLayout::job_of_folder(name).is_some())
        }
        StoreAddress::Memory => false,
    };
    match is_inside {
        false => Ok(()),
        true => Err(Error::invalid("export a checkpoint", "the target lies in a job's folder, where retention rules")
            .with_object(target)
            .with_advice("name a folder outside any job's")),
    }
}

fn lies_in_a_job(folder: &Path) -> Result<bool> {
    let absolute =
        std::path::absolute(folder).map_err(|error| Error::io("export a checkpoint", folder.display(), error))?;
    let is_a_jobs = |folder: &Path| {
        let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        JobLayout::job_of_folder(name).is_some() && folder.join("epochs").is_dir()
    };
    Ok(absolute.ancestors().any(is_a_jobs))
}
