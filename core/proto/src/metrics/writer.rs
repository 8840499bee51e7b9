//! Writes OpenMetrics text, as section "ABNF" of the specification has it.

use core::fmt::Write as _;

use super::durations::BOUNDS;
use super::families::{Family, Kind, Value};
use super::{Durations, Snapshot};
use crate::verdict::Code;

/// About what all metrics take.
const USUAL_BYTES: usize = 12 * 1024;

/// A text that is being written.
pub(super) struct Writer {
    text: String,
}

impl Default for Writer {
    fn default() -> Self {
        Self { text: String::with_capacity(USUAL_BYTES) }
    }
}

impl Writer {
    /// Writes one metric: what it is, then its samples.
    pub(super) fn family(&mut self, family: &Family, now: &Snapshot) {
        let Family { name, kind, unit, help, value } = family;
        let word = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
            Kind::Info => "info",
        };
        self.push(&["# TYPE ", name, " ", word, "\n"]);
        if let Some(unit) = unit {
            self.push(&["# UNIT ", name, " ", unit, "\n"]);
        }
        self.push(&["# HELP ", name, " "]);
        self.escaped(help);
        self.push(&["\n"]);
        self.samples(name, *kind, &value(now));
    }

    fn samples(&mut self, name: &str, kind: Kind, value: &Value<'_>) {
        let end = match kind {
            Kind::Counter => "_total",
            Kind::Info => "_info",
            Kind::Gauge | Kind::Histogram => "",
        };
        match *value {
            Value::Whole(number) => self.sample(name, end, None, Number::Whole(number)),
            Value::Micros(micros) => self.sample(name, end, None, Number::Micros(micros)),
            Value::ByCode(counts) => {
                for (code, count) in Code::ALL.iter().zip(counts) {
                    self.sample(name, end, Some(("code", code.name())), Number::Whole(*count));
                }
            }
            Value::Durations(durations) => self.histogram(name, durations),
            Value::Label(label, text) => self.sample(name, end, Some((label, text)), Number::Whole(1)),
            Value::Nothing => {}
        }
    }

    /// Buckets hold what is in those before them as well, and the last one everything.
    fn histogram(&mut self, name: &str, durations: &Durations) {
        let bounds = BOUNDS.iter().map(|(_, text)| *text).chain(["+Inf"]);
        let mut so_far = 0_u64;
        for (bound, count) in bounds.zip(durations.buckets) {
            so_far = so_far.wrapping_add(count);
            self.sample(name, "_bucket", Some(("le", bound)), Number::Whole(so_far));
        }
        self.sample(name, "_count", None, Number::Whole(so_far));
        self.sample(name, "_sum", None, Number::Micros(durations.sum_micros));
    }

    fn sample(&mut self, name: &str, end: &str, label: Option<(&str, &str)>, number: Number) {
        self.push(&[name, end]);
        if let Some((label, text)) = label {
            self.push(&["{", label, "=\""]);
            self.escaped(text);
            self.push(&["\"}"]);
        }
        self.push(&[" "]);
        number.write(&mut self.text);
        self.push(&["\n"]);
    }

    /// Ends the text: what comes without this line was cut off.
    pub(super) fn end(mut self) -> String {
        self.push(&["# EOF\n"]);
        self.text
    }

    fn push(&mut self, parts: &[&str]) {
        for part in parts {
            self.text.push_str(part);
        }
    }

    /// A text between quotes, or a help text.
    pub(super) fn escaped(&mut self, text: &str) {
        for letter in text.chars() {
            match letter {
                '\\' => self.text.push_str("\\\\"),
                '"' => self.text.push_str("\\\""),
                '\n' => self.text.push_str("\\n"),
                other => self.text.push(other),
            }
        }
    }

    #[cfg(test)]
    pub(super) fn text(&self) -> &str {
        &self.text
    }
}

/// A number, exact.
#[derive(Clone, Copy)]
pub(super) enum Number {
    Whole(u64),
    /// Microseconds, written in seconds.
    Micros(u64),
}

impl Number {
    pub(super) fn write(self, out: &mut String) {
        // A `String` takes whatever is written to it.
        let _ = match self {
            Number::Whole(number) => write!(out, "{number}"),
            Number::Micros(micros) => write!(out, "{}.{:06}", micros / 1_000_000, micros % 1_000_000),
        };
        if let Number::Micros(_) = self {
            while out.ends_with('0') && !out.ends_with(".0") {
                out.pop();
            }
        }
    }
}
