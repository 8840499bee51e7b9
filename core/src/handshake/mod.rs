//! The opening handshake (RFC 6455 section 4.2, RFC 9112): a request head in, a verdict and a response head out.
//!
//! The head is scanned once as it arrives, parsed once when it is whole, and judged in a fixed order: form, `Host`,
//! path, upgrade, origin, authentication. Nothing here waits: what needs the application comes back as
//! [`Decision::Ask`].

mod decide;
mod head;
mod request;
mod response;

use std::borrow::Cow;

pub use decide::{Decision, Granted, authenticate, choose_subprotocol, vet};
pub use head::HeadScanner;
pub use request::{MAX_HEADERS, Request, UpgradeRequest};
pub use response::{accepted, health, refused};

use crate::limits::Full;
use crate::verdict::Code;

/// A handshake that is refused: the verdict and how it is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The verdict.
    pub code: Code,
    /// The HTTP status; the verdict's own but for 414 and what an application chooses.
    pub status: u16,
    /// Which rule exactly, in our words: for the response body and the log. Never what the peer sent.
    pub detail: Cow<'static, str>,
    /// `Retry-After`, in seconds.
    pub retry_after_s: Option<u64>,
}

impl Refusal {
    /// A refusal with the verdict's own status.
    pub fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { code, status: code.http_status(), detail: detail.into(), retry_after_s: None }
    }

    /// The same refusal with another status.
    #[must_use]
    pub fn with_status(self, status: u16) -> Self {
        Self { status, ..self }
    }

    fn malformed(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::HandshakeMalformed, detail)
    }
}

impl From<Full> for Refusal {
    fn from(full: Full) -> Self {
        Self { retry_after_s: Some(full.retry_after_s), ..Self::new(full.code, full.code.reason()) }
    }
}

#[cfg(test)]
mod tests;
