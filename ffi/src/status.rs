//! The result of a call: one enum, with a stable name for each value.

use wsguard::binding::{ConfigErrorKind, Error, Sent};

/// The result of a call. 0 and above: the call succeeded. Below 0: it failed and changed nothing. So test for `< 0` and
/// not for `!= WSG_OK`: `WSG_QUEUED` is a success.
///
/// A value never changes its meaning; later versions may add values. `wsg_status_name` returns the stable name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum Status {
    /// The call succeeded.
    Ok = 0,
    /// The message was accepted, and waits behind what the peer has not read; `WSG_EVENT_DRAINED` tells when all was
    /// written. Of a broadcast: see `wsg_server_broadcast`; of a pipe: see `wsg_pipe_push`.
    Queued = 1,
    /// There is nothing: the time is over, the call was interrupted, a pipe is empty, or a JSON text has no such part.
    Nothing = 2,
    /// The server has stopped and every event was taken. Its name is `ended`.
    Stopped = 3,
    /// An argument is `NULL` that must not be.
    ErrNull = -1,
    /// The handle is not valid: it was freed, or is of another kind. Or a pipe was freed.
    ErrHandle = -2,
    /// A text is not UTF-8.
    ErrUtf8 = -3,
    /// An argument is not accepted. The function says what is.
    ErrArgument = -4,
    /// The connection has closed, or never existed.
    ErrConnectionClosed = -5,
    /// The ticket was answered already, its time is over, or its peer has left.
    ErrTicketSettled = -6,
    /// The server has stopped.
    ErrStopped = -7,
    /// The option does not exist.
    ErrUnknownOption = -8,
    /// A required option is missing.
    ErrMissingOption = -9,
    /// The type or the value of an option is not accepted.
    ErrInvalidOption = -10,
    /// Two options exclude each other.
    ErrContradiction = -11,
    /// The server cannot listen on the address.
    ErrListen = -12,
    /// The system gave no thread, descriptor or event loop.
    ErrStart = -13,
    /// Another thread is in `wsg_server_next` or `wsg_server_run`, or the last batch was not freed; or there is a signal
    /// handler or a log already.
    ErrBusy = -14,
    /// This thread must not make the call now: it would wait for itself.
    ErrReentrant = -15,
    /// The process was forked after the server was started: the I/O threads exist in the parent only.
    ErrForked = -16,
    /// The program was compiled with the header of another version of the library.
    ErrAbi = -17,
    /// A bug in the library. It was contained; please report it.
    ErrPanic = -18,
    /// The option can only be stated at the start: `wsg_server_reload` would have to change it.
    ErrNotReloadable = -19,
}

impl Status {
    /// The stable name, and the same words in every language. Of the errors of options, these are the core's.
    pub(crate) fn name(self) -> &'static core::ffi::CStr {
        match self {
            Status::Ok => c"ok",
            Status::Queued => c"queued",
            Status::Nothing => c"nothing",
            Status::Stopped => c"ended",
            Status::ErrStopped => c"stopped",
            Status::ErrNull => c"null_argument",
            Status::ErrHandle => c"invalid_handle",
            Status::ErrUtf8 => c"invalid_utf8",
            Status::ErrArgument => c"invalid_argument",
            Status::ErrConnectionClosed => c"connection_closed",
            Status::ErrTicketSettled => c"ticket_settled",
            Status::ErrUnknownOption => c"unknown_option",
            Status::ErrMissingOption => c"missing_option",
            Status::ErrInvalidOption => c"invalid_option",
            Status::ErrContradiction => c"contradiction",
            Status::ErrListen => c"listen_failed",
            Status::ErrStart => c"start_failed",
            Status::ErrBusy => c"busy",
            Status::ErrReentrant => c"reentrant",
            Status::ErrForked => c"forked",
            Status::ErrAbi => c"abi_mismatch",
            Status::ErrPanic => c"panic",
            Status::ErrNotReloadable => c"not_reloadable",
        }
    }

    /// One line of English.
    pub(crate) fn message(self) -> &'static core::ffi::CStr {
        match self {
            Status::Ok => c"done",
            Status::Queued => c"accepted, and waits for the peer to read",
            Status::Nothing => c"nothing happened in time, or the wait was interrupted",
            Status::Stopped => c"the server has stopped, and every event was taken",
            Status::ErrNull => c"an argument that must not be NULL is",
            Status::ErrHandle => c"the handle names nothing: it was freed, or is of another kind",
            Status::ErrUtf8 => c"a text is not UTF-8",
            Status::ErrArgument => c"an argument is not accepted",
            Status::ErrConnectionClosed => c"the connection is closed",
            Status::ErrTicketSettled => c"the ticket was answered already, timed out, or its peer has left",
            Status::ErrStopped => c"the server has stopped",
            Status::ErrUnknownOption => c"the option does not exist",
            Status::ErrMissingOption => c"a required option was not given",
            Status::ErrInvalidOption => c"the value of an option is not accepted",
            Status::ErrContradiction => c"two options cannot both hold",
            Status::ErrListen => c"the address cannot be listened on",
            Status::ErrStart => c"a thread or an event loop could not be started",
            Status::ErrBusy => c"another thread or another handler has it already",
            Status::ErrReentrant => c"the call would wait for itself on this thread",
            Status::ErrForked => c"the server belongs to the process that this one was forked from",
            Status::ErrAbi => c"the program was compiled for another version of the library",
            Status::ErrPanic => c"a fault of the library",
            Status::ErrNotReloadable => c"the option cannot change while the server runs",
        }
    }

    /// The status of a number that came from C.
    pub(crate) fn from_number(number: i32) -> Option<Status> {
        ALL.iter().copied().find(|status| *status as i32 == number)
    }
}

