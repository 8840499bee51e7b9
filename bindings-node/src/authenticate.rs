//! The application's answer to a handshake.

use napi_derive::napi;
use wsguard::binding::{Accept, Decision};

/// An answer as `lib/authenticate.js` writes it. None of the fields: the application failed.
#[napi(object)]
#[derive(Debug)]
pub struct Answer {
    /// Upgrade.
    pub accept: Option<bool>,
    /// The user of the session.
    pub user: Option<String>,
    /// When the session ends, in milliseconds since the Unix epoch.
    pub expires_at_ms: Option<f64>,
    /// The HTTP status of a refusal.
    pub status: Option<f64>,
}

impl Answer {
    /// The core's decision. `lib/authenticate.js` has refused numbers that are none; a status out of range is left for the
    /// core to refuse.
    pub(crate) fn decision(self) -> Decision {
        if self.accept == Some(true) {
            let expires_at_ms = self.expires_at_ms.map(|at| at.max(0.0) as u64);
            return Decision::Accept(Accept { user: self.user, expires_at_ms, ..Accept::default() });
        }
        match self.status {
            Some(status) => Decision::reject(if status.fract() == 0.0 { status as u16 } else { 0 }),
            None => Decision::Unavailable,
        }
    }
}
