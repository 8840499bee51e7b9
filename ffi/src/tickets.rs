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

/// When a session ends. 0 and negative numbers are what a parser that failed leaves behind: they must not be "never".
fn expiry(expires_at_ms: u64) -> Result<Option<u64>, Status> {
    match expires_at_ms {
        0 => Err(Status::ErrArgument),
        WSG_NEVER => Ok(None),
        // What a negative number of C becomes: `mktime` that failed, times 1000.
        at if i64::try_from(at).is_err() => Err(Status::ErrArgument),
        at => Ok(Some(at)),
    }
}

exports! {
    /// Lets a handshake in, as `user` (1 to 256 bytes without control characters), who shares limits and can be disconnected
    /// by name. `NULL` is `WSG_ERR_NULL`: whoever wants nobody says `wsg_server_accept_anonymous`.
    ///
    /// The session ends at `expires_at_ms`, milliseconds since 1970; `WSG_NEVER`: it does not; 0 and
    /// negative numbers are `WSG_ERR_ARGUMENT`.
    ///
    /// Each ticket is answered once, now or later, from any thread; an answer that is not accepted leaves it open. Returns
    /// `WSG_OK`; `WSG_ERR_TICKET_SETTLED` when it was answered, its time is over or its peer has left; `WSG_ERR_ARGUMENT`,
    /// `WSG_ERR_UTF8`, `WSG_ERR_NULL`, `WSG_ERR_HANDLE` or `WSG_ERR_FORKED`.
    pub fn wsg_server_accept(server: *mut ServerHandle, ticket: u64, user: *const c_char, user_len: usize,
        expires_at_ms: u64,
    ) -> Status {
        let user = Some(name(user, user_len)?.to_owned());
        answer(server, ticket, Decision::Accept(Accept { user, expires_at_ms: expiry(expires_at_ms)? }))
    }

    /// Lets a handshake in without a user. Otherwise as `wsg_server_accept`.
    pub fn wsg_server_accept_anonymous(server: *mut ServerHandle, ticket: u64, expires_at_ms: u64) -> Status {
        answer(server, ticket, Decision::Accept(Accept { user: None, expires_at_ms: expiry(expires_at_ms)? }))
    }

    /// Refuses a handshake with this HTTP status, 300 to 599: `auth_failed`. Otherwise as `wsg_server_accept`.
    pub fn wsg_server_reject(server: *mut ServerHandle, ticket: u64, http_status: u16) -> Status {
        answer(server, ticket, Decision::Reject(http_status))
    }

    /// Says that the application cannot decide: 503, `auth_unavailable`. Otherwise as `wsg_server_accept`.
    pub fn wsg_server_unavailable(server: *mut ServerHandle, ticket: u64) -> Status {
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
