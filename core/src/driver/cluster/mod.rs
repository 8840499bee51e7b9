//! The nodes of a cluster, over Redis. This build has no driver for it yet: a server with `cluster` does not start.

use std::sync::Arc;
use std::time::Duration;

use super::clock::Clock;
use crate::error::Error;
use wsguard_proto::cluster::ops::{Effect, Request, Topic, UserFull};
use wsguard_proto::config::ClusterPolicy;
use wsguard_proto::config_error::ConfigError;
use wsguard_proto::limits::Limits;

/// This node's part in a cluster.
#[derive(Debug)]
pub(super) enum Cluster {}

/// A connection of a user, as the cluster counts it; dropping it gives the place back.
#[derive(Debug)]
pub(super) enum Entered {}

/// How the cluster is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ClusterFacts {
    pub(super) up: bool,
    pub(super) lag: Duration,
    pub(super) dropped: u64,
}

impl Cluster {
    pub(super) fn start(
        _policy: &ClusterPolicy,
        _limits: Arc<Limits>,
        _clock: Clock,
        _effects: Box<dyn Fn(Effect) + Send>,
    ) -> Result<Arc<Self>, Error> {
        Err(Error::Config(ConfigError::invalid("cluster", "is not in this build")))
    }

    pub(super) fn is_reachable(&self) -> bool {
        match *self {}
    }

    pub(super) fn enter(&self, _user: Arc<str>, _most: u32) -> impl Future<Output = Result<Entered, UserFull>> + use<> {
        match *self {}
        #[expect(unreachable_code, reason = "it says what the type is")]
        core::future::pending()
    }

    pub(super) fn request(&self, _request: Request) {
        match *self {}
    }

    pub(super) fn reaches_others(&self, _topic: &Topic) -> bool {
        match *self {}
    }

    pub(super) fn up(&self, _topic: Topic) {
        match *self {}
    }

    pub(super) fn down(&self, _topic: &Topic) {
        match *self {}
    }

    pub(super) fn facts(&self) -> ClusterFacts {
        match *self {}
    }

    pub(super) fn stop(&self) {
        match *self {}
    }
}
