//! Where the library's log goes: to standard error, or to a function of the application.

use core::ffi::{c_char, c_void};
use core::fmt::{self, Write as _};
use std::cell::Cell;
use std::sync::atomic::{AtomicU8, Ordering};

use tracing::field::{Field, Visit};
use tracing::span;

use crate::boundary::foreign;
use crate::os::without_signals;
use crate::pointers::{Str, Userdata, bytes};
use crate::status::Status;

/// The level of a log record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(C)]
pub enum LogLevel {
    /// Something failed that should not fail.
    Error = 1,
    /// A peer was refused or closed.
    Warn = 2,
    /// What the server is doing.
    Info = 3,
    /// Details for debugging.
    Debug = 4,
}

/// A log record. It is valid during the call.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct LogRecord {
    /// The level.
    pub level: LogLevel,
    /// The source: `wsguard::verdict`, `wsguard::handler` or `wsguard`.
    pub target: Str,
    /// The record on one line, fields included: `code=origin_denied ip=203.0.113.7 …`.
    pub text: Str,
}

/// A function that receives log records.
pub type LogFn = Option<extern "C-unwind" fn(userdata: *mut c_void, record: *const LogRecord)>;

/// Where the log goes: not said, standard error, a function.
static DESTINATION: AtomicU8 = AtomicU8::new(0);

/// Decides where the log goes, once. Returns true if this call has decided.
fn decide(destination: u8) -> bool {
    let decided = DESTINATION.compare_exchange(0, destination, Ordering::AcqRel, Ordering::Acquire);
    decided.is_ok()
}

thread_local! {
    /// This thread is in the log function: records that it causes are dropped.
    static IN_CALLBACK: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is in the application's log function, maybe with the whole library waiting behind it.
pub(crate) fn is_in_callback() -> bool {
    IN_CALLBACK.get()
}

struct Callback {
    log: extern "C-unwind" fn(userdata: *mut c_void, record: *const LogRecord),
    userdata: Userdata,
    level: LogLevel,
}

fn level_of(metadata: &tracing::Metadata<'_>) -> LogLevel {
    match *metadata.level() {
        tracing::Level::ERROR => LogLevel::Error,
        tracing::Level::WARN => LogLevel::Warn,
        tracing::Level::INFO => LogLevel::Info,
        _ => LogLevel::Debug,
    }
}

/// A record as one line: the message, then the fields.
#[derive(Default)]
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let space = if self.0.is_empty() { "" } else { " " };
        let _ = if field.name() == "message" {
            write!(self.0, "{space}{value:?}")
        } else {
            write!(self.0, "{space}{}={value:?}", field.name())
        };
    }
}

impl tracing::Subscriber for Callback {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        level_of(metadata) <= self.level && metadata.target().starts_with("wsguard")
    }

    fn event(&self, event: &tracing::Event<'_>) {
        if IN_CALLBACK.replace(true) {
            return;
        }
        let mut line = Line::default();
        event.record(&mut line);
        let text: String = line.0.chars().map(|letter| if letter.is_control() { '?' } else { letter }).collect();
        let metadata = event.metadata();
        let record = LogRecord { level: level_of(metadata), target: Str::of(metadata.target()), text: Str::of(&text) };
        foreign(|| (self.log)(self.userdata.pointer(), &raw const record));
        IN_CALLBACK.set(false);
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

exports! {
    /// Sends the library's log to standard error, one line per record, until the process ends. Without this call and
    /// `wsg_log_to_callback` the library logs nowhere.
    ///
    /// Any thread. Returns `WSG_OK`, also when it is called again; `WSG_ERR_BUSY` after `wsg_log_to_callback`.
    pub fn wsg_log_to_stderr() -> Status {
        if decide(1) {
            // A log whose reader is gone must not end the process: its thread is started here.
            without_signals(wsguard::binding::log_to_stderr);
        }
        if DESTINATION.load(Ordering::Acquire) == 1 { Ok(Status::Ok) } else { Err(Status::ErrBusy) }
    }

    /// Sends the library's log to `log`, up to this level (a `wsg_log_level`), until the process ends. The library
    /// keeps `userdata` and never follows it.
    ///
    /// The library calls `log` from its own threads and from yours, from several at once. `log` must not block. What it
    /// makes the library log is dropped, and `wsg_server_start`, `_next`, `_run` and `_free` return `WSG_ERR_REENTRANT`
    /// in it.
    ///
    /// Any thread. Returns `WSG_OK`; `WSG_ERR_NULL` if `log` is `NULL`; `WSG_ERR_ARGUMENT` if the level is none;
    /// `WSG_ERR_BUSY` if the log goes somewhere already.
    pub fn wsg_log_to_callback(log: LogFn, userdata: *mut c_void, level: u32) -> Status {
        let log = log.ok_or(Status::ErrNull)?;
        let levels = [LogLevel::Error, LogLevel::Warn, LogLevel::Info, LogLevel::Debug];
        let level = levels.into_iter().find(|known| *known as u32 == level).ok_or(Status::ErrArgument)?;
        if !decide(2) {
            return Err(Status::ErrBusy);
        }
        let callback = Callback { log, userdata: Userdata::new(userdata), level };
        tracing::subscriber::set_global_default(callback).map_err(|_| Status::ErrBusy)?;
        Ok(Status::Ok)
    }

    /// Writes one record to the library's log, with target `wsguard::handler` and level error: what a handler of yours
    /// failed with. The library replaces control characters and cuts the text after 1024 bytes.
    ///
    /// Any thread. Returns `WSG_OK` or `WSG_ERR_NULL`.
    pub fn wsg_log_failure(text: *const c_char, text_len: usize) -> Status {
        let text = bytes(text, text_len)?;
        let text = String::from_utf8_lossy(&text[..text.len().min(1024)]);
        let text: String = text.chars().map(|letter| if letter.is_control() { '?' } else { letter }).collect();
        tracing::error!(target: "wsguard::handler", "a handler failed: {text}");
        Ok(Status::Ok)
    }
}
