//! The limits that Python enforces, of the policy in force.

use wsguard::binding::{Options, Policy};

use crate::pending::max_pending_bytes;

/// The limits that Python enforces.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) max_pending_auth: usize,
    /// The bytes of one connection that may wait in Python before the core stops reading it.
    pub(crate) max_pending_bytes: usize,
}

impl Bounds {
    pub(crate) fn of_policy(policy: &Policy) -> Self {
        let (per_user, per_ip) = (policy.max_connections_per_user, policy.max_connections_per_ip);
        Self::new(policy.max_pending_auth, policy.max_inbox_bytes, per_user, per_ip)
    }

    pub(crate) fn of_options(options: &Options) -> Self {
        let (per_user, per_ip) = (options.max_connections_per_user, options.max_connections_per_ip);
        Self::new(options.max_pending_auth, options.max_inbox_bytes, per_user, per_ip)
    }

    fn new(max_pending_auth: usize, max_inbox_bytes: usize, per_user: usize, per_ip: usize) -> Self {
        Self { max_pending_auth, max_pending_bytes: max_pending_bytes(max_inbox_bytes, per_user, per_ip) }
    }
}
