//! A file under its temporary name: begun, written, synced and closed, renamed.
//!
//! It lies beside its target, so the rename stays within one folder (one quota, one encryption zone, one storage
//! policy), the folder is made by the same call that makes the file, and nobody can prune a folder in which a file is
//! being written: the NameNode deletes no folder that has something in it.
//!
//! **What an error proves.** Until the rename nothing has appeared, so anything may be done again under a fresh temporary
//! name. A rename whose answer was lost is never sent again; it is *settled*: the temporary file is deleted. If it
//! was still there, the rename has not happened and never will, as its source is gone and no temporary name is
//! used twice. If it was not there and the object is, the rename has happened. The NameNode does one thing after the
//! other, so there is no third answer, and only while it cannot be reached the outcome stays unknown.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use hdfs_native::file::FileWriter;
use hdfs_native::{HdfsError, WriteOptions};
use tokio::sync::oneshot;

use super::Cluster;
use super::client::within;
use super::deleting::prune;
use super::errors::{Cause, Failure};
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};
use crate::store::temporary::temporary_name;
use crate::store::{Backoff, StorePath};

/// How long the DataNodes of an abandoned file are waited for. Longer than the client waits for an acknowledgement.
const PUT_AWAY_LIMIT: Duration = Duration::from_secs(120);

/// With how many replicas a file is begun, and how many it is to have.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Replicas {
    /// At first; `None`: as the cluster chooses.
    pub(super) at_first: Option<u32>,
    /// In the end, if that is another number.
    pub(super) finally: Option<u32>,
}

/// A file under its temporary name. Dropped without [`Draft::publish`], it is deleted in the background.
pub(super) struct Draft {
    cluster: Arc<Cluster>,
    object: StorePath,
    folder: String,
    place: String,
    replicas: Replicas,
    /// `None` while something is done with it, and for good after that was not waited for.
    file: Option<FileWriter>,
    length_bytes: u64,
    /// Nothing lies at `place`, for certain.
    is_gone: bool,
}

impl Draft {
    /// Makes the file in `folder`, and the folders that are missing.
    pub(super) async fn begin(
        cluster: &Arc<Cluster>,
        folder: &str,
        object: &StorePath,
        replicas: Replicas,
    ) -> Result<Self> {
        let place = format!("{}/{}", folder.trim_end_matches('/'), temporary_name(&*cluster.env.randomness));
        cluster.in_use.lock().insert(place.clone());
        let draft = Self {
            cluster: Arc::clone(cluster),
            object: object.clone(),
            folder: folder.to_owned(),
            place,
            replicas,
            file: None,
            length_bytes: 0,
            is_gone: false,
        };
        let options = WriteOptions {
            block_size: cluster.options.block_size_bytes,
            replication: replicas.at_first,
            ..WriteOptions::default()
        };
        let (sender, receiver) = oneshot::channel();
        // In a task of its own, for callers that do not wait for it: the draft is dropped here then, when the file is
        // made. A delete that is sent earlier may be carried out before, and find nothing.
        cluster.env.runtime.spawn(Box::pin(async move {
            let _ = sender.send(draft.create(options).await);
        }));
        receiver.await.unwrap_or_else(|_| Err(lost_work("create an object", object)))
    }

    async fn create(mut self, options: WriteOptions) -> Result<Self> {
        let place = self.place.clone();
        match self.cluster.name_node.call(|client| async move { client.create(&place, options).await }).await {
            Ok(file) => {
                self.file = Some(file);
                Ok(self)
            }
            Err(failure) => {
                // Nobody there, or not ready: nothing was made, and deleting it would fail as well.
                self.is_gone = matches!(failure.cause(), Cause::NobodyThere | Cause::NotReady | Cause::Busy);
                Err(failure.into_error("create an object", &self.object))
            }
        }
    }

