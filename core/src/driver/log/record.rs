//! A record of the log as data: for a hook of the application, and as a line of JSON.

use core::fmt::{self, Write as _};
use std::time::{SystemTime, UNIX_EPOCH};

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level};

/// How grave a record is; the graver is less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Something failed that should not fail.
    Error = 1,
    /// A peer was refused or closed, or something needs attention.
    Warn = 2,
    /// What the server is doing.
    Info = 3,
    /// Details for debugging.
    Debug = 4,
    /// Every detail.
    Trace = 5,
}

impl LogLevel {
    pub(super) fn of(level: Level) -> Self {
        match level {
            Level::ERROR => LogLevel::Error,
            Level::WARN => LogLevel::Warn,
            Level::INFO => LogLevel::Info,
            Level::DEBUG => LogLevel::Debug,
            Level::TRACE => LogLevel::Trace,
        }
    }

    pub(super) fn filter(self) -> LevelFilter {
        match self {
            LogLevel::Error => LevelFilter::ERROR,
            LogLevel::Warn => LevelFilter::WARN,
            LogLevel::Info => LevelFilter::INFO,
            LogLevel::Debug => LevelFilter::DEBUG,
            LogLevel::Trace => LevelFilter::TRACE,
        }
    }

    /// Its name: `error`, `warn`, `info`, `debug` or `trace`.
    pub fn name(self) -> &'static str {
        match self {
            LogLevel::Error => "error",
            LogLevel::Warn => "warn",
            LogLevel::Info => "info",
            LogLevel::Debug => "debug",
            LogLevel::Trace => "trace",
        }
    }
}

/// The value of a field.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum LogValue {
    /// There is none: `-` in the plain form.
    Nothing,
    /// True or false.
    Bool(bool),
    /// A whole number that may be negative.
    Signed(i64),
    /// A whole number.
    Unsigned(u64),
    /// A number.
    Float(f64),
    /// A text.
    Text(String),
}

impl LogValue {
    fn push_json(&self, line: &mut String) {
        let _ = match self {
            LogValue::Text(text) => {
                push_json(line, text);
                Ok(())
            }
            LogValue::Bool(value) => write!(line, "{value}"),
            LogValue::Signed(value) => write!(line, "{value}"),
            LogValue::Unsigned(value) => write!(line, "{value}"),
            LogValue::Float(value) if value.is_finite() => write!(line, "{value:?}"),
            LogValue::Nothing | LogValue::Float(_) => write!(line, "null"),
        };
    }
}

/// A record of the log.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct LogRecord {
    /// How grave it is.
    pub level: LogLevel,
    /// What it is of: `wsguard::verdict`, `wsguard::audit`, `wsguard::handler` or `wsguard`.
    pub target: &'static str,
    /// When it was made, in microseconds since 1970.
    pub at_unix_us: u64,
    /// What it says beside its fields; may be empty.
    pub message: String,
    /// Its fields, in their order.
    pub fields: Vec<(&'static str, LogValue)>,
    /// Message and fields on one line, as `log_to_stderr` writes them: `code=origin_denied ip=203.0.113.7 …`.
    pub text: String,
}

/// Names that every line of JSON begins with. A field of such a name has an underscore behind it.
const FIRST_NAMES: [&str; 4] = ["time", "level", "target", "message"];

impl LogRecord {
    /// One without fields.
    pub(super) fn new(level: LogLevel, target: &'static str) -> Self {
        let (message, fields, text) = Default::default();
        Self { level, target, at_unix_us: now_unix_us(), message, fields, text }
    }

    pub(super) fn of(event: &Event<'_>) -> Self {
        let metadata = event.metadata();
        let mut record = Self::new(LogLevel::of(*metadata.level()), metadata.target());
        event.record(&mut record);
        if record.text.contains(char::is_control) {
            record.text = record.text.chars().map(|letter| if letter.is_control() { '?' } else { letter }).collect();
        }
        record
    }

    /// Adds a field.
    pub(super) fn push(&mut self, name: &'static str, value: LogValue) {
        let space = if self.text.is_empty() { "" } else { " " };
        let _ = match &value {
            LogValue::Nothing => write!(self.text, "{space}{name}=-"),
            LogValue::Bool(value) => write!(self.text, "{space}{name}={value}"),
            LogValue::Signed(value) => write!(self.text, "{space}{name}={value}"),
            LogValue::Unsigned(value) => write!(self.text, "{space}{name}={value}"),
            LogValue::Float(value) => write!(self.text, "{space}{name}={value:?}"),
            LogValue::Text(value) => write!(self.text, "{space}{name}={value:?}"),
        };
        self.fields.push((name, value));
    }

    /// Sets what it says.
    pub(super) fn say(&mut self, message: String) {
        let space = if self.text.is_empty() { "" } else { " " };
        self.text.push_str(space);
        self.text.push_str(&message);
        self.message = message;
    }

