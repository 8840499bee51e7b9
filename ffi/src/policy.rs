//! The policy while the server runs: other options, and who is kept out.

use core::ffi::{c_char, c_void};
use core::mem::MaybeUninit;

use wsguard::binding::{BanInfo, Whom};

use crate::boundary::foreign;
use crate::error::{ErrorHandle, ErrorPlace, Failure, explain};
use crate::handle;
use crate::names::WSG_NEVER;
use crate::options::OptionsHandle;
use crate::os::{self, lock};
use crate::pointers::{Str, name, text};
use crate::running::{ServerHandle, must_not_wait, running};
use crate::status::Status;

/// A ban that is in force. It, and its texts, are valid during the call.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Ban {
    /// The address or the network (CIDR) that is banned, of IPv6 at least a /64; `data` is `NULL` for a user.
    pub ip: Str,
    /// The user that is banned; `data` is `NULL` for an address.
    pub user: Str,
    /// When it ends, in milliseconds since 1970; `WSG_NEVER`: when it is lifted.
    pub ends_at_ms: u64,
    /// Why; empty without a reason.
    pub reason: Str,
    /// True if the option `auto_ban` has made it, false if the application has.
    pub is_automatic: bool,
}

impl Ban {
    fn of(ban: &BanInfo) -> Self {
        Self {
            ip: Str::maybe(ban.ip.as_deref()),
            user: Str::maybe(ban.user.as_deref()),
            ends_at_ms: ban.ends_at_ms.unwrap_or(WSG_NEVER),
            reason: Str::of(&ban.reason),
            is_automatic: ban.is_automatic,
        }
    }
}

/// A function that receives the bans in force, one after the other.
pub type BanFn = Option<extern "C-unwind" fn(userdata: *mut c_void, ban: *const Ban)>;

fn ban(
    server: *mut ServerHandle,
    whom: impl FnOnce() -> Result<Whom<'static>, Status>,
    for_ms: u64,
    reason: impl FnOnce() -> Result<&'static str, Status>,
    error: ErrorPlace<'_>,
) -> Result<Status, Status> {
    explain(error, || {
        let running = running(server)?;
        let for_ms = (for_ms != WSG_NEVER).then_some(for_ms);
        let whom = whom()?;
        running.commands.ban(whom, for_ms, reason()?)?;
        // The core is asked of each: where another thread has lifted the ban, whoever has come since stays.
        running.peers.close_banned(|ip, user| match whom {
            Whom::Ip(_) => running.commands.is_banned(ip, None),
            Whom::User(banned) => user == Some(banned) && running.commands.is_banned(None, user),
        });
        Ok(())
    })?;
    Ok(Status::Ok)
}

fn unban(server: *mut ServerHandle, whom: Whom<'_>) -> Result<Status, Status> {
    let was_banned = running(server)?.commands.unban(whom)?;
    Ok(if was_banned { Status::Ok } else { Status::Nothing })
}

