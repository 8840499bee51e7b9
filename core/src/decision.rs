//! Short ways to answer a handshake that waits for the application.

use crate::driver::{Accept, Decision, Reject};

impl Decision {
    /// Accepts the peer as `user`.
    pub fn accept(user: impl Into<String>) -> Self {
        Decision::Accept(Accept { user: Some(user.into()), ..Accept::default() })
    }

    /// Lets the peer pass as whoever it is: with [`Builder::consult`](crate::Builder::consult).
    pub fn pass() -> Self {
        Decision::Accept(Accept::default())
    }

    /// Refuses the peer: 401.
    pub fn unauthorized() -> Self {
        Self::reject(401)
    }

    /// Refuses the peer with this HTTP status, 300 to 599, and no more words than the verdict's.
    pub fn reject(status: u16) -> Self {
        Decision::Reject(Reject { status, headers: Vec::new(), body: Vec::new() })
    }
}
