//! Planning a sweep: every object of the job's folder is judged (S1, S2).

use futures::StreamExt;

use super::judge::{Fate, Judge, Keep};
use super::plan::{GcPlan, PlannedObject};
use crate::error::Result;
use crate::layout::{JobLayout, Place};
use crate::store::{ObjectMeta, Store};

/// How much of the job's folder a sweep lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SweepScope {
    /// Epochs, lists, holds and requests: cheap, for every tenure, so that claims do not pile up.
    Records,
    /// All of it, the shared files and checkpoint folders too.
    Everything,
}

/// Plans a sweep. The order matters: the [`super::Progress`] of the judge was taken first, then its
/// view was read, and the store is listed here.
///
/// # Errors
/// What the store says of a listing: a sweep that could not see everything deletes nothing.
pub async fn plan_sweep(store: &dyn Store, layout: &JobLayout, judge: &Judge<'_>, scope: SweepScope) -> Result<GcPlan> {
    let folders = match scope {
        SweepScope::Everything => vec![layout.root().clone()],
        SweepScope::Records => {
            let lists = layout.condemned()?;
            vec![layout.epochs()?, lists, layout.pins()?, layout.refs()?, layout.distrusted()?, layout.requests()?]
        }
    };
    let mut plan = begin(layout, judge);
    for folder in folders {
        let mut listing = store.list(Some(&folder));
        while let Some(object) = listing.next().await {
            consider(&mut plan, layout, judge, object?);
        }
    }
    Ok(plan.in_order())
}

/// Plans a sweep over objects that were listed already: what aborted checkpoints left, say (I9).
pub fn plan_listed(layout: &JobLayout, judge: &Judge<'_>, listing: impl IntoIterator<Item = ObjectMeta>) -> GcPlan {
    let mut plan = begin(layout, judge);
    for object in listing {
        consider(&mut plan, layout, judge, object);
    }
    plan.in_order()
}

fn begin(layout: &JobLayout, judge: &Judge<'_>) -> GcPlan {
    let mut plan = GcPlan::empty(layout.job().clone());
    plan.block(judge.blockers());
    plan
}

fn consider(plan: &mut GcPlan, layout: &JobLayout, judge: &Judge<'_>, object: ObjectMeta) {
    let Some(place) = Place::of(layout, &object.path) else {
        return;
    };
    let ObjectMeta { path, size_bytes } = object;
    match judge.fate(&path, &place) {
        Fate::Goes(reason) => plan.add(PlannedObject { path, size_bytes, reason, place }),
        Fate::Blocked(_) => plan.add_blocked(size_bytes),
        Fate::Kept(Keep::Foreign) => plan.add_foreign(path),
        Fate::Kept(_) => {}
    }
}
