//! Where the library's log goes: to standard error, or to a function of the application.

use core::ffi::{c_char, c_void};
use std::sync::atomic::{AtomicU8, Ordering};

use wsguard::binding::{self, LogFormat, LogValue, log_to, log_to_stderr_as};

use crate::boundary::foreign;
use crate::events::Field;
use crate::os::without_signals;
use crate::pointers::{Str, Userdata, bytes};
use crate::status::Status;

/// The level of a log record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(C)]
pub enum LogLevel {
    /// Something failed that should not fail.
    Error = 1,
    /// A peer was refused or closed, or something needs attention.
    Warn = 2,
    /// What the server is doing.
    Info = 3,
    /// Details for debugging.
    Debug = 4,
}

impl LogLevel {
    fn of(level: binding::LogLevel) -> Self {
        match level {
            binding::LogLevel::Error => LogLevel::Error,
            binding::LogLevel::Warn => LogLevel::Warn,
            binding::LogLevel::Info => LogLevel::Info,
            binding::LogLevel::Debug | binding::LogLevel::Trace => LogLevel::Debug,
        }
    }
}

/// A log record. It, and what it points at, is valid during the call.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct LogRecord {
    /// The level.
    pub level: LogLevel,
    /// The source: `wsguard::verdict`, `wsguard::audit`, `wsguard::handler` or `wsguard`.
    pub target: Str,
    /// The record on one line, fields included: `code=origin_denied ip=203.0.113.7 …`.
    pub text: Str,
    /// When it was made, in microseconds since 1970.
    pub at_unix_us: u64,
    /// What it says beside its fields; may be empty.
    pub message: Str,
    /// Its fields in their order, values as text; `data` is `NULL` where the text has `-`.
    pub fields: *const Field,
    /// The number of fields.
    pub fields_len: usize,
    /// The whole record as the text of a JSON object, as `wsg_log_to_stderr_json` writes it.
    pub json: Str,
}

/// A function that receives log records.
pub type LogFn = Option<extern "C-unwind" fn(userdata: *mut c_void, record: *const LogRecord)>;

/// Where the log goes: not said, standard error, a function, standard error as JSON.
static DESTINATION: AtomicU8 = AtomicU8::new(0);

/// Decides where the log goes, once. Returns true if this call has decided.
fn decide(destination: u8) -> bool {
    let decided = DESTINATION.compare_exchange(0, destination, Ordering::AcqRel, Ordering::Acquire);
    decided.is_ok()
}

fn to_stderr(destination: u8, format: LogFormat) -> Status {
    if decide(destination) {
        // A log whose reader is gone must not end the process: its thread is started here.
        without_signals(|| log_to_stderr_as(format));
    }
    if DESTINATION.load(Ordering::Acquire) == destination { Status::Ok } else { Status::ErrBusy }
}

fn shown(value: &LogValue) -> Option<String> {
    match value {
        LogValue::Text(text) => Some(text.clone()),
        LogValue::Bool(value) => Some(value.to_string()),
        LogValue::Signed(value) => Some(value.to_string()),
        LogValue::Unsigned(value) => Some(value.to_string()),
        LogValue::Float(value) => Some(value.to_string()),
        // `Nothing`, or a kind that the header has no words for yet.
        _ => None,
    }
}

fn tell(log: extern "C-unwind" fn(*mut c_void, *const LogRecord), userdata: Userdata, record: &binding::LogRecord) {
    let values: Vec<_> = record.fields.iter().map(|(name, value)| (*name, shown(value))).collect();
    let fields: Vec<_> =
        values.iter().map(|(name, value)| Field { name: Str::of(name), value: Str::maybe(value.as_deref()) }).collect();
    let json = record.to_json();
    let record = LogRecord {
        level: LogLevel::of(record.level),
        target: Str::of(record.target),
        text: Str::of(&record.text),
        at_unix_us: record.at_unix_us,
        message: Str::of(&record.message),
        fields: fields.as_ptr(),
        fields_len: fields.len(),
        json: Str::of(&json),
    };
    foreign(|| log(userdata.pointer(), &raw const record));
}

exports! {
    /// Sends the library's log to standard error, one line per record, until the process ends. Without this call and its
    /// like the library logs nowhere.
    ///
    /// A thread of its own writes, so that nobody waits for standard error; lines that it does not take in time are
    /// dropped and counted. Any thread. Returns `WSG_OK`, also when it is called again; `WSG_ERR_BUSY` if the log goes
    /// somewhere else.
    pub fn wsg_log_to_stderr() -> Status {
        Ok(to_stderr(1, LogFormat::Plain))
    }

    /// Sends the log to standard error with one JSON object in each line: `time` (RFC 3339, UTC), `level`, `target`,
    /// `message` if there is one, and the fields. Otherwise as `wsg_log_to_stderr`.
    pub fn wsg_log_to_stderr_json() -> Status {
        Ok(to_stderr(3, LogFormat::Json))
    }

    /// Sends the library's log to `log`, up to this level (a `wsg_log_level`), until the process ends. The library
    /// keeps `userdata` and never follows it.
    ///
    /// The library calls `log` on a thread of its own, one record after the other: it may block, and may call every
    /// function. Up to 8192 records wait meanwhile; those that do not fit are dropped, and a record with the field `lost`
    /// follows. What `log` makes the library log is dropped. `wsg_server_free` waits 200 milliseconds at most for records
    /// that were made before.
    ///
    /// Any thread. Returns `WSG_OK`; `WSG_ERR_NULL` if `log` is `NULL`; `WSG_ERR_ARGUMENT` if the level is none;
    /// `WSG_ERR_BUSY` if the log goes somewhere already.
    pub fn wsg_log_to_callback(log: LogFn, userdata: *mut c_void, level: u32) -> Status {
        let log = log.ok_or(Status::ErrNull)?;
        let level = match level {
            1 => binding::LogLevel::Error,
            2 => binding::LogLevel::Warn,
            3 => binding::LogLevel::Info,
            4 => binding::LogLevel::Debug,
            _ => return Err(Status::ErrArgument),
        };
        if !decide(2) {
            return Err(Status::ErrBusy);
        }
        let userdata = Userdata::new(userdata);
        let is_taken = without_signals(|| log_to(level, move |record| tell(log, userdata, record)));
        if is_taken { Ok(Status::Ok) } else { Err(Status::ErrBusy) }
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