exports! {
    /// Makes the server run by other options from now on, without a restart. `options` are the whole options, as for
    /// `wsg_server_start`, not only what changes. All or nothing: on an error the server goes on as it did.
    ///
    /// What comes is judged by the new options, and so is what is open, from its next message on. A connection is
    /// closed with `session_revoked` if its static token is gone, or the key that signed its JSON Web Token, or if its
    /// path is not served any more; with `banned` if `deny_ips` lists its address. Origins are asked of those who come.
    ///
    /// Some options can only be stated at the start: `listen`, `unix_mode`, `reuse_port`, `threads`, `protocol`,
    /// `proxy_protocol`, `admin_listen` and `cluster`. To change one of them is `WSG_ERR_NOT_RELOADABLE`. The inline
    /// handler stays that of the start. If a reload may turn `auth: "callback"` on, give `wsg_server_run` the handler
    /// `event`: without `upgrade` and `event` those handshakes are refused with 503.
    ///
    /// On `WSG_OK` the call writes the number of the policy to `*generation`: 1 at the start, one more with each reload;
    /// `NULL` if you do not want it. It writes `*error` as `wsg_error` says. The options stay yours.
    ///
    /// Any thread but those of inline handlers. It compiles schemas and reads the files of `tls` and
    /// keys, and may ask `jwks_url` for 5 seconds. Returns `WSG_OK`; `WSG_ERR_NOT_RELOADABLE`; the errors of options as
    /// `wsg_server_start`; `WSG_ERR_STOPPED`, `WSG_ERR_REENTRANT`, `WSG_ERR_NULL`, `WSG_ERR_HANDLE` or `WSG_ERR_FORKED`.
    pub fn wsg_server_reload(server: *mut ServerHandle, options: *const OptionsHandle,
        generation: Option<&mut MaybeUninit<u64>>, error: Option<&mut MaybeUninit<*mut ErrorHandle>>,
    ) -> Status {
        explain(error, || {
            let running = running(server)?;
            let options = handle::find(options)?;
            if must_not_wait() {
                let message = "an inline handler must not reload a server";
                return Err(Failure::new(Status::ErrReentrant, message));
            }
            let stated = {
                let _calm = os::calm();
                lock(&options).options.clone()
            };
            let number = running.reload(stated)?;
            if let Some(generation) = generation {
                generation.write(number);
            }
            Ok(())
        })?;
        Ok(Status::Ok)
    }

    /// Keeps an address or a network out: `203.0.113.7`, `2001:db8::/48`. An IPv6 address stands for its /64. Handshakes
    /// are refused with 403, and open connections are closed with 1008; the verdict is `banned`. From here on they are
    /// closed for the application, as after `wsg_server_disconnect_user`.
    ///
    /// It holds for `for_ms` milliseconds; `WSG_NEVER`: until `wsg_server_unban_ip`. A second ban of the same replaces the
    /// first. `reason` is for your log and `wsg_server_bans`: at most 256 bytes, or `NULL` and 0. The peer does not see it.
    /// The call writes `*error` as `wsg_error` says.
    ///
    /// Any thread, callbacks and inline handlers included. Returns `WSG_OK`; `WSG_ERR_ARGUMENT` if `ip` is no address and
    /// no network, if `for_ms` is 0, if the reason is too long, and while 65536 bans are in force; `WSG_ERR_STOPPED`,
    /// `WSG_ERR_UTF8`, `WSG_ERR_NULL`, `WSG_ERR_HANDLE` or `WSG_ERR_FORKED`.
    pub fn wsg_server_ban_ip(server: *mut ServerHandle, ip: *const c_char, ip_len: usize, for_ms: u64,
        reason: *const c_char, reason_len: usize, error: Option<&mut MaybeUninit<*mut ErrorHandle>>,
    ) -> Status {
        ban(server, || Ok(Whom::Ip(name(ip, ip_len)?)), for_ms, || text(reason, reason_len), error)
    }

    /// Keeps a user out: 1 to 256 bytes without control characters. Otherwise as `wsg_server_ban_ip`.
    pub fn wsg_server_ban_user(server: *mut ServerHandle, user: *const c_char, user_len: usize, for_ms: u64,
        reason: *const c_char, reason_len: usize, error: Option<&mut MaybeUninit<*mut ErrorHandle>>,
    ) -> Status {
        ban(server, || Ok(Whom::User(name(user, user_len)?)), for_ms, || text(reason, reason_len), error)
    }

    /// Lifts a ban of exactly this address or network, also one of `auto_ban`. An address within a network that is
    /// banned stays banned with it.
    ///
    /// Any thread. Returns `WSG_OK`; `WSG_NOTHING` if there was no such ban; `WSG_ERR_ARGUMENT` if `ip` is no address and
    /// no network; `WSG_ERR_UTF8`, `WSG_ERR_NULL`, `WSG_ERR_HANDLE` or `WSG_ERR_FORKED`.
    pub fn wsg_server_unban_ip(server: *mut ServerHandle, ip: *const c_char, ip_len: usize) -> Status {
        unban(server, Whom::Ip(name(ip, ip_len)?))
    }

    /// Lifts a ban of a user. Otherwise as `wsg_server_unban_ip`.
    pub fn wsg_server_unban_user(server: *mut ServerHandle, user: *const c_char, user_len: usize) -> Status {
        unban(server, Whom::User(name(user, user_len)?))
    }

    /// Calls `each` with every ban in force, in the order of their ends: those of the application, and those of
    /// `auto_ban`. They are those of the moment of the call: `each` may ban and lift bans.
    ///
    /// Any thread. Returns `WSG_OK`; `WSG_NOTHING` if there is none; `WSG_ERR_NULL`, `WSG_ERR_HANDLE` or
    /// `WSG_ERR_FORKED`.
    pub fn wsg_server_bans(server: *const ServerHandle, each: BanFn, userdata: *mut c_void) -> Status {
        let each = each.ok_or(Status::ErrNull)?;
        let bans = running(server)?.commands.bans();
        for ban in &bans {
            let seen = Ban::of(ban);
            foreign(|| each(userdata, &raw const seen));
        }
        Ok(if bans.is_empty() { Status::Nothing } else { Status::Ok })
    }
}