    /// Appends `bytes`. After an error the draft is of no more use.
    pub(super) async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.length_bytes += bytes.len() as u64;
        self.with_file("write an object", |mut file| async move {
            let written = file.write_bytes(bytes).await.map(drop);
            (file, written)
        })
        .await
    }

    /// Closes the file. Each block's last packet asks its DataNodes to sync data, checksums and folder, and they answer
    /// it when they have. (`hsync` would ask for the same; but in `hdfs-native` 0.14.8 it waits for good if a DataNode
    /// fails meanwhile, as its sender of packets waits for one more.)
    pub(super) async fn seal(&mut self) -> Result<()> {
        self.with_file("sync an object", |mut file| async move {
            let sealed = file.close().await;
            (file, sealed)
        })
        .await?;
        let Some(replication) = self.replicas.finally else { return Ok(()) };
        let place = self.place.clone();
        let asked = self
            .cluster
            .name_node
            .call(|client| async move { client.set_replication(&place, replication).await })
            .await;
        asked.map(drop).map_err(|failure| failure.into_error("ask for an object's other replicas", &self.object))
    }

    /// How many replicas the file is to have, as the cluster chose.
    pub(super) async fn chosen_replication(&self) -> Option<u32> {
        let place = self.place.clone();
        let status = self.cluster.name_node.call(|client| async move { client.get_file_info(&place).await }).await;
        status.ok()?.replication
    }

    /// Does something with the file in a task of its own. It is never dropped half-way: `hdfs-native` would leave its
    /// connection to the DataNodes, and the task that keeps it alive, behind for good.
    async fn with_file<F>(&mut self, operation: &'static str, work: impl FnOnce(FileWriter) -> F) -> Result<()>
    where
        F: Future<Output = (FileWriter, std::result::Result<(), HdfsError>)> + Send + 'static,
    {
        let Some(file) = self.file.take() else {
            return Err(Error::invalid(operation, "an earlier call on this writer failed").with_object(&self.object));
        };
        let (sender, receiver) = oneshot::channel();
        let (env, work) = (self.cluster.env.clone(), work(file));
        self.cluster.env.runtime.spawn(Box::pin(async move {
            if let Err((file, _)) = sender.send(work.await) {
                put_away(&env, file).await;
            }
        }));
        let limit = self.cluster.options.io_timeout;
        match within(&self.cluster.env, limit, receiver).await {
            Some(Ok((file, outcome))) => {
                self.file = Some(file);
                outcome.map_err(|error| Failure::Answer(error).into_transfer_error(operation, &self.object))
            }
            Some(Err(_)) => Err(lost_work(operation, &self.object)),
            None => Err(Failure::Silence(limit).into_transfer_error(operation, &self.object)),
        }
    }

    /// Gives the sealed file the name `target` in its folder, which must be unused.
    pub(super) async fn publish(mut self, target: &str, object: &StorePath) -> Result<()> {
        self.object = object.clone();
        let mut backoff = self.cluster.rewrites.begin();
        loop {
            let (from, to) = (self.place.clone(), target.to_owned());
            let renamed =
                self.cluster.name_node.call(|client| async move { client.rename(&from, &to, false).await }).await;
            let failure = match renamed {
                Ok(()) => {
                    self.is_gone = true;
                    return Ok(());
                }
                Err(failure) => failure,
            };
            match failure.cause() {
                // It has certainly not happened, so it may be asked for again.
                Cause::NobodyThere | Cause::NotReady | Cause::Busy => {
                    backoff.after(failure.into_error("finish an object", object)).await?;
                }
                Cause::Missing => {
                    self.is_gone = true;
                    return Err(self.cleaned_up());
                }
                _ if failure.is_refusal() => return Err(failure.into_error("finish an object", object)),
                _ => return self.settle(target, failure, backoff).await,
            }
        }
    }

    /// Finds out what became of a rename whose answer was lost. See the module's text.
    async fn settle(&mut self, target: &str, lost: Failure, mut backoff: Backoff) -> Result<()> {
        loop {
            let place = self.place.clone();
            let removed = self.cluster.name_node.call(|client| async move { client.delete(&place, false).await }).await;
            match removed {
                Ok(true) => {
                    self.is_gone = true;
                    prune(&self.cluster, &self.folder).await;
                    return Err(lost
                        .into_error("finish an object", &self.object)
                        .with_kind(ErrorKind::Temporary)
                        .with_advice("it was not renamed and never will be; write it again"));
                }
                Ok(false) => {
                    self.is_gone = true;
                    return self.find(target, backoff).await;
                }
                Err(failure) => {
                    let error = failure.into_error("find out whether an object was renamed", &self.object);
                    if !backoff.may_try_again(&error).await {
                        return Err(unknown(lost.into_error("finish an object", &self.object)));
                    }
                }
            }
        }
    }

    /// The temporary file is gone: is it the object now?
    async fn find(&self, target: &str, mut backoff: Backoff) -> Result<()> {
        loop {
            let place = target.to_owned();
            match self.cluster.name_node.call(|client| async move { client.get_file_info(&place).await }).await {
                Ok(status) if !status.isdir && status.length as u64 == self.length_bytes => return Ok(()),
                Ok(_) => return Err(self.cleaned_up()),
                Err(failure) if failure.cause() == Cause::Missing => return Err(self.cleaned_up()),
                Err(failure) => {
                    let error = failure.into_error("find out whether an object was renamed", &self.object);
                    if !backoff.may_try_again(&error).await {
                        return Err(unknown(error));
                    }
                }
            }
        }
    }

    fn cleaned_up(&self) -> Error {
        Error::new(ErrorKind::Temporary, "finish an object", "its temporary file is gone")
            .with_object(&self.object)
            .with_advice("it was cleaned up as stale while the writer slept; write it again")
    }
}

