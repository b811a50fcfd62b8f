//! A store that fails as it is told.
//!
//! Every call asks the rules, in the order in which they were given, what happens to it; the first
//! that hits it decides. So a test names the very step at which one party fails, or stops while the
//! others go on, and needs neither luck nor sleep.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt as _};
use parking_lot::Mutex;

use super::gate::{Barrier, Gate};
use super::rule::{Fault, Rule, Step};
use crate::error::{Error, ErrorKind, Result};
use crate::store::{Access, Child, ObjectMeta, ObjectWriter, ReadAhead, Store, StorePath, StoreRef};

/// Wraps a store and injects faults. Give each party its own, over one shared store, to make one
/// party fail or stop alone.
#[derive(Debug)]
pub struct FaultyStore {
    inner: StoreRef,
    core: Arc<Core>,
}

#[derive(Default)]
struct Core {
    rules: Mutex<Vec<(Rule, Action)>>,
    late: Mutex<Vec<Late>>,
    fired: AtomicU64,
    cut_off: AtomicBool,
}

#[derive(Clone, Debug)]
enum Action {
    Fault(Fault),
    ParkBefore(Barrier),
    ParkAfter(Barrier),
}

/// A change that was answered with an error and has not landed yet.
enum Late {
    Put(StorePath, Bytes),
    Finish(Box<dyn ObjectWriter>),
    Delete(StorePath),
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core").field("rules", &*self.rules.lock()).finish_non_exhaustive()
    }
}

impl FaultyStore {
    /// Passes everything to `inner`, until it is told otherwise.
    pub fn new(inner: StoreRef) -> Arc<Self> {
        Arc::new(Self { inner, core: Arc::default() })
    }

    /// From now on, `fault` happens to the calls that `rule` says.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if that fault cannot happen at the rule's step.
    pub fn inject(&self, rule: Rule, fault: Fault) -> Result<()> {
        rule.check(fault)?;
        self.core.rules.lock().push((rule, Action::Fault(fault)));
        Ok(())
    }

    /// The calls that `rule` says stop before they do anything, until the gate is released.
    #[must_use = "dropping the gate opens it"]
    pub fn park(&self, rule: Rule) -> Gate {
        let (gate, barrier) = Gate::new();
        self.core.rules.lock().push((rule, Action::ParkBefore(barrier)));
        gate
    }

    /// The calls that `rule` says stop when they are done, before they are answered.
    #[must_use = "dropping the gate opens it"]
    pub fn park_after(&self, rule: Rule) -> Gate {
        let (gate, barrier) = Gate::new();
        self.core.rules.lock().push((rule, Action::ParkAfter(barrier)));
        gate
    }

    /// Forgets all rules, and ends a [`FaultyStore::cut_off`]. What is to land late still can.
    pub fn heal(&self) {
        self.core.rules.lock().clear();
        self.core.cut_off.store(false, Ordering::SeqCst);
    }

    /// From now on every call fails and does nothing, as for a party that died or lost the network.
    /// A call that is parked does its work when it is released only if it had stopped after it.
    pub fn cut_off(&self) {
        self.core.cut_off.store(true, Ordering::SeqCst);
    }

    /// How many calls the rules have hit. A test that expects a fault asserts that it happened.
    pub fn fired(&self) -> u64 {
        self.core.fired.load(Ordering::SeqCst)
    }

    /// How many changes wait to land late.
    pub fn late_changes(&self) -> usize {
        self.core.late.lock().len()
    }

    /// Lets the changes land that [`Fault::LandLater`] held back, oldest first; one answer each.
    pub async fn land_late(&self) -> Vec<Result<()>> {
        let late = std::mem::take(&mut *self.core.late.lock());
        let mut answers = Vec::with_capacity(late.len());
        for change in late {
            answers.push(match change {
                Late::Put(path, bytes) => self.inner.put(&path, bytes).await,
                Late::Finish(writer) => writer.finish().await,
                Late::Delete(path) => delete_one(&self.inner, path).await,
            });
        }
        answers
    }

    async fn delete_with_faults(&self, path: &StorePath) -> Result<()> {
        let fate = self.core.meet(Step::Delete, Some(path)).await?;
        if let Some(Fault::LandLater(kind)) = fate.fault {
            self.core.late.lock().push(Late::Delete(path.clone()));
            return Err(injected(kind, Step::Delete, Some(path)));
        }
        let answer = delete_one(&self.inner, path.clone()).await;
        fate.answer(Step::Delete, Some(path), answer).await
    }
}

