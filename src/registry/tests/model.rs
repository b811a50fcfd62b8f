//! Random histories, checked at each step against sets.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::error::ErrorKind;
use crate::registry::{ObjectStatus, Rebuilder, Unreferenced};

type Files = BTreeMap<u8, (SharedName, CheckpointId)>;

#[derive(Clone, Debug)]
enum Step {
    Begin,
    /// A pending checkpoint's file gets a content; the upload fails or not.
    Write {
        pending: usize,
        file: u8,
        content: u8,
        fails: bool,
    },
    /// A pending checkpoint loses a file.
    Lose {
        pending: usize,
        file: u8,
    },
    Complete {
        pending: usize,
    },
    Abort {
        pending: usize,
    },
    Release {
        checkpoint: usize,
    },
    Condemn,
    Forget,
    /// A known object is found damaged.
    Distrust {
        object: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let index = any::<prop::sample::Index>().prop_map(|index| index.index(1 << 16));
    prop_oneof![
        3 => Just(Step::Begin),
        12 => (index.clone(), 0..6u8, 0..8u8, prop::bool::weighted(0.1))
            .prop_map(|(pending, file, content, fails)| Step::Write { pending, file, content, fails }),
        3 => (index.clone(), 0..6u8).prop_map(|(pending, file)| Step::Lose { pending, file }),
        4 => index.clone().prop_map(|pending| Step::Complete { pending }),
        1 => index.clone().prop_map(|pending| Step::Abort { pending }),
        4 => index.clone().prop_map(|checkpoint| Step::Release { checkpoint }),
        1 => index.prop_map(|object| Step::Distrust { object }),
        1 => Just(Step::Condemn),
        1 => Just(Step::Forget),
    ]
}

/// All contents share the index's prefix and two shards, so that chains are long.
fn close_hash(content: u8) -> ContentHash {
    let mut hash = [0; 32];
    (hash[10], hash[31]) = (content, content % 2);
    ContentHash(hash)
}

#[derive(Default)]
struct PendingModel {
    held: BTreeSet<SharedName>,
    suspects: BTreeSet<SharedName>,
    writes: BTreeMap<u8, Option<SharedName>>,
}

struct Model {
    registry: Arc<Registry>,
    next: u64,
    pending: BTreeMap<CheckpointId, PendingModel>,
    registered: BTreeMap<CheckpointId, Files>,
    greatest: CheckpointId,
    /// Every object that was stored and not forgotten; whether it is condemned.
    known: BTreeMap<SharedName, bool>,
    distrusted: BTreeSet<SharedName>,
}

fn set(names: Vec<SharedName>) -> BTreeSet<SharedName> {
    let length = names.len();
    let set: BTreeSet<SharedName> = names.into_iter().collect();
    assert_eq!(set.len(), length, "reported twice");
    set
}

impl Model {
    fn referenced(&self) -> BTreeSet<SharedName> {
        self.registered.values().flat_map(|files| files.values().map(|(name, _)| *name)).collect()
    }

    fn held(&self) -> BTreeSet<SharedName> {
        self.pending.values().flat_map(|pending| pending.held.iter().copied()).collect()
    }

    fn pick(&self, index: usize) -> Option<CheckpointId> {
        self.pending.keys().nth(index.checked_rem(self.pending.len())?).copied()
    }

    fn write(&mut self, id: CheckpointId, file: u8, content: u8, fails: bool) {
        let usable = self.known.iter().find(|(name, condemned)| {
            name.hash == close_hash(content) && !**condemned && !self.distrusted.contains(name)
        });
        let usable = usable.map(|(name, _)| *name);
        let answer = self.registry.begin_upload(id, close_hash(content), SIZE_BYTES, FileKind::Sst, || fresh(id.0));
        let pending = self.pending.get_mut(&id).unwrap();
        let name = match answer.unwrap() {
            UploadDecision::Stored(name) => {
                assert_eq!(Some(name), usable);
                name
            }
            UploadDecision::Upload(guard) => {
                assert_eq!(usable, None);
                if fails {
                    pending.suspects.insert(*guard.name());
                    return;
                }
                guard.complete().unwrap()
            }
            UploadDecision::InFlight(_) => panic!("nothing is in flight"),
        };
        self.known.insert(name, false);
        pending.held.insert(name);
        pending.writes.insert(file, Some(name));
    }

