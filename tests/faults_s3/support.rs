//! A place on an S3 server, behind a network that fails as told.

use std::path::Path;

use icecore::store::{StoreOptions, StoreRef};

use crate::fault_scenarios::{Patience, Remote};
use crate::s3_support::{options, store_at};
use crate::services::proxy::{Aim, Proxy};
use crate::services::{self, S3Address, S3Server};

pub struct Place {
    /// `None` where the server is shared with other tests, and may not be killed.
    server: Option<S3Server>,
    address: S3Address,
    network: Proxy,
    prefix: String,
}

impl Place {
    /// On the server that all tests share.
    pub fn shared(test: &str) -> Option<Self> {
        Some(Self::at(services::shared_s3()?.clone(), None, test))
    }

    /// On a server of its own.
    pub fn own(test: &str) -> Option<Self> {
        let server = S3Server::start()?;
        Some(Self::at(server.address().clone(), Some(server), test))
    }

    /// On a server of its own that keeps its data in this folder.
    pub fn own_in(folder: &Path, test: &str) -> Option<Self> {
        let server = S3Server::start_in(folder)?;
        Some(Self::at(server.address().clone(), Some(server), test))
    }

    fn at(address: S3Address, server: Option<S3Server>, test: &str) -> Self {
        let network = Proxy::http(address.host_and_port());
        Self { server, address, network, prefix: services::fresh_prefix(test) }
    }

    /// What lets a job in, through the network. Parts are as small as S3 allows.
    pub fn options(&self) -> StoreOptions {
        options(&self.address.through(&self.network.endpoint())).with("part-size", "5MiB")
    }

    /// The place as somebody opens it who has these options.
    pub fn opened_with(&self, options: &StoreOptions) -> StoreRef {
        store_at(&self.address, &self.prefix, options)
    }

    fn server(&self) -> &S3Server {
        self.server.as_ref().expect("a server of the test's own")
    }
}

impl Remote for Place {
    fn store(&self, patience: Patience) -> StoreRef {
        let Patience { retry_for, silence, .. } = patience;
        self.opened_with(&self.options().with("retry-for", retry_for).with("request-timeout", silence))
    }

    fn witness(&self) -> StoreRef {
        self.opened_with(&options(&self.address))
    }

    fn network(&self) -> &Proxy {
        &self.network
    }

    fn write_of(&self, part: &str) -> Aim {
        Aim::at("PUT", part)
    }

    fn delete_of(&self, part: &str) -> Aim {
        // Several at once: their names are not in the request's path.
        if part.is_empty() { Aim::at("POST", "?delete") } else { Aim::at("DELETE", part) }
    }

    fn has_sent_a_piece(&self) -> bool {
        self.network.count("PUT", "partNumber=") > 0
    }

    fn kill(&self) {
        self.server().kill9();
    }

    fn restart(&self) {
        self.server().restart();
    }
}
