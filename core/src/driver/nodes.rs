//! The cluster, as the rest of the driver knows it: over Redis, and in unit tests several servers of one process.

#[cfg(not(test))]
pub(super) use super::cluster::{Cluster, Entered};
#[cfg(test)]
pub(super) use super::cluster_fake::{Cluster, Entered};