    fn complete(&mut self, id: CheckpointId) {
        if id < self.greatest {
            return self.end(id, false);
        }
        let newest = self.registered.values().next_back().cloned().unwrap_or_default();
        let mut files = newest.clone();
        for (file, write) in &self.pending[&id].writes {
            match write {
                Some(name) if newest.get(file).map(|(old, _)| old) == Some(name) => {}
                Some(name) => drop(files.insert(*file, (*name, id))),
                None => drop(files.remove(file)),
            }
        }
        let added: Vec<_> =
            files.values().filter(|(_, born)| *born == id).map(|(name, _)| (*name, SIZE_BYTES)).collect();
        let removed: Vec<_> =
            newest.iter().filter(|(file, old)| files.get(file) != Some(old)).map(|(_, old)| *old).collect();
        if added.iter().any(|(name, _)| self.distrusted.contains(name)) {
            let stats = self.registry.stats();
            assert_eq!(self.registry.register(id, added, removed).unwrap_err().kind(), ErrorKind::InvalidInput);
            assert_eq!(self.registry.stats().tenancies, stats.tenancies);
            return self.end(id, false);
        }
        self.registry.register(id, added, removed).unwrap();
        self.registered.insert(id, files);
        self.greatest = id;
        self.end(id, true);
    }

    fn end(&mut self, id: CheckpointId, completed: bool) {
        let Unreferenced { created, outlived, suspects } =
            if completed { self.registry.finish_pending(id) } else { self.registry.abort(id) }.unwrap();
        let pending = self.pending.remove(&id).unwrap();
        let (referenced, held) = (self.referenced(), self.held());
        let free = pending.held.iter().filter(|name| !referenced.contains(name) && !held.contains(name)).copied();
        let (mine, theirs): (BTreeSet<_>, BTreeSet<_>) = free.partition(|name| name.tag.checkpoint == id);
        assert_eq!((set(created), set(outlived), set(suspects)), (mine, theirs, pending.suspects));
    }

    fn release(&mut self, index: usize) {
        let Some(at) = index.checked_rem(self.registered.len()) else { return };
        let id = *self.registered.keys().nth(at).unwrap();
        let before = self.referenced();
        self.registered.remove(&id);
        let (after, held) = (self.referenced(), self.held());
        let expected = before.into_iter().filter(|name| !after.contains(name) && !held.contains(name)).collect();
        assert_eq!(set(self.registry.release(id).unwrap()), expected);
    }

    fn condemn(&mut self) {
        let (referenced, held) = (self.referenced(), self.held());
        let names: Vec<SharedName> = self.known.keys().copied().collect();
        let free = |name: &SharedName| !referenced.contains(name) && !held.contains(name);
        let expected = names.iter().filter(|name| free(name)).copied().collect();
        assert_eq!(set(self.registry.condemn(&names).unwrap()), expected);
        for name in expected {
            self.known.insert(name, true);
        }
    }

    fn forget(&mut self) {
        let names: Vec<SharedName> = self.known.iter().filter(|(_, condemned)| **condemned).map(|(n, _)| *n).collect();
        self.registry.forget(&names).unwrap();
        self.known.retain(|_, condemned| !*condemned);
        self.distrusted.retain(|name| self.known.contains_key(name));
    }

    fn distrust(&mut self, object: usize) {
        let Some(at) = object.checked_rem(self.known.len()) else { return };
        let (name, condemned) = self.known.iter().nth(at).map(|(name, condemned)| (*name, *condemned)).unwrap();
        let known = self.registry.distrust(&[name]).unwrap();
        assert_eq!(known.is_empty(), condemned);
        if !condemned {
            self.distrusted.insert(name);
        }
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Begin => {
                self.next += 1;
                self.registry.begin_pending(cp(self.next)).unwrap();
                self.pending.insert(cp(self.next), PendingModel::default());
            }
            Step::Write { pending, file, content, fails } => {
                if let Some(id) = self.pick(pending) {
                    self.write(id, file, content, fails);
                }
            }
            Step::Lose { pending, file } => {
                if let Some(id) = self.pick(pending) {
                    self.pending.get_mut(&id).unwrap().writes.insert(file, None);
                }
            }
            Step::Complete { pending } => {
                if let Some(id) = self.pick(pending) {
                    self.complete(id);
                }
            }
            Step::Abort { pending } => {
                if let Some(id) = self.pick(pending) {
                    self.end(id, false);
                }
            }
            Step::Release { checkpoint } => self.release(checkpoint),
            Step::Condemn => self.condemn(),
            Step::Forget => self.forget(),
            Step::Distrust { object } => self.distrust(object),
        }
        self.check();
    }