    /// What it takes in the queue, about.
    pub(super) fn bytes(&self) -> usize {
        let fields = self.fields.iter().map(|(_, value)| match value {
            LogValue::Text(text) => text.len(),
            _ => 0,
        });
        size_of::<Self>()
            + self.message.len()
            + self.text.len()
            + self.fields.len() * size_of::<(&str, LogValue)>()
            + fields.sum::<usize>()
    }

    /// As a line of JSON, without the line feed: `time` (RFC 3339, UTC), `level`, `target`, `message` where there is one, and
    /// the fields with their types.
    pub fn to_json(&self) -> String {
        let mut line = String::with_capacity(256);
        line.push_str("{\"time\":\"");
        push_time(&mut line, self.at_unix_us);
        let _ = write!(line, "\",\"level\":\"{}\",\"target\":", self.level.name());
        push_json(&mut line, self.target);
        if !self.message.is_empty() {
            line.push_str(",\"message\":");
            push_json(&mut line, &self.message);
        }
        for (name, value) in &self.fields {
            line.push(',');
            push_json(&mut line, name);
            if FIRST_NAMES.contains(name) {
                line.insert(line.len() - 1, '_');
            }
            line.push(':');
            value.push_json(&mut line);
        }
        line.push('}');
        line
    }
}

impl Visit for LogRecord {
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.push(field.name(), LogValue::Bool(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.push(field.name(), LogValue::Signed(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.push(field.name(), LogValue::Unsigned(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.push(field.name(), LogValue::Float(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.say(value.to_owned()),
            name => self.push(name, LogValue::Text(value.to_owned())),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let written = format!("{value:?}");
        if field.name() == "message" {
            return self.say(written);
        }
        // Written as it is, without quotes: `%value`.
        let space = if self.text.is_empty() { "" } else { " " };
        let _ = write!(self.text, "{space}{}={written}", field.name());
        let value = if written == "-" { LogValue::Nothing } else { LogValue::Text(written) };
        self.fields.push((field.name(), value));
    }
}

pub(super) fn now_unix_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// Writes a time as RFC 3339 has it, in UTC. The days are counted from the first of March of the year 0, in eras of 400 years.
pub(super) fn push_time(to: &mut String, unix_us: u64) {
    let (seconds, micros) = (unix_us / 1_000_000, unix_us % 1_000_000);
    let (days, second) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day) = (days / 146_097, days % 146_097);
    let year_of_era = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let _ = write!(to, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z");
}

/// Writes a JSON string. Nothing in it ends the line or steers a terminal.
fn push_json(to: &mut String, text: &str) {
    to.push('"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => {
                to.push('\\');
                to.push(letter);
            }
            '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                let _ = write!(to, "\\u{:04x}", letter as u32);
            }
            letter if letter.is_control() => {
                let _ = write!(to, "\\u{:04x}", letter as u32);
            }
            letter => to.push(letter),
        }
    }
    to.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        let told = |unix_us| {
            let mut text = String::new();
            push_time(&mut text, unix_us);
            text
        };
        assert_eq!(told(0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(told(951_782_399_999_999), "2000-02-28T23:59:59.999999Z");
        assert_eq!(told(951_782_400_000_000), "2000-02-29T00:00:00.000000Z");
        assert_eq!(told(1_767_225_600_000_001), "2026-01-01T00:00:00.000001Z");
        assert_eq!(told(4_107_542_399_000_000), "2100-02-28T23:59:59.000000Z");
        assert_eq!(told(4_107_542_400_000_000), "2100-03-01T00:00:00.000000Z");
    }

    #[test]
    fn a_record_is_one_line_of_json_with_types() {
        let mut record = LogRecord::new(LogLevel::Warn, "wsguard::verdict");
        record.at_unix_us = 0;
        record.say("a\r\n\u{85}\"b\\\u{202e}".to_owned());
        record.push("level", LogValue::Text("x".into()));
        record.push("ip", LogValue::Nothing);
        record.push("count", LogValue::Unsigned(u64::MAX));
        record.push("less", LogValue::Signed(-1));
        record.push("rate", LogValue::Float(0.5));
        record.push("never", LogValue::Float(f64::NAN));
        record.push("clean", LogValue::Bool(true));
        let json = record.to_json();
        let expected = concat!(
            r#"{"time":"1970-01-01T00:00:00.000000Z","level":"warn","target":"wsguard::verdict","#,
            r#""message":"a\u000d\u000a\u0085\"b\\\u202e","level_":"x","ip":null,"count":18446744073709551615,"less":-1,"#,
            r#""rate":0.5,"never":null,"clean":true}"#
        );
        assert_eq!(json, expected);
        let parsed: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(parsed["message"], record.message.as_str());
    }
}