async fn delete_one(store: &StoreRef, path: StorePath) -> Result<()> {
    store.delete(&[path]).await.pop().unwrap_or_else(|| {
        Err(Error::new(ErrorKind::Internal, "delete an object", "the wrapped store answered nothing"))
    })
}

/// What a call was told to do to itself.
#[derive(Default)]
struct Fate {
    fault: Option<Fault>,
    park_after: Option<Barrier>,
}

impl Fate {
    /// The answer that the caller gets for what was done.
    async fn answer<T>(&self, step: Step, path: Option<&StorePath>, answer: Result<T>) -> Result<T> {
        if let Some(barrier) = &self.park_after {
            barrier.wait().await;
        }
        match self.fault {
            Some(Fault::LoseAnswer(kind)) => Err(injected(kind, step, path)),
            _ => answer,
        }
    }
}

impl Core {
    fn check_cut_off(&self, step: Step, path: Option<&StorePath>) -> Result<()> {
        if self.cut_off.load(Ordering::SeqCst) {
            return Err(injected(ErrorKind::Temporary, step, path));
        }
        Ok(())
    }

    /// Asks the rules about a call, and waits or fails as they say.
    async fn meet(&self, step: Step, path: Option<&StorePath>) -> Result<Fate> {
        self.check_cut_off(step, path)?;
        match self.decide(step, path) {
            None => Ok(Fate::default()),
            Some(Action::Fault(Fault::Fail(kind))) => Err(injected(kind, step, path)),
            Some(Action::Fault(fault)) => Ok(Fate { fault: Some(fault), park_after: None }),
            Some(Action::ParkAfter(barrier)) => Ok(Fate { fault: None, park_after: Some(barrier) }),
            Some(Action::ParkBefore(barrier)) => {
                barrier.wait().await;
                self.check_cut_off(step, path)?;
                Ok(Fate::default())
            }
        }
    }

    fn decide(&self, step: Step, path: Option<&StorePath>) -> Option<Action> {
        let mut rules = self.rules.lock();
        let mut decision = None;
        for (rule, action) in rules.iter_mut() {
            // Every rule counts the call, also when an earlier one decides.
            if rule.hits(step, path) && decision.is_none() {
                decision = Some(action.clone());
            }
        }
        if decision.is_some() {
            self.fired.fetch_add(1, Ordering::SeqCst);
        }
        decision
    }

    fn any_rule_on(&self, step: Step) -> bool {
        self.cut_off.load(Ordering::SeqCst) || self.rules.lock().iter().any(|(rule, _)| rule.step() == step)
    }
}

fn injected(kind: ErrorKind, step: Step, path: Option<&StorePath>) -> Error {
    Error::new(kind, "call the store", format!("injected at {step:?}")).with_object(path.map_or("/", StorePath::as_str))
}

/// `bytes`, which begin at `offset` of the object, as the fault leaves them.
fn damage(fault: Option<Fault>, offset: u64, bytes: Bytes) -> Bytes {
    match fault {
        Some(Fault::Torn { keep_bytes }) => {
            let keep = usize::try_from(keep_bytes.saturating_sub(offset)).unwrap_or(usize::MAX);
            bytes.slice(..keep.min(bytes.len()))
        }
        Some(Fault::Flip { offset: at }) => {
            let mut copy = bytes.to_vec();
            let index = at.checked_sub(offset).and_then(|index| usize::try_from(index).ok());
            if let Some(byte) = index.and_then(|index| copy.get_mut(index)) {
                *byte = !*byte;
            }
            Bytes::from(copy)
        }
        _ => bytes,
    }
}

#[async_trait]
impl Store for FaultyStore {
    fn describe(&self) -> String {
        self.inner.describe()
    }

    fn read_ahead(&self) -> ReadAhead {
        self.inner.read_ahead()
    }

    async fn probe(&self, access: Access) -> Result<()> {
        let fate = self.core.meet(Step::Probe, None).await?;
        fate.answer(Step::Probe, None, self.inner.probe(access).await).await
    }

    async fn put(&self, path: &StorePath, bytes: Bytes) -> Result<()> {
        let fate = self.core.meet(Step::Put, Some(path)).await?;
        if let Some(Fault::LandLater(kind)) = fate.fault {
            self.core.late.lock().push(Late::Put(path.clone(), bytes));
            return Err(injected(kind, Step::Put, Some(path)));
        }
        let answer = self.inner.put(path, damage(fate.fault, 0, bytes)).await;
        fate.answer(Step::Put, Some(path), answer).await
    }

