//! Listing: depth first, in order of whole paths, a page of names at a time.
//!
//! The NameNode gives the names of one folder in their own order, a page (1000 names) after the other, each from
//! behind the last name of the one before: an object that is there from before the listing to its end is seen. But
//! the contract's order is that of whole paths, in which `a/x` comes behind `a-b`. So a folder is held back until no
//! name can come any more that sorts before its name *with* the slash. Only folders whose names begin with each
//! other are held back together, so there are never more of them than a name has bytes.
//!
//! What is shown and what is not is as in `local::walk`: temporary files are not, and a name that is no [`StorePath`]
//! is skipped with a warning.

use std::sync::Arc;

use futures::stream::{self, BoxStream};
use futures::{StreamExt as _, TryStreamExt as _};
use hdfs_native::client::{FileStatus, ListStatusIterator};

use super::errors::{Cause, Failure};
use super::{Cluster, MAX_CONCURRENT_REQUESTS};
use crate::error::{Error, ErrorKind, Result};
use crate::store::temporary::TEMPORARY_PREFIX;
use crate::store::{Child, ObjectMeta, StorePath};

const OPERATION: &str = "list a folder";

/// One name in a folder.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) status: FileStatus,
}

impl Entry {
    pub(super) fn is_temporary(&self) -> bool {
        self.name.starts_with(TEMPORARY_PREFIX)
    }
}

/// The names of one folder, in their own order.
pub(super) struct Names {
    cluster: Arc<Cluster>,
    folder: String,
    names: ListStatusIterator,
    generation: u64,
}

impl Names {
    pub(super) fn of(cluster: &Arc<Cluster>, folder: String) -> Self {
        let (client, generation) = cluster.name_node.client();
        Self { cluster: Arc::clone(cluster), names: client.list_status_iter(&folder, false), folder, generation }
    }

    /// The next name. A folder that is missing, or is a file, has none.
    pub(super) async fn next(&mut self) -> std::result::Result<Option<Entry>, Failure> {
        loop {
            let next = async { self.names.next().await.transpose() };
            let status = match self.cluster.name_node.bounded(self.generation, next).await {
                Ok(Some(status)) => status,
                Ok(None) => return Ok(None),
                Err(failure) if matches!(failure.cause(), Cause::Missing | Cause::NotAFolder) => return Ok(None),
                Err(failure) => return Err(failure),
            };
            // A file is listed as itself, without a name below.
            let name =
                status.path.strip_prefix(self.folder.trim_end_matches('/')).and_then(|name| name.strip_prefix('/'));
            if let Some(name) = name.filter(|name| !name.is_empty()) {
                return Ok(Some(Entry { name: name.to_owned(), status }));
            }
        }
    }
}

/// A name of ours, below `above`; `None`, with a warning, for another's.
fn path_of(above: Option<&StorePath>, entry: &Entry) -> Option<StorePath> {
    let path = match above {
        Some(above) if !entry.name.contains('/') => above.join(&entry.name),
        _ => StorePath::new(entry.name.as_str()),
    };
    if path.is_err() {
        tracing::warn!(path = %entry.status.path, "a foreign name lies in the store; it is left alone and not listed");
    }
    path.ok()
}

/// Puts names that come in their own order into that of whole paths.
#[derive(Debug)]
struct Reordered<T> {
    /// Folders held back, by their names with the slash; each sorts before the one below it.
    held: Vec<(String, T)>,
    last: Option<String>,
}

impl<T> Default for Reordered<T> {
    fn default() -> Self {
        Self { held: Vec::new(), last: None }
    }
}

impl<T> Reordered<T> {
    /// What comes before every name from `name` on.
    fn before(&mut self, name: &str) -> Option<T> {
        match self.held.last() {
            Some((key, _)) if key.as_str() < name => self.held.pop().map(|(_, folder)| folder),
            _ => None,
        }
    }

    /// Holds a folder back.
    fn hold(&mut self, name: &str, folder: T) {
        self.held.push((format!("{name}/"), folder));
    }

    /// What is left when no name comes any more.
    fn rest(&mut self) -> Option<T> {
        self.held.pop().map(|(_, folder)| folder)
    }

    /// Refuses a name that does not come in order: what was made of the names so far would be wrong.
    fn check_order(&mut self, name: &str) -> std::result::Result<(), &'static str> {
        if self.last.as_deref().is_some_and(|last| last >= name) {
            return Err("the NameNode does not list names in their order");
        }
        self.last = Some(name.to_owned());
        Ok(())
    }
}

/// One folder on the way down.
struct Level {
    path: Option<StorePath>,
    names: Names,
    order: Reordered<(StorePath, String)>,
    /// Came out of `names` and waits for folders that sort before it.
    next: Option<(StorePath, Entry)>,
    is_read: bool,
}

enum Step {
    Object(ObjectMeta),
    Folder(StorePath, String),
    End,
}

impl Level {
    fn new(cluster: &Arc<Cluster>, path: Option<StorePath>, folder: String) -> Self {
        Self { path, names: Names::of(cluster, folder), order: Reordered::default(), next: None, is_read: false }
    }

    async fn step(&mut self) -> Result<Step> {
        loop {
            if self.next.is_none() && !self.is_read {
                self.next = self.read().await?;
            }
            let Some((path, entry)) = self.next.take() else {
                return Ok(self.order.rest().map_or(Step::End, |(path, folder)| Step::Folder(path, folder)));
            };
            if let Some((earlier, folder)) = self.order.before(&entry.name) {
                self.next = Some((path, entry));
                return Ok(Step::Folder(earlier, folder));
            }
            if !entry.status.isdir {
                return Ok(Step::Object(ObjectMeta { path, size_bytes: entry.status.length as u64 }));
            }
            self.order.hold(&entry.name, (path, entry.status.path));
        }
    }