const ALL: &[Status] = &[
    Status::Ok,
    Status::Queued,
    Status::Nothing,
    Status::Stopped,
    Status::ErrNull,
    Status::ErrHandle,
    Status::ErrUtf8,
    Status::ErrArgument,
    Status::ErrConnectionClosed,
    Status::ErrTicketSettled,
    Status::ErrStopped,
    Status::ErrUnknownOption,
    Status::ErrMissingOption,
    Status::ErrInvalidOption,
    Status::ErrContradiction,
    Status::ErrListen,
    Status::ErrStart,
    Status::ErrBusy,
    Status::ErrReentrant,
    Status::ErrForked,
    Status::ErrAbi,
    Status::ErrPanic,
    Status::ErrNotReloadable,
];

impl From<ConfigErrorKind> for Status {
    fn from(kind: ConfigErrorKind) -> Self {
        match kind {
            ConfigErrorKind::UnknownOption => Status::ErrUnknownOption,
            ConfigErrorKind::MissingOption => Status::ErrMissingOption,
            ConfigErrorKind::Contradiction => Status::ErrContradiction,
            ConfigErrorKind::NotReloadable => Status::ErrNotReloadable,
            // `InvalidOption`, or a kind that the header has no name for yet.
            _ => Status::ErrInvalidOption,
        }
    }
}

impl From<&Error> for Status {
    fn from(error: &Error) -> Self {
        match error {
            Error::Config(error) | Error::Tls(error) => error.kind.into(),
            Error::Listen { .. } | Error::AdminListen { .. } => Status::ErrListen,
            Error::Start(_) => Status::ErrStart,
            Error::ConnectionClosed => Status::ErrConnectionClosed,
            Error::TicketSettled => Status::ErrTicketSettled,
            Error::Stopped => Status::ErrStopped,
            // `InvalidArgument`, or an error that the header has no name for yet.
            _ => Status::ErrArgument,
        }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        Status::from(&error)
    }
}

impl From<Sent> for Status {
    fn from(sent: Sent) -> Self {
        match sent {
            Sent::Sent => Status::Ok,
            Sent::Queued => Status::Queued,
        }
    }
}

#[cfg(test)]
mod tests {
    use wsguard::binding::ConfigError;

    use super::*;

    #[test]
    fn errors_have_the_names_of_the_core() {
        let named = [
            Error::Config(ConfigError::missing("auth", "")),
            Error::Tls(ConfigError::invalid("tls.key", "")),
            Error::Config(ConfigError::contradiction("tls", "")),
            Error::Config(ConfigError::not_reloadable("listen")),
            Error::Listen { address: String::new(), source: std::io::Error::other("") },
            Error::Start(std::io::Error::other("")),
            Error::ConnectionClosed,
            Error::TicketSettled,
            Error::InvalidArgument(""),
            Error::Stopped,
        ];
        for error in named {
            assert_eq!(Status::from(&error).name().to_str().unwrap(), error.code());
        }
    }

    #[test]
    fn numbers_are_unique() {
        for status in ALL {
            assert_eq!(Status::from_number(*status as i32), Some(*status));
        }
        assert_eq!(Status::from_number(-1000), None);
        let names: std::collections::BTreeSet<_> = ALL.iter().map(|status| status.name()).collect();
        assert_eq!(names.len(), ALL.len());
    }
}
