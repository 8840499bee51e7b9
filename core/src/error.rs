//! The errors of calls that an application makes.

use core::fmt;
use std::io;

use wsguard_proto::config_error::ConfigError;

/// An error of a server or of a call to it.
///
/// A closed connection is not an error: calls on it return [`Sent::Closed`](crate::Sent::Closed).
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The options are invalid. The error names the option.
    Config(ConfigError),
    /// The server cannot listen on the address.
    Listen {
        /// The `listen` option.
        address: String,
        /// The cause.
        source: io::Error,
    },
    /// The address of `admin_listen` cannot be listened on.
    AdminListen {
        /// The `admin_listen` option.
        address: String,
        /// The cause.
        source: io::Error,
    },
    /// A certificate, key or authority cannot be used. The error names the part of `tls`.
    Tls(ConfigError),
    /// A thread or an event loop could not be started.
    Start(io::Error),
    /// The id names no open connection: it was closed, or never existed.
    ConnectionClosed,
    /// The ticket does not wait for an answer any more: it was answered, it timed out, or its peer has left.
    TicketSettled,
    /// An argument is not accepted. The text names it, and the accepted values.
    InvalidArgument(&'static str),
    /// The answer to a handshake cannot be sent, and the peer was answered 503. The text names the header, the subprotocol or
    /// the limit; it never has the value of a header.
    InvalidAnswer(String),
    /// The data of an event cannot be written as JSON: a map whose keys are no strings, or an error of its `Serialize`.
    Data(serde_json::Error),
    /// The server has stopped.
    Stopped,
}

impl Error {
    /// The stable name of the kind of error, for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Error::Config(error) | Error::Tls(error) => error.kind.name(),
            Error::Listen { .. } | Error::AdminListen { .. } => "listen_failed",
            Error::Start(_) => "start_failed",
            Error::ConnectionClosed => "connection_closed",
            Error::TicketSettled => "ticket_settled",
            Error::InvalidArgument(_) | Error::InvalidAnswer(_) | Error::Data(_) => "invalid_argument",
            Error::Stopped => "stopped",
        }
    }

    /// The operating system's number of the error (`errno`), if there is one: `EADDRINUSE`, `EACCES`.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Error::Listen { source, .. } | Error::AdminListen { source, .. } | Error::Start(source) => {
                source.raw_os_error()
            }
            _ => None,
        }
    }

    /// The option at fault, if there is one.
    pub fn option(&self) -> Option<&str> {
        match self {
            Error::Config(error) | Error::Tls(error) => Some(&error.option),
            Error::Listen { .. } => Some("listen"),
            Error::AdminListen { .. } => Some("admin_listen"),
            _ => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Config(error) | Error::Tls(error) => error.fmt(f),
            Error::Listen { address, source } => write!(f, "listen: cannot listen on {address}: {source}"),
            Error::AdminListen { address, source } => {
                write!(f, "admin_listen: cannot listen on {address}: {source}")
            }
            Error::Start(source) => write!(f, "cannot start: {source}"),
            Error::ConnectionClosed => f.write_str("the connection is closed"),
            Error::TicketSettled => f.write_str("the ticket was answered already, timed out, or its peer has left"),
            Error::InvalidArgument(what) => f.write_str(what),
            Error::InvalidAnswer(what) => f.write_str(what),
            Error::Data(error) => write!(f, "data cannot be written as JSON: {error}"),
            Error::Stopped => f.write_str("the server has stopped"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Config(error) | Error::Tls(error) => Some(error),
            Error::Listen { source, .. } | Error::AdminListen { source, .. } | Error::Start(source) => Some(source),
            Error::Data(error) => Some(error),
            _ => None,
        }
    }
}

impl From<ConfigError> for Error {
    fn from(error: ConfigError) -> Self {
        Error::Config(error)
    }
}