    async fn create(&self, path: &StorePath) -> Result<Box<dyn ObjectWriter>> {
        let fate = self.core.meet(Step::Create, Some(path)).await?;
        let inner = fate.answer(Step::Create, Some(path), self.inner.create(path).await).await?;
        let core = Arc::clone(&self.core);
        Ok(Box::new(FaultyWriter { inner, core, path: path.clone(), damage: fate.fault, offset: 0 }))
    }

    async fn read(&self, path: &StorePath, range: Range<u64>) -> Result<Bytes> {
        let fate = self.core.meet(Step::Read, Some(path)).await?;
        let start = range.start;
        let answer = self.inner.read(path, range).await.map(|bytes| damage(fate.fault, start, bytes));
        fate.answer(Step::Read, Some(path), answer).await
    }

    async fn stat(&self, path: &StorePath) -> Result<ObjectMeta> {
        let fate = self.core.meet(Step::Stat, Some(path)).await?;
        fate.answer(Step::Stat, Some(path), self.inner.stat(path).await).await
    }

    fn list(&self, prefix: Option<&StorePath>) -> BoxStream<'_, Result<ObjectMeta>> {
        let prefix = prefix.cloned();
        let begin = async move {
            let fate = match self.core.meet(Step::List, prefix.as_ref()).await {
                Ok(fate) => fate,
                Err(error) => return failed_stream(error),
            };
            let items = self.inner.list(prefix.as_ref());
            match fate.answer(Step::List, prefix.as_ref(), Ok(())).await {
                Ok(()) => items.then(|item| self.item(item)).boxed(),
                Err(error) => failed_stream(error),
            }
        };
        stream::once(begin).flatten().boxed()
    }

    async fn list_children(&self, prefix: Option<&StorePath>) -> Result<Vec<Child>> {
        let fate = self.core.meet(Step::ListChildren, prefix).await?;
        fate.answer(Step::ListChildren, prefix, self.inner.list_children(prefix).await).await
    }

    async fn delete(&self, paths: &[StorePath]) -> Vec<Result<()>> {
        if !self.core.any_rule_on(Step::Delete) {
            return self.inner.delete(paths).await;
        }
        // One by one, so that a party can be stopped between any two.
        let mut answers = Vec::with_capacity(paths.len());
        for path in paths {
            answers.push(self.delete_with_faults(path).await);
        }
        answers
    }

    async fn remove_unfinished(&self, prefix: Option<&StorePath>, older_than: Duration) -> Result<u64> {
        let fate = self.core.meet(Step::RemoveUnfinished, prefix).await?;
        fate.answer(Step::RemoveUnfinished, prefix, self.inner.remove_unfinished(prefix, older_than).await).await
    }
}

impl FaultyStore {
    async fn item(&self, item: Result<ObjectMeta>) -> Result<ObjectMeta> {
        let object = item?;
        let fate = self.core.meet(Step::ListItem, Some(&object.path)).await?;
        let path = object.path.clone();
        fate.answer(Step::ListItem, Some(&path), Ok(object)).await
    }
}

fn failed_stream<'a>(error: Error) -> BoxStream<'a, Result<ObjectMeta>> {
    let failed: std::pin::Pin<Box<dyn Stream<Item = _> + Send + 'a>> = stream::iter([Err(error)]).boxed();
    failed
}

struct FaultyWriter {
    inner: Box<dyn ObjectWriter>,
    core: Arc<Core>,
    path: StorePath,
    damage: Option<Fault>,
    offset: u64,
}

#[async_trait]
impl ObjectWriter for FaultyWriter {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        let fate = self.core.meet(Step::Write, Some(&self.path)).await?;
        let offset = self.offset;
        self.offset += bytes.len() as u64;
        let answer = self.inner.write(damage(self.damage, offset, bytes)).await;
        fate.answer(Step::Write, Some(&self.path), answer).await
    }

    async fn finish(self: Box<Self>) -> Result<()> {
        let Self { inner, core, path, .. } = *self;
        let fate = core.meet(Step::Finish, Some(&path)).await?;
        if let Some(Fault::LandLater(kind)) = fate.fault {
            core.late.lock().push(Late::Finish(inner));
            return Err(injected(kind, Step::Finish, Some(&path)));
        }
        fate.answer(Step::Finish, Some(&path), inner.finish().await).await
    }

    async fn abort(self: Box<Self>) -> Result<()> {
        let Self { inner, core, path, .. } = *self;
        let fate = core.meet(Step::Abort, Some(&path)).await?;
        fate.answer(Step::Abort, Some(&path), inner.abort().await).await
    }
}