    fn check(&self) {
        let (referenced, held) = (self.referenced(), self.held());
        for (name, condemned) in &self.known {
            let status = self.registry.status(name).unwrap();
            let having = self.registered.iter().filter(|(_, files)| files.values().any(|(n, _)| n == name));
            let having: Vec<CheckpointId> = having.map(|(id, _)| *id).collect();
            assert_eq!(self.registry.checkpoints_of(name).unwrap(), having);
            assert_eq!(self.registry.is_distrusted(name).unwrap(), self.distrusted.contains(name) && !condemned);
            match status {
                ObjectStatus::Condemned => assert!(condemned),
                ObjectStatus::Referenced { .. } => assert!(!condemned && referenced.contains(name)),
                ObjectStatus::Held => assert!(held.contains(name) && !referenced.contains(name)),
                ObjectStatus::Unreferenced => assert!(!held.contains(name) && !referenced.contains(name)),
                other => panic!("{name} is {other:?}"),
            }
        }
        let stats = self.registry.stats();
        assert_eq!(stats.entries, self.known.len() as u64);
        assert_eq!(stats.condemned, self.known.values().filter(|condemned| **condemned).count() as u64);
        assert_eq!(stats.stored_bytes, (stats.entries - stats.condemned) * SIZE_BYTES);
        assert_eq!(self.registry.checkpoints(), self.registered.keys().copied().collect::<Vec<_>>());
    }
}

fn run(steps: Vec<Step>) -> Model {
    let mut model = Model {
        registry: Registry::new(),
        next: 0,
        pending: BTreeMap::new(),
        registered: BTreeMap::new(),
        greatest: cp(0),
        known: BTreeMap::new(),
        distrusted: BTreeSet::new(),
    };
    for step in steps {
        model.apply(step);
    }
    model
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_history_frees_exactly_the_set_differences(steps in prop::collection::vec(step(), 1..120)) {
        let mut model = run(steps);
        while let Some(id) = model.pick(0) {
            model.end(id, false);
        }
        while !model.registered.is_empty() {
            model.release(0);
        }
        prop_assert_eq!(model.registry.stats().tenancies, 0);
    }

    #[test]
    fn a_rebuilt_registry_frees_what_one_that_lived_through_it_frees(
        steps in prop::collection::vec(step(), 1..120),
        next in prop::collection::btree_map(0..6u8, prop::bool::ANY, 0..6),
        order in any::<prop::sample::Index>(),
    ) {
        let mut model = run(steps);
        while let Some(id) = model.pick(0) {
            model.end(id, false);
        }
        let mut rebuilder = Rebuilder::new();
        for (id, files) in &model.registered {
            rebuilder.add(*id, files.iter().map(|(file, (name, _))| (*file, *name, SIZE_BYTES))).unwrap();
        }
        let rebuilt = rebuilder.finish();
        // One more checkpoint, each by its own births: some files go, the others stay.
        let id = cp(model.next + 1);
        let newest = model.registered.values().next_back().cloned().unwrap_or_default();
        let gone = |file: &u8| next.get(file) == Some(&true);
        let lived: Vec<_> = newest.iter().filter(|(file, _)| gone(file)).map(|(_, old)| *old).collect();
        let rebirths: Vec<_> = rebuilt.newest.iter().filter(|(file, _)| gone(file)).map(|(_, old)| *old).collect();
        model.registry.register(id, [], lived).unwrap();
        rebuilt.registry.register(id, [], rebirths).unwrap();
        let mut left = model.registry.checkpoints();
        while !left.is_empty() {
            let id = left.remove(order.index(left.len()));
            let (lived, rebuilt) = (model.registry.release(id).unwrap(), rebuilt.registry.release(id).unwrap());
            prop_assert_eq!(set(lived), set(rebuilt));
        }
    }
}
