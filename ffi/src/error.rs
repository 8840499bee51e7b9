//! The error object: a status in words.

use core::ffi::c_char;
use core::mem::MaybeUninit;
use std::ffi::CString;

use wsguard::host::Error;

use crate::handle::{self, Opaque, Registry, Str};
use crate::status::Status;

/// What went wrong, in words. Made by the functions that take a `wsg_error **`, owned by whoever called them.
pub enum ErrorHandle {}

impl Opaque for ErrorHandle {
    type Object = ErrorText;
    const KIND: usize = 1;
    fn registry() -> &'static Registry<ErrorText> {
        static ERRORS: Registry<ErrorText> = Registry::new();
        &ERRORS
    }
}

/// What an error handle stands for.
#[derive(Debug)]
pub struct ErrorText {
    status: Status,
    message: CString,
    option: Option<CString>,
}

/// Where an error object goes; `None`: the caller does not want one.
pub(crate) type ErrorPlace<'call> = Option<&'call mut MaybeUninit<*mut ErrorHandle>>;

/// Sets `place` to an error object of what failed, or to `NULL` where nothing did.
pub(crate) fn explain<T>(place: ErrorPlace<'_>, outcome: Result<T, Error>) -> Result<T, Status> {
    let handle = match (&outcome, &place) {
        (Err(error), Some(_)) => handle::insert(ErrorText::of(error)).unwrap_or(core::ptr::null_mut()),
        _ => core::ptr::null_mut(),
    };
    if let Some(place) = place {
        place.write(handle);
    }
    outcome.map_err(Status::from)
}

impl ErrorText {
    fn of(error: &Error) -> Self {
        // The core escapes what it quotes; a zero byte would cut the text short for C.
        let text = |text: &str| CString::new(text.replace('\0', "\u{fffd}")).unwrap_or_default();
        Self { status: error.into(), message: text(&error.to_string()), option: error.option().map(text) }
    }
}

fn view(text: &CString) -> Str {
    Str { data: text.as_ptr().cast::<c_char>(), len: text.as_bytes().len() }
}

exports! {
    /// The status that the error explains; `WSG_ERR_HANDLE` for a handle that is none.
    pub fn wsg_error_status(error: *const ErrorHandle) -> Status {
        Ok(handle::find(error)?.status)
    }

    /// One line: what is wrong and what is accepted. It never holds a credential.
    ///
    /// Ends with a zero byte; valid until the error is freed. Empty for a handle that is none.
    pub fn wsg_error_message(error: *const ErrorHandle) -> Str {
        Ok(view(&handle::find(error)?.message))
    }

    /// The option at fault, as a path: `rate_limit.per_second`. Empty where there is none.
    ///
    /// Ends with a zero byte; valid until the error is freed.
    pub fn wsg_error_option(error: *const ErrorHandle) -> Str {
        Ok(handle::find(error)?.option.as_ref().map_or(Str::of(""), view))
    }

    /// Frees an error. Thread-safe, like everything that takes one.
    pub fn wsg_error_free(error: *mut ErrorHandle) -> Status {
        handle::remove(error)?;
        Ok(Status::Ok)
    }
}
