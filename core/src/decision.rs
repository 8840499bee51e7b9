//! Short ways to answer a handshake that asks.

use crate::driver::{Accept, Decision};

impl Decision {
    /// Lets the peer in as `user`.
    pub fn accept(user: impl Into<String>) -> Self {
        Decision::Accept(Accept { user: Some(user.into()), ..Accept::default() })
    }

    /// Refuses the peer: 401.
    pub fn unauthorized() -> Self {
        Decision::Reject(401)
    }
}
