//! Answers to handshakes that ask the application.

use core::ffi::c_char;

use wsguard::binding::{Accept, Decision, TicketId};

use crate::names::WSG_NEVER;
use crate::pointers::name;
use crate::running::{ServerHandle, running};
use crate::status::Status;

fn answer(server: *mut ServerHandle, ticket: u64, decision: Decision) -> Result<Status, Status> {
    running(server)?.commands.answer(TicketId::from_u64(ticket), decision)?;
    Ok(Status::Ok)
}

/// The end of a session. A parser that fails often leaves 0 or a negative number: that must not mean "never".
fn expiry(expires_at_ms: u64) -> Result<Option<u64>, Status> {
    match expires_at_ms {
        0 => Err(Status::ErrArgument),
        WSG_NEVER => Ok(None),
        // A negative number of C: `mktime` that failed, times 1000.
        at if i64::try_from(at).is_err() => Err(Status::ErrArgument),
        at => Ok(Some(at)),
    }
}

exports! {
    /// Accepts an opening handshake as `user`: 1 to 256 bytes without control characters. A user's connections share
    /// limits, and `wsg_server_disconnect_user` closes them. For a connection without a user call
    /// `wsg_ticket_accept_anonymous`; `NULL` is an error here.
    ///
    /// The session ends at `expires_at_ms`, in milliseconds since 1970; `WSG_NEVER`: it does not end. 0 and what a
    /// negative number becomes are `WSG_ERR_ARGUMENT`.
    ///
    /// A ticket takes one answer, now or later. An answer with an error leaves it open. Any thread. Returns `WSG_OK`;
    /// `WSG_ERR_TICKET_SETTLED` if the ticket was answered, its time is over, or its peer has left; `WSG_ERR_ARGUMENT`,
    /// `WSG_ERR_UTF8`, `WSG_ERR_NULL`, `WSG_ERR_HANDLE` or `WSG_ERR_FORKED`.
    pub fn wsg_ticket_accept(server: *mut ServerHandle, ticket: u64, user: *const c_char, user_len: usize,
        expires_at_ms: u64,
    ) -> Status {
        let user = Some(name(user, user_len)?.to_owned());
        answer(server, ticket, Decision::Accept(Accept { user, expires_at_ms: expiry(expires_at_ms)?, ..Accept::default() }))
    }

    /// Accepts an opening handshake without a user. Otherwise as `wsg_ticket_accept`.
    pub fn wsg_ticket_accept_anonymous(server: *mut ServerHandle, ticket: u64, expires_at_ms: u64) -> Status {
        answer(server, ticket, Decision::Accept(Accept { expires_at_ms: expiry(expires_at_ms)?, ..Accept::default() }))
    }

    /// Refuses an opening handshake with this HTTP status, 300 to 599; the verdict is `auth_failed`. Otherwise as
    /// `wsg_ticket_accept`.
    pub fn wsg_ticket_reject(server: *mut ServerHandle, ticket: u64, http_status: u16) -> Status {
        answer(server, ticket, Decision::reject(http_status))
    }

    /// Refuses an opening handshake because the application cannot decide: HTTP 503, verdict `auth_unavailable`.
    /// Otherwise as `wsg_ticket_accept`.
    pub fn wsg_ticket_unavailable(server: *mut ServerHandle, ticket: u64) -> Status {
        answer(server, ticket, Decision::Unavailable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_failed_parser_leaves_behind_is_not_never() {
        for bad in [0, -1000_i64 as u64, i64::MIN as u64, WSG_NEVER - 1] {
            assert_eq!(expiry(bad), Err(Status::ErrArgument), "{bad}");
        }
        assert_eq!((expiry(1), expiry(i64::MAX as u64)), (Ok(Some(1)), Ok(Some(i64::MAX as u64))));
        assert_eq!(expiry(WSG_NEVER), Ok(None));
    }
}
