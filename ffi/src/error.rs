//! The error object: a status in words.

use core::ffi::c_char;
use core::mem::MaybeUninit;
use std::ffi::CString;

use wsguard::binding::{ConfigError, Error};

use crate::boundary::contained;
use crate::handle::{self, Opaque};
use crate::pointers::Str;
use crate::status::Status;

/// An error in words. The functions that take a `wsg_error **` make it; you own it and free it with `wsg_error_free`.
///
/// Such a function always writes to the pointer: `NULL` on success, an error on failure, whatever the reason. Pass
/// `NULL` instead of the pointer if you do not want an error.
pub enum ErrorHandle {}

impl Opaque for ErrorHandle {
    type Object = ErrorText;
    const KIND: usize = 1;
}

/// The object behind an error handle.
#[derive(Debug)]
pub struct ErrorText {
    status: Status,
    message: CString,
    option: Option<CString>,
}

/// The place for an error object; `None`: the caller does not want one.
pub(crate) type ErrorPlace<'call> = Option<&'call mut MaybeUninit<*mut ErrorHandle>>;

/// Why a call with an error object failed.
#[derive(Debug)]
pub(crate) struct Failure {
    status: Status,
    message: String,
    option: Option<String>,
}

impl Failure {
    /// A status with other words than its own.
    pub(crate) fn new(status: Status, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), option: None }
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self::new(status, status.message().to_string_lossy())
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { status: (&error).into(), message: error.to_string(), option: error.option().map(str::to_owned) }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Error::Config(error).into()
    }
}

/// Runs `body`, and sets `place` to an error object if it fails or panics. `place` is set to `NULL` before anything else, so
/// that the caller never reads an old value.
pub(crate) fn explain<T>(place: ErrorPlace<'_>, body: impl FnOnce() -> Result<T, Failure>) -> Result<T, Status> {
    explain_at(place.map(|place| place.write(core::ptr::null_mut())), body)
}

/// As [`explain`]; `place` is `NULL` before.
fn explain_at<T>(place: Option<&mut *mut ErrorHandle>, body: impl FnOnce() -> Result<T, Failure>) -> Result<T, Status> {
    contained(body).unwrap_or_else(|status| Err(status.into())).map_err(|failure| {
        let status = failure.status;
        if let Some(place) = place {
            *place = handle::insert(ErrorText::of(&failure)).unwrap_or(core::ptr::null_mut());
        }
        status
    })
}

impl ErrorText {
    fn of(failure: &Failure) -> Self {
        // The core escapes what it quotes; a zero byte would cut the text short for C.
        let text = |text: &String| CString::new(text.replace('\0', "\u{fffd}")).unwrap_or_default();
        Self { status: failure.status, message: text(&failure.message), option: failure.option.as_ref().map(text) }
    }
}

fn view(text: &CString) -> Str {
    Str { data: text.as_ptr().cast::<c_char>(), len: text.as_bytes().len() }
}

exports! {
    /// Returns the status that the error explains; `WSG_ERR_HANDLE` if `error` is not valid, `WSG_ERR_NULL` if it is
    /// `NULL`. Any thread.
    pub fn wsg_error_status(error: *const ErrorHandle) -> Status {
        Ok(handle::find(error)?.status)
    }

    /// Returns one line that says what is wrong and what is accepted. It never contains a credential.
    ///
    /// The text ends with a zero byte and is valid until the error is freed. Empty if `error` is `NULL` or not valid.
    /// Any thread.
    pub fn wsg_error_message(error: *const ErrorHandle) -> Str {
        Ok(view(&handle::find(error)?.message))
    }

    /// Returns the option at fault as a path: `rate_limit.per_second`. Empty if no option is at fault, and if `error`
    /// is `NULL` or not valid.
    ///
    /// The text ends with a zero byte and is valid until the error is freed. Any thread.
    pub fn wsg_error_option(error: *const ErrorHandle) -> Str {
        Ok(handle::find(error)?.option.as_ref().map_or(Str::of(""), view))
    }

    /// Frees an error. Any thread.
    ///
    /// Returns `WSG_OK`, `WSG_ERR_NULL`, or `WSG_ERR_HANDLE` the second time.
    pub fn wsg_error_free(error: *mut ErrorHandle) -> Status {
        handle::remove(error)?;
        Ok(Status::Ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A panic, too, is told in words: a program that was given a status below 0 reads the error.
    #[test]
    fn whatever_happens_the_error_is_written() {
        let told = |body: fn() -> Result<(), Failure>| {
            let mut error = core::ptr::null_mut();
            let outcome = explain_at(Some(&mut error), body);
            let status = if error.is_null() { None } else { handle::remove(error).ok().map(|text| text.status) };
            (outcome, status)
        };
        assert_eq!(told(|| Ok(())), (Ok(()), None));
        assert_eq!(told(|| Err(Status::ErrBusy.into())), (Err(Status::ErrBusy), Some(Status::ErrBusy)));
        let panics = || std::panic::resume_unwind(Box::new("a fault"));
        assert_eq!(told(panics), (Err(Status::ErrPanic), Some(Status::ErrPanic)));
    }
}
