//! Versions, and the names behind numbers.

use std::ffi::{CStr, CString};
use std::sync::OnceLock;

use wsguard::binding::Code;

use crate::pointers::Str;
use crate::status::Status;

/// The ABI that this header describes. It changes when a program must be compiled anew, and the library's soname with it.
pub const WSG_ABI_VERSION: u32 = 0;

/// A session that does not end, for `expires_at_ms`.
pub const WSG_NEVER: u64 = u64::MAX;

fn view(text: &'static CStr) -> Str {
    Str { data: text.as_ptr(), len: text.count_bytes() }
}

fn verdict(number: u32) -> Option<Code> {
    Code::ALL.get(number as usize).copied()
}

exports! {
    /// The version of the library: `0.1.0`. Ends with a zero byte; valid for ever.
    pub fn wsg_version() -> Str {
        static VERSION: OnceLock<CString> = OnceLock::new();
        Ok(view(VERSION.get_or_init(|| CString::new(env!("CARGO_PKG_VERSION")).unwrap_or_default())))
    }

    /// The ABI of the library that was loaded. See `WSG_ABI_VERSION`.
    pub fn wsg_abi_version() -> u32 {
        Ok(WSG_ABI_VERSION)
    }

    /// Whether this program fits the library that was loaded: give it `WSG_ABI_VERSION`.
    ///
    /// Returns `WSG_OK` or `WSG_ERR_ABI`.
    pub fn wsg_abi_check(compiled_with: u32) -> Status {
        Ok(if compiled_with == WSG_ABI_VERSION { Status::Ok } else { Status::ErrAbi })
    }

    /// The stable name of a `wsg_status`: `unknown_option`. Empty for a number that is none.
    ///
    /// Ends with a zero byte; valid for ever.
    pub fn wsg_status_name(status: i32) -> Str {
        Ok(Status::from_number(status).map_or(Str::of(""), |status| view(status.name())))
    }

    /// What a `wsg_status` says to people: one line of English, which may change. Empty for a number that is none.
    ///
    /// Ends with a zero byte; valid for ever.
    pub fn wsg_status_message(status: i32) -> Str {
        Ok(Status::from_number(status).map_or(Str::of(""), |status| view(status.message())))
    }

    /// The stable name of a `wsg_verdict`: `origin_denied`. Empty for a number that is none.
    ///
    /// Ends with a zero byte; valid for ever.
    pub fn wsg_verdict_name(verdict: u32) -> Str {
        static NAMES: OnceLock<Vec<CString>> = OnceLock::new();
        let names = NAMES.get_or_init(|| {
            Code::ALL.iter().map(|code| CString::new(code.name()).unwrap_or_default()).collect()
        });
        Ok(names.get(verdict as usize).map_or(Str::of(""), |name| view(name)))
    }

    /// The HTTP status of a verdict before the 101; 0 where it has none.
    pub fn wsg_verdict_http_status(verdict: u32) -> u32 {
        Ok(self::verdict(verdict).map_or(0, |code| code.http_status().into()))
    }

    /// The close code of a verdict after the 101; 0 where it has none.
    pub fn wsg_verdict_close_code(verdict: u32) -> u32 {
        Ok(self::verdict(verdict).map_or(0, |code| code.close_code().into()))
    }
}
