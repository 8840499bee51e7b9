//! Answers to handshakes that ask the application.

use core::ffi::c_char;

use wsguard::host::{Accept, Decision, TicketId};

use crate::handle::optional_text;
use crate::server::{ServerHandle, running};
use crate::status::Status;

fn answer(server: *mut ServerHandle, ticket: u64, decision: Decision) -> Result<Status, Status> {
    running(server)?.commands.answer(TicketId::from_u64(ticket), decision)?;
    Ok(Status::Ok)
}

exports! {
    /// Lets a handshake in. `user` shares limits and can be disconnected by name (1 to 256 bytes without control
    /// characters); `NULL` for none. The session ends at `expires_at_ms`, milliseconds since 1970; 0: it does not.
    ///
    /// Each ticket is answered once, now or later, from any thread. Returns `WSG_OK`; `WSG_ERR_TICKET_SETTLED` when it was
    /// answered, its time is over or its peer has left; `WSG_ERR_ARGUMENT`, `WSG_ERR_UTF8`, `WSG_ERR_NULL`,
    /// `WSG_ERR_HANDLE` or `WSG_ERR_FORKED`.
    pub fn wsg_server_accept(server: *mut ServerHandle, ticket: u64, user: *const c_char, user_len: usize,
        expires_at_ms: u64,
    ) -> Status {
        let user = optional_text(user, user_len)?.map(str::to_owned);
        let expires_at_ms = (expires_at_ms != 0).then_some(expires_at_ms);
        answer(server, ticket, Decision::Accept(Accept { user, expires_at_ms }))
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
