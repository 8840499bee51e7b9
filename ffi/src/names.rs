//! Versions, and the names behind numbers.

use std::ffi::{CStr, CString};
use std::sync::OnceLock;

use wsguard::binding::Code;

use crate::events::Fault;
use crate::pointers::Str;
use crate::status::Status;

/// The ABI version of this header. It changes when programs must be compiled again, together with the soname of the
/// library.
pub const WSG_ABI_VERSION: u32 = 0;

/// For `expires_at_ms`: a session that does not end. For `timeout_ms` of a drain: wait for ever. For
/// `for_ms` of a ban, and of its `ends_at_ms`: until it is lifted.
pub const WSG_NEVER: u64 = u64::MAX;

/// For `wsg_close.verdict`: no verdict closed the connection.
pub const WSG_NO_VERDICT: u32 = u32::MAX;

/// The default `timeout_ms` of a drain in milliseconds, the same in every language.
pub const WSG_DEFAULT_DRAIN_TIMEOUT_MS: u64 = 10_000;

/// The default `jitter_ms` of a drain in milliseconds, the same in every language.
pub const WSG_DEFAULT_DRAIN_JITTER_MS: u64 = 0;

fn view(text: &'static CStr) -> Str {
    Str { data: text.as_ptr(), len: text.count_bytes() }
}

fn verdict(number: u32) -> Option<Code> {
    Code::ALL.get(number as usize).copied()
}

exports! {
    /// Returns the version of the library: `0.1.0`. The text ends with a zero byte and is valid for ever. Any thread.
    pub fn wsg_version() -> Str {
        static VERSION: OnceLock<CString> = OnceLock::new();
        Ok(view(VERSION.get_or_init(|| CString::new(env!("CARGO_PKG_VERSION")).unwrap_or_default())))
    }

    /// Returns the ABI version of the library that was loaded; see `WSG_ABI_VERSION`. Any thread.
    pub fn wsg_abi_version() -> u32 {
        Ok(WSG_ABI_VERSION)
    }

    /// Checks that this program fits the library that was loaded. Pass `WSG_ABI_VERSION`. Any thread.
    ///
    /// Returns `WSG_OK` or `WSG_ERR_ABI`.
    pub fn wsg_abi_check(compiled_with: u32) -> Status {
        Ok(if compiled_with == WSG_ABI_VERSION { Status::Ok } else { Status::ErrAbi })
    }

    /// Returns the stable name of a `wsg_status`: `unknown_option`. Empty if the number is no status.
    ///
    /// The text ends with a zero byte and is valid for ever. Any thread.
    pub fn wsg_status_name(status: i32) -> Str {
        Ok(Status::from_number(status).map_or(Str::of(""), |status| view(status.name())))
    }

    /// Returns one line of English about a `wsg_status`. The words may change. Empty if the number is no status.
    ///
    /// The text ends with a zero byte and is valid for ever. Any thread.
    pub fn wsg_status_message(status: i32) -> Str {
        Ok(Status::from_number(status).map_or(Str::of(""), |status| view(status.message())))
    }

    /// Returns the stable name of a `wsg_verdict`: `origin_denied`. Empty if the number is no verdict; so a loop from 0
    /// to the first empty name visits every verdict.
    ///
    /// The text ends with a zero byte and is valid for ever. Any thread.
    pub fn wsg_verdict_name(verdict: u32) -> Str {
        static NAMES: OnceLock<Vec<CString>> = OnceLock::new();
        let names = NAMES.get_or_init(|| {
            Code::ALL.iter().map(|code| CString::new(code.name()).unwrap_or_default()).collect()
        });
        Ok(names.get(verdict as usize).map_or(Str::of(""), |name| view(name)))
    }

    /// Returns the stable name of a `wsg_fault`: `expected_mask`. Empty if the number is no fault, and for 0.
    ///
    /// The text ends with a zero byte and is valid for ever. Any thread.
    pub fn wsg_fault_name(fault: u32) -> Str {
        static NAMES: OnceLock<Vec<CString>> = OnceLock::new();
        let names = NAMES.get_or_init(|| {
            Fault::ALL.iter().map(|(_, fault)| CString::new(fault.name()).unwrap_or_default()).collect()
        });
        let at = (fault as usize).wrapping_sub(1);
        Ok(names.get(at).map_or(Str::of(""), |name| view(name)))
    }

    /// Returns the HTTP status that a verdict answers before the 101; 0 if it has none. Any thread.
    pub fn wsg_verdict_http_status(verdict: u32) -> u32 {
        Ok(self::verdict(verdict).map_or(0, |code| code.http_status().into()))
    }

    /// Returns the close code of a verdict after the 101; 0 if it has none. Any thread.
    pub fn wsg_verdict_close_code(verdict: u32) -> u32 {
        Ok(self::verdict(verdict).map_or(0, |code| code.close_code().into()))
    }
}