fn lost_work(operation: &'static str, object: &StorePath) -> Error {
    let message = "the background work was lost: it panicked, or the runtime was shut down";
    Error::new(ErrorKind::Internal, operation, message).with_object(object)
}

fn unknown(error: Error) -> Error {
    error
        .with_kind(ErrorKind::Temporary)
        .with_note("whether it was renamed is not known")
        .with_advice("write it again under another name")
}

impl Drop for Draft {
    fn drop(&mut self) {
        let leftover = Leftover {
            cluster: Arc::clone(&self.cluster),
            place: std::mem::take(&mut self.place),
            folder: std::mem::take(&mut self.folder),
            file: self.file.take(),
        };
        if self.is_gone && leftover.file.is_none() {
            leftover.forget();
        } else {
            let is_gone = self.is_gone;
            self.cluster.env.runtime.spawn(leftover.clear(is_gone).boxed());
        }
    }
}

/// What an abandoned draft leaves.
struct Leftover {
    cluster: Arc<Cluster>,
    place: String,
    folder: String,
    file: Option<FileWriter>,
}

impl Leftover {
    async fn clear(mut self, is_gone: bool) {
        if !is_gone {
            self.delete().await;
        }
        self.forget();
        if let Some(file) = self.file.take() {
            put_away(&self.cluster.env, file).await;
        }
    }

    async fn delete(&self) {
        let mut backoff = self.cluster.clearing.begin();
        loop {
            let place = self.place.clone();
            match self.cluster.name_node.call(|client| async move { client.delete(&place, false).await }).await {
                Ok(_) => return prune(&self.cluster, &self.folder).await,
                Err(failure) => {
                    let error = failure.into_error("delete a temporary file", &self.place);
                    if !backoff.may_try_again(&error).await {
                        tracing::warn!(%error, "an unfinished object stays behind; gc removes it later");
                        return;
                    }
                }
            }
        }
    }

    fn forget(&self) {
        self.cluster.in_use.lock().remove(&self.place);
    }
}

/// Ends the connection to the DataNodes. Whether the file can be closed does not matter any more.
async fn put_away(env: &Env, mut file: FileWriter) {
    let _ = within(env, PUT_AWAY_LIMIT, file.close()).await;
}
