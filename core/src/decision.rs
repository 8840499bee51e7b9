//! Short ways to answer a handshake that waits for the application.

use crate::driver::{Accept, Decision};

impl Decision {
    /// Accepts the peer as `user`.
    pub fn accept(user: impl Into<String>) -> Self {
        Decision::Accept(Accept { user: Some(user.into()), ..Accept::default() })
    }

    /// Refuses the peer: 401.
    pub fn unauthorized() -> Self {
        Decision::Reject(401)
    }
}
