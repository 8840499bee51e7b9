//! How much of one connection may wait in Python before the core stops reading it (THREATS S4). Below half of that it reads
//! again.

use wsguard::binding::{Options, Policy};

/// How many messages of one connection may wait.
pub(crate) const MAX_PENDING_MESSAGES: usize = 64;

/// How many bytes of one connection may wait at most.
const MAX_PENDING_BYTES: usize = 1 << 20;

/// The bytes of one connection that may wait: all connections of one user, or of one address, together fill at most a
/// quarter of `max_inbox_bytes`, beside the message that each is paused behind. At least 1, so that one message always is
/// taken, whatever its size.
fn max_pending_bytes(max_inbox_bytes: usize, per_user: usize, per_ip: usize) -> usize {
    let most = per_user.max(per_ip).max(1).saturating_mul(4);
    (max_inbox_bytes / most).clamp(1, MAX_PENDING_BYTES)
}

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
