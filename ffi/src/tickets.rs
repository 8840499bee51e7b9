//! Answers to handshakes that ask the application.

use core::ffi::{c_char, c_int};
use core::mem::MaybeUninit;

use wsguard::binding::{self, Decision, TicketId};

use crate::error::{ErrorHandle, Failure, explain};
use crate::events::Field;
use crate::names::WSG_NEVER;
use crate::pointers::{Str, array, bytes, name, optional_text, sized};
use crate::running::{ServerHandle, running};
use crate::status::Status;

/// What an opening handshake is accepted with, for `wsg_ticket_accept_with`. Set it to zeroes, then `size`,
/// `expires_at_ms`, and either `user` or `is_anonymous`; or `size` and `is_pass`. The library reads it, and what it points at, during the call.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Accept {
    /// `sizeof(wsg_accept)`: the library does not read further, and later versions may add members.
    pub size: usize,
    /// The user: 1 to 256 bytes without control characters.
    pub user: Str,
    /// Not 0: a connection without a user. Then `user.data` must be `NULL`.
    pub is_anonymous: c_int,
    /// The end of the session, in milliseconds since 1970; `WSG_NEVER`: it does not end.
    pub expires_at_ms: u64,
    /// The roles: at most 64, each of 1 to 64 bytes without control characters or spaces. `NULL` and 0: none.
    pub roles: *const Str,
    /// The number of roles.
    pub roles_len: usize,
    /// The subprotocol that the 101 names: one that the client offers. `data` is `NULL`: the first of the option
    /// `subprotocols` that it offers, if any.
    pub subprotocol: Str,
    /// Headers that the 101 has besides its own, such as `Set-Cookie`: at most 64, of 16 KiB together. `NULL` and 0: none.
    pub headers: *const Field,
    /// The number of headers.
    pub headers_len: usize,
    /// Comes back as `wsg_open.tag`: what you know the session by, maybe a pointer or an index; 0: nothing.
    pub tag: u64,
    /// Not 0: the peer passes as whoever it is (`WSG_START_CONSULT`): see `wsg_ticket_pass`. Then `user`, `is_anonymous`,
    /// `expires_at_ms` and `roles` stay zeroes.
    pub is_pass: c_int,
}

/// A refusal in your own words, for `wsg_ticket_reject_with`. Set it to zeroes, then `size` and `http_status`. The library
/// reads it, and what it points at, during the call.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Reject {
    /// `sizeof(wsg_reject)`: the library does not read further, and later versions may add members.
    pub size: usize,
    /// The HTTP status: 300 to 599.
    pub http_status: u16,
    /// Headers that the answer has besides its own, such as `Location`: at most 64, of 16 KiB together. `NULL` and 0: none.
    pub headers: *const Field,
    /// The number of headers.
    pub headers_len: usize,
    /// The body: at most 64 KiB. Empty: the name of the verdict, unless a header names a `Content-Type`.
    pub body: Str,
}

impl Default for Reject {
    fn default() -> Self {
        Self { size: 0, http_status: 0, headers: core::ptr::null(), headers_len: 0, body: Str::NONE }
    }
}

impl Reject {
    fn read(&self) -> Result<binding::Reject, Failure> {
        Ok(binding::Reject {
            status: self.http_status,
            headers: read_headers(self.headers, self.headers_len)?,
            body: bytes(self.body.data, self.body.len)?.to_vec(),
        })
    }
}

/// Names and values, as they are: the core knows what a response may have.
fn read_headers(first: *const Field, count: usize) -> Result<Vec<(String, String)>, Status> {
    let owned = |view: Str| -> Result<String, Status> { Ok(name(view.data, view.len)?.to_owned()) };
    array(first, count)?.iter().map(|Field { name, value }| Ok((owned(*name)?, owned(*value)?))).collect()
}

impl Default for Accept {
    fn default() -> Self {
        Self {
            size: 0,
            user: Str::NONE,
            is_anonymous: 0,
            expires_at_ms: 0,
            roles: core::ptr::null(),
            roles_len: 0,
            subprotocol: Str::NONE,
            headers: core::ptr::null(),
            headers_len: 0,
            tag: 0,
            is_pass: 0,
        }
    }
}

impl Accept {
    /// `consults`: the server may have found out by itself who the peer is.
    fn read(&self, consults: bool) -> Result<binding::Accept, Failure> {
        if self.is_pass != 0 {
            if !consults {
                let message = "accept.is_pass is for servers that are started with WSG_START_CONSULT";
                return Err(Failure::new(Status::ErrArgument, message));
            }
            let says_who = !self.user.data.is_null() || self.is_anonymous != 0 || self.roles_len != 0;
            if says_who || self.expires_at_ms != 0 {
                let message =
                    "accept.is_pass leaves it so who the peer is: state no user, is_anonymous, roles or expires_at_ms";
                return Err(Failure::new(Status::ErrArgument, message));
            }
            return self.with(None, None);
        }
        let user = match (self.user.data.is_null(), self.is_anonymous != 0) {
            (true, true) => None,
            (false, false) => Some(name(self.user.data, self.user.len)?.to_owned()),
            (true, false) => {
                let message = "accept.user is NULL: state a user, or set is_anonymous";
                return Err(Failure::new(Status::ErrNull, message));
            }
            (false, true) => {
                let message = "accept states a user and is_anonymous: state one of them";
                return Err(Failure::new(Status::ErrArgument, message));
            }
        };
        let expires_at_ms = expiry(self.expires_at_ms).map_err(|status| {
            Failure::new(status, "accept.expires_at_ms must be 1 or more; WSG_NEVER for a session that does not end")
        })?;
        self.with(user, expires_at_ms)
    }

