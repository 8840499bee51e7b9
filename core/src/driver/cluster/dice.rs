//! Numbers that no two nodes share.

use std::hash::{BuildHasher as _, RandomState};
use std::time::SystemTime;

/// A number that nobody can foresee. Not of `RandomState` alone: children of `fork` inherit its keys, and those of one parent would
/// all be the same node.
pub(super) fn dice() -> u64 {
    let mut drawn = [0; 8];
    match rustls::crypto::aws_lc_rs::default_provider().secure_random.fill(&mut drawn) {
        Ok(()) => u64::from_ne_bytes(drawn),
        Err(_) => RandomState::new().hash_one((std::process::id(), SystemTime::now())),
    }
}
