//! How much of one connection may wait in Python before the core stops reading it. Below half of that it reads
//! again.
// THREATS S4.

/// How many messages of one connection may wait.
pub(crate) const MAX_PENDING_MESSAGES: usize = 64;

/// How many times as much may wait while a call or a ping is under way: its answer is behind it.
pub(crate) const TIMES_WHILE_ASKING: usize = 4;

/// How many bytes of one connection may wait at most.
const MAX_PENDING_BYTES: usize = 1 << 20;

/// The bytes of one connection that may wait: all connections of one user, or of one address, together fill at most a
/// quarter of `max_inbox_bytes`, beside the message that each is paused behind. At least 1, so that one message always is
/// taken, whatever its size.
pub(crate) fn max_pending_bytes(max_inbox_bytes: usize, per_user: usize, per_ip: usize) -> usize {
    let most = per_user.max(per_ip).max(1).saturating_mul(4);
    (max_inbox_bytes / most).clamp(1, MAX_PENDING_BYTES)
}