    fn with(&self, user: Option<String>, expires_at_ms: Option<u64>) -> Result<binding::Accept, Failure> {
        let roles = array(self.roles, self.roles_len)?.iter().map(|role| Ok(name(role.data, role.len)?.to_owned()));
        let roles = roles.collect::<Result<_, Status>>()?;
        let subprotocol = optional_text(self.subprotocol.data, self.subprotocol.len)?.map(str::to_owned);
        let headers = read_headers(self.headers, self.headers_len)?;
        let tag = (self.tag != 0).then_some(self.tag);
        Ok(binding::Accept { user, roles, expires_at_ms, subprotocol, headers, tag })
    }
}

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
        let expires_at_ms = expiry(expires_at_ms)?;
        answer(server, ticket, Decision::Accept(binding::Accept { user, expires_at_ms, ..binding::Accept::default() }))
    }

    /// Accepts an opening handshake without a user. Otherwise as `wsg_ticket_accept`.
    pub fn wsg_ticket_accept_anonymous(server: *mut ServerHandle, ticket: u64, expires_at_ms: u64) -> Status {
        let expires_at_ms = expiry(expires_at_ms)?;
        answer(server, ticket, Decision::Accept(binding::Accept { expires_at_ms, ..binding::Accept::default() }))
    }

    /// Lets an opening handshake pass as whoever it is: user, roles and the end of the session are those of
    /// `wsg_upgrade.identity`. Where that is `NULL` (`auth: "callback"`) nobody has said who it is, and the connection has no
    /// user.
    ///
    /// Returns as `wsg_ticket_accept`; `WSG_ERR_ARGUMENT` on a server that was started without `WSG_START_CONSULT`.
    pub fn wsg_ticket_pass(server: *mut ServerHandle, ticket: u64) -> Status {
        if !running(server)?.consults {
            return Err(Status::ErrArgument);
        }
        answer(server, ticket, Decision::pass())
    }

    /// Accepts an opening handshake with all that can be said of it: see `wsg_accept`. Otherwise as `wsg_ticket_accept`.
    ///
    /// The call writes `*error` as `wsg_error` says. Returns as `wsg_ticket_accept`; `WSG_ERR_ARGUMENT` also if
    /// `accept.size` was not set, if a member is not accepted or unknown to this library; `WSG_ERR_NULL` if neither a user
    /// nor `is_anonymous` is stated.
    ///
    /// Headers or a subprotocol that no response may have (a line break, `Connection`, `Sec-WebSocket-*`, one that the
    /// client does not offer) are `WSG_ERR_ARGUMENT`, too, and `*error` names them; there the peer was answered 503, and
    /// the ticket takes no other answer.
    pub fn wsg_ticket_accept_with(server: *mut ServerHandle, ticket: u64, accept: *const Accept,
        error: Option<&mut MaybeUninit<*mut ErrorHandle>>,
    ) -> Status {
        explain(error, || {
            let running = running(server)?;
            let accept = sized(accept)?.read(running.consults)?;
            Ok(running.commands.answer(TicketId::from_u64(ticket), Decision::Accept(accept))?)
        })?;
        Ok(Status::Ok)
    }

    /// Refuses an opening handshake with this HTTP status, 300 to 599; the verdict is `auth_failed`. Otherwise as
    /// `wsg_ticket_accept`.
    pub fn wsg_ticket_reject(server: *mut ServerHandle, ticket: u64, http_status: u16) -> Status {
        answer(server, ticket, Decision::reject(http_status))
    }

    /// Refuses an opening handshake with headers and a body: see `wsg_reject`. Headers that no response may have are as
    /// with `wsg_ticket_accept_with`. The call writes `*error` as `wsg_error` says. Otherwise as `wsg_ticket_reject`.
    pub fn wsg_ticket_reject_with(server: *mut ServerHandle, ticket: u64, reject: *const Reject,
        error: Option<&mut MaybeUninit<*mut ErrorHandle>>,
    ) -> Status {
        explain(error, || {
            let running = running(server)?;
            let reject = sized(reject)?.read()?;
            Ok(running.commands.answer(TicketId::from_u64(ticket), Decision::Reject(reject))?)
        })?;
        Ok(Status::Ok)
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