    /// The next name that may be ours.
    async fn read(&mut self) -> Result<Option<(StorePath, Entry)>> {
        loop {
            let shown = || self.path.as_ref().map_or("the store's folder", StorePath::as_str).to_owned();
            let Some(entry) = self.names.next().await.map_err(|failure| failure.into_error(OPERATION, shown()))? else {
                self.is_read = true;
                return Ok(None);
            };
            if entry.is_temporary() {
                continue;
            }
            let Some(path) = path_of(self.path.as_ref(), &entry) else { continue };
            self.order
                .check_order(&entry.name)
                .map_err(|fault| Error::new(ErrorKind::Unsupported, OPERATION, fault).with_object(shown()))?;
            return Ok(Some((path, entry)));
        }
    }
}

/// Every object below the folder `prefix`, in order of paths.
pub(super) fn list(cluster: Arc<Cluster>, prefix: Option<StorePath>) -> BoxStream<'static, Result<ObjectMeta>> {
    let levels = cluster
        .root
        .place_of_folder(prefix.as_ref(), OPERATION)
        .map(|folder| vec![Level::new(&cluster, prefix, folder)]);
    match levels {
        Err(error) => stream::iter([Err(error)]).boxed(),
        Ok(levels) => stream::unfold(levels, move |mut levels| {
            let cluster = Arc::clone(&cluster);
            async move {
                loop {
                    match levels.last_mut()?.step().await {
                        Ok(Step::Object(object)) => return Some((Ok(object), levels)),
                        Ok(Step::Folder(path, folder)) => levels.push(Level::new(&cluster, Some(path), folder)),
                        Ok(Step::End) => drop(levels.pop()),
                        // The listing is of no use without what this folder holds.
                        Err(error) => return Some((Err(error), Vec::new())),
                    }
                }
            }
        })
        .boxed(),
    }
}

/// The names directly below the folder `prefix`, sorted. A folder is shown if an object lies below it.
pub(super) async fn children(cluster: &Arc<Cluster>, prefix: Option<&StorePath>) -> Result<Vec<Child>> {
    let shown = || prefix.map_or("the store's folder", StorePath::as_str);
    let mut names = Names::of(cluster, cluster.root.place_of_folder(prefix, OPERATION)?);
    let (mut children, mut folders) = (Vec::new(), Vec::new());
    while let Some(entry) = names.next().await.map_err(|failure| failure.into_error(OPERATION, shown()))? {
        if entry.is_temporary() || path_of(prefix, &entry).is_none() {
            continue;
        }
        match entry.status.isdir {
            false => children.push(Child { name: entry.name, size_bytes: Some(entry.status.length as u64) }),
            true => folders.push((entry.name, entry.status.path)),
        }
    }
    let looks: Vec<_> = folders
        .into_iter()
        .map(|(name, place)| async move {
            let is_shown = has_object(cluster, place).await.map_err(|failure| failure.into_error(OPERATION, &name))?;
            Ok::<_, Error>(is_shown.then_some(Child { name, size_bytes: None }))
        })
        .collect();
    let shown_folders: Vec<Option<Child>> = stream::iter(looks).buffered(MAX_CONCURRENT_REQUESTS).try_collect().await?;
    children.extend(shown_folders.into_iter().flatten());
    children.sort_unstable();
    Ok(children)
}

/// Whether an object lies below `folder`. Looks no further than the first.
async fn has_object(cluster: &Arc<Cluster>, folder: String) -> std::result::Result<bool, Failure> {
    let mut levels = vec![Names::of(cluster, folder)];
    while let Some(names) = levels.last_mut() {
        match names.next().await? {
            None => drop(levels.pop()),
            Some(entry) if entry.is_temporary() || StorePath::new(entry.name.as_str()).is_err() => {}
            Some(entry) if entry.status.isdir => levels.push(Names::of(cluster, entry.status.path)),
            Some(_) => return Ok(true),
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What comes out for names that come in their own order; a folder ends in a slash.
    fn reordered(names: &[String]) -> Vec<String> {
        let mut order = Reordered::default();
        let mut out = Vec::new();
        for name in names {
            let bare = name.trim_end_matches('/');
            while let Some(folder) = order.before(bare) {
                out.push(folder);
            }
            order.check_order(bare).unwrap();
            match name.ends_with('/') {
                true => order.hold(bare, name.clone()),
                false => out.push(name.clone()),
            }
        }
        while let Some(folder) = order.rest() {
            out.push(folder);
        }
        out
    }

    #[test]
    fn a_folder_waits_for_the_names_that_sort_before_its_slash() {
        let names = ["a/", "a%", "a-/", "a-b", "a.b", "a0", "b"].map(str::to_owned);
        assert_eq!(reordered(&names), ["a%", "a-/", "a-b", "a.b", "a/", "a0", "b"]);
        assert_eq!(reordered(&["a/", "a-/", "a--/"].map(str::to_owned)), ["a--/", "a-/", "a/"]);
    }

    #[test]
    fn names_out_of_order_are_refused() {
        let mut order: Reordered<()> = Reordered::default();
        order.check_order("b").unwrap();
        assert!(order.check_order("a").is_err());
    }

    proptest! {
        #[test]
        fn any_names_come_out_in_order_of_whole_paths(
            names in proptest::collection::btree_map("[ab%./0-]{1,4}".prop_map(|name| name.replace('/', "+")), any::<bool>(), 0..30),
        ) {
            let names: Vec<String> =
                names.into_iter().map(|(name, is_folder)| if is_folder { format!("{name}/") } else { name }).collect();
            let mut sorted = names.clone();
            sorted.sort();
            prop_assert_eq!(reordered(&names), sorted);
        }
    }
}
