//! The application's answer to a handshake: as it is written, and as it is once it was checked.

use core::fmt;

use wsguard_proto::auth::check_user;
use wsguard_proto::handshake::{Rejection, ResponseHeaders};
use wsguard_proto::revocation::Grant;
use wsguard_proto::roles::Roles;

use crate::error::Error;

/// A session the application grants.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Accept {
    /// The user: shares limits and can be disconnected by name. 1 to 256 bytes without control characters.
    pub user: Option<String>,
    /// What it may do: events may ask for one of these. Each 1 to 64 bytes without control characters or spaces, at most 64.
    pub roles: Vec<String>,
    /// When the session ends, in milliseconds since the Unix epoch.
    pub expires_at_ms: Option<u64>,
    /// The subprotocol of the 101: one that the client offers. `None`: the first of the option `subprotocols` that it offers.
    pub subprotocol: Option<String>,
    /// Headers that the 101 has besides its own, such as `Set-Cookie`: at most 64, of 16 KiB together.
    pub headers: Vec<(String, String)>,
    /// Comes back as [`Open::tag`](super::Open::tag): what the application knows the session by.
    pub tag: Option<u64>,
}

/// A refusal in the application's own words.
#[derive(Clone, PartialEq, Eq)]
pub struct Reject {
    /// The HTTP status, 300 to 599.
    pub status: u16,
    /// Headers that the answer has besides its own, such as `Location`: at most 64, of 16 KiB together.
    pub headers: Vec<(String, String)>,
    /// The body: at most 64 KiB. Empty: the name of the verdict, unless a header names a `Content-Type`.
    pub body: Vec<u8>,
}

/// The application's answer to a ticket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Upgrade.
    Accept(Accept),
    /// Refuse: `auth_failed`.
    Reject(Reject),
    /// The application failed: 503, `auth_unavailable`.
    Unavailable,
}

fn names(headers: &[(String, String)]) -> Vec<&str> {
    headers.iter().map(|(name, _)| name.as_str()).collect()
}

/// Without the values of headers: one may be a cookie.
impl fmt::Debug for Accept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Accept")
            .field("user", &self.user)
            .field("roles", &self.roles)
            .field("expires_at_ms", &self.expires_at_ms)
            .field("subprotocol", &self.subprotocol)
            .field("headers", &names(&self.headers))
            .field("tag", &self.tag)
            .finish()
    }
}

/// Without the values of headers and the body.
impl fmt::Debug for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reject")
            .field("status", &self.status)
            .field("headers", &names(&self.headers))
            .field("body_bytes", &self.body.len())
            .finish()
    }
}

/// A session as it is granted.
#[derive(Debug)]
pub(super) struct AcceptedSession {
    pub(super) user: Option<String>,
    pub(super) roles: Roles,
    pub(super) expires_at_ms: Option<u64>,
    pub(super) subprotocol: Option<String>,
    pub(super) headers: ResponseHeaders,
    pub(super) tag: Option<u64>,
    /// As of when the application answered.
    pub(super) grant: Grant,
}

/// What a handshake that waits is told.
#[derive(Debug)]
pub(super) enum Answer {
    Accepted(Box<AcceptedSession>),
    Rejected(Box<Rejection>),
    /// The application failed.
    Failed,
    /// The application has answered what cannot be sent: why.
    Unusable(String),
    /// Its permit went to another address.
    Displaced,
}

/// Why an answer cannot be given.
#[derive(Debug)]
pub(super) enum Fault {
    /// The application may answer again.
    Argument(&'static str),
    /// The handshake is over.
    Unusable(String),
}

impl Fault {
    pub(super) fn into_error(self) -> Error {
        match self {
            Fault::Argument(what) => Error::InvalidArgument(what),
            Fault::Unusable(what) => Error::InvalidAnswer(what),
        }
    }
}

impl Answer {
    /// Checks an answer, but for what depends on the client.
    pub(super) fn new(decision: Decision, grant: Grant) -> Result<Self, Fault> {
        match decision {
            Decision::Accept(accept) => {
                AcceptedSession::new(accept, grant).map(|accepted| Answer::Accepted(Box::new(accepted)))
            }
            Decision::Reject(Reject { status, .. }) if !Rejection::allows_status(status) => {
                Err(Fault::Argument("status of a rejection must be 300 to 599"))
            }
            Decision::Reject(Reject { status, headers, body }) => {
                let rejection = Rejection::new(status, headers, body).map_err(Fault::Unusable)?;
                Ok(Answer::Rejected(Box::new(rejection)))
            }
            Decision::Unavailable => Ok(Answer::Failed),
        }
    }

    /// Whether the application has said that the peer is not to come in.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self, Answer::Rejected(_) | Answer::Failed)
    }
}

impl AcceptedSession {
    /// Whether it says who the peer is.
    pub(super) fn names_user(&self) -> bool {
        self.user.is_some() || self.roles != Roles::default() || self.expires_at_ms.is_some()
    }

    fn new(accept: Accept, grant: Grant) -> Result<Self, Fault> {
        let Accept { user, roles, expires_at_ms, subprotocol, headers, tag } = accept;
        if user.as_deref().is_some_and(|user| check_user(user).is_err()) {
            return Err(Fault::Argument("user must be 1 to 256 bytes without control characters"));
        }
        let roles = Roles::new(roles.iter().map(String::as_str)).map_err(|_| {
            Fault::Argument("roles must be at most 64, each of 1 to 64 bytes without control characters or spaces")
        })?;
        let headers = ResponseHeaders::new(headers).map_err(Fault::Unusable)?;
        Ok(Self { user, roles, expires_at_ms, subprotocol, headers, tag, grant })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_answer_holds_is_shown_by_name_alone() {
        let headers = || vec![("Set-Cookie".to_owned(), "sid=s3cret".to_owned())];
        let accept = Accept { headers: headers(), ..Accept::default() };
        let reject = Reject { status: 418, headers: headers(), body: b"s3cret".to_vec() };
        for shown in [format!("{:?}", Decision::Accept(accept)), format!("{:?}", Decision::Reject(reject))] {
            assert!(shown.contains("Set-Cookie") && !shown.contains("s3cret"), "{shown}");
        }
    }
}
