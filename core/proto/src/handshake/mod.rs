//! The opening handshake (RFC 6455 section 4.2, RFC 9112): a request head in, a verdict and a response head out.
//!
//! The head is scanned once as it arrives, parsed once when it is whole, and judged in a fixed order: form, `Host`,
//! path, upgrade, origin, authentication. Where its rules only report (`report_handshakes`) what they would refuse is noted, and
//! the judgement goes on. Nothing here waits: what needs the application comes back as
//! [`Decision::Ask`].

mod decide;
mod facts;
mod habits;
mod head;
mod request;
mod response;
mod response_headers;

use std::borrow::Cow;

pub use decide::{
    Decision, Granted, Offers, Reported, Subprotocol, authenticate, choose_compression, choose_subprotocol,
    names_users, resolve, vet,
};
pub use facts::{Facts, Pairs, TlsFacts};
pub use habits::in_words_of_ws;
pub use head::HeadScanner;
pub use head::MAX_HEADERS;
pub use request::{Head, HealthCheck, NO_HEADERS, Request, UpgradeRequest};
pub use response::{accepted, health, refused};
pub use response_headers::{Rejection, ResponseHeaders};

use crate::config::Policy;
use crate::limits::Full;
use crate::verdict::Code;

/// A handshake that is refused: the verdict and how it is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The verdict.
    pub code: Code,
    /// The HTTP status; the verdict's own but for 414 and what an application chooses.
    pub status: u16,
    /// Which rule exactly, in our words and for the log alone: the peer is told the verdict. What the peer sent stands
    /// there escaped, and never a credential.
    pub detail: Cow<'static, str>,
    /// Whom it concerns, where that is known.
    pub user: Option<Box<str>>,
    /// `Retry-After`, in seconds.
    pub retry_after_s: Option<u64>,
    /// What the application answers, where it is the one that refuses.
    pub rejection: Option<Box<Rejection>>,
}

impl Refusal {
    /// A refusal with the verdict's own status.
    pub fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        let (user, retry_after_s, rejection) = Default::default();
        Self { code, status: code.http_status(), detail: detail.into(), user, retry_after_s, rejection }
    }

    /// A refusal by the application.
    pub fn rejected(rejection: Rejection) -> Self {
        let refusal = Self::new(Code::AuthFailed, "rejected by the application").with_status(rejection.status);
        Self { rejection: Some(Box::new(rejection)), ..refusal }
    }

    /// Whether its answer fits into the buffer of any socket that has sent nothing else.
    pub fn is_short(&self) -> bool {
        self.rejection.as_ref().is_none_or(|rejection| rejection.is_short())
    }

    /// The same refusal with another status.
    #[must_use]
    pub fn with_status(self, status: u16) -> Self {
        Self { status, ..self }
    }

    /// A refusal by a limit.
    pub fn full(full: Full, policy: &Policy) -> Self {
        let detail = full.describe(policy);
        // Whoever is banned need not come again.
        let retry_after_s = (full.code() != Code::Banned).then_some(full.retry_after_s);
        Self { retry_after_s, ..Self::new(full.code(), detail) }
    }

    fn malformed(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::HandshakeMalformed, detail)
    }
}

/// What a peer sent, for a log line: at most 64 bytes, and as in a URL everything but visible ASCII escaped, and what
/// could end a quoted text, begin a field or look like an escape, too.
pub(crate) struct Shown<'b>(pub(crate) &'b [u8]);

impl core::fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let (shown, rest) = self.0.split_at(self.0.len().min(64));
        for byte in shown {
            match byte {
                b'"' | b'\\' | b'=' | b'%' => write!(f, "%{byte:02x}")?,
                byte if byte.is_ascii_graphic() => write!(f, "{}", char::from(*byte))?,
                byte => write!(f, "%{byte:02x}")?,
            }
        }
        f.write_str(if rest.is_empty() { "" } else { "…" })
    }
}

#[cfg(test)]
mod tests;
