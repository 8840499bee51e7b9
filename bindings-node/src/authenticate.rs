//! The application's answer to a handshake.

use napi::bindgen_prelude::Buffer;
use napi_derive::napi;
use wsguard::binding::{Accept, Decision, Reject};

/// An answer as `lib/authenticate.js` writes it. None of the fields: the application failed.
#[napi(object)]
pub struct Answer {
    /// Upgrade.
    pub accept: Option<bool>,
    /// The user of the session.
    pub user: Option<String>,
    /// Its roles.
    pub roles: Option<Vec<String>>,
    /// When the session ends, in milliseconds since the Unix epoch.
    pub expires_at_ms: Option<f64>,
    /// The subprotocol of the 101.
    pub subprotocol: Option<String>,
    /// Headers of the response: name and value.
    pub headers: Option<Vec<Vec<String>>>,
    /// The HTTP status of a refusal.
    pub status: Option<f64>,
    /// The body of a refusal.
    pub body: Option<Buffer>,
}

impl Answer {
    /// The core's decision. `lib/authenticate.js` has refused numbers that are none; a status out of range is left for the
    /// core to refuse.
    pub(crate) fn decision(self) -> Decision {
        let headers = self.headers.unwrap_or_default().into_iter().filter_map(pair).collect();
        if self.accept == Some(true) {
            return Decision::Accept(Accept {
                user: self.user,
                roles: self.roles.unwrap_or_default(),
                expires_at_ms: self.expires_at_ms.map(|at| at.max(0.0) as u64),
                subprotocol: self.subprotocol,
                headers,
                tag: None,
            });
        }
        let Some(status) = self.status else { return Decision::Unavailable };
        let status = if status.fract() == 0.0 { status as u16 } else { 0 };
        Decision::Reject(Reject { status, headers, body: self.body.map(Vec::from).unwrap_or_default() })
    }
}

fn pair(header: Vec<String>) -> Option<(String, String)> {
    <[String; 2]>::try_from(header).ok().map(|[name, value]| (name, value))
}
