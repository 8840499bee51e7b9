//! A test host as scenarios see it: every line it prints is an event with a place, and events are asked for by patterns.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use wsguard_test_support::host::Host as Process;
use wsguard_test_support::outcome::{Outcome, fail};

use crate::matcher::matches;

/// The key under which every event carries its place in the host's output.
pub(crate) const PLACE: &str = "#";

/// A running host.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) process: Process,
}

impl Host {
    /// Starts `run`, hands it the first line, and gives what it answers: `listening`, or `error`.
    pub(crate) fn start(run: &Path, first_line: &Value) -> Outcome<(Self, Value)> {
        let mut command = Command::new(run);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut place = 0;
        let (process, answer) = Process::start(command, first_line, move |line| {
            let mut event: Value =
                serde_json::from_str(line).unwrap_or_else(|_| json!({"type": "not json", "line": line}));
            place += 1;
            if let Some(event) = event.as_object_mut() {
                event.insert(PLACE.into(), place.into());
            }
            Some(event)
        })?;
        Ok((Self { process }, answer))
    }

    /// Waits for the first event that matches, takes it and returns it.
    pub(crate) fn take_event(&self, wanted: &Value, within: Duration) -> Outcome<Value> {
        let found = self.process.event(within, |event| matches(wanted, Some(event)));
        found.map_or_else(|| fail!("expected the event {wanted}, came: {}", self.shown_events()), Ok)
    }

    /// Takes every matching event that has come so far.
    pub(crate) fn take_events(&self, wanted: &Value) -> Vec<Value> {
        self.process.events.take_all(|event| matches(wanted, Some(event)))
    }

    /// Waits until at least `count` events match; returns how many do then.
    pub(crate) fn count_events(&self, wanted: &Value, count: usize, within: Duration) -> usize {
        self.process.events.count(within, count, |event| matches(wanted, Some(event)))
    }

    /// Events nobody has taken, as one line.
    fn shown_events(&self) -> String {
        const SHOWN: usize = 6;
        let (events, more) = (self.process.events.tail(SHOWN), self.process.events.with(|events| events.len()));
        let events = events.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        match more.saturating_sub(SHOWN) {
            0 if events.is_empty() => "nothing".into(),
            0 => events,
            skipped => format!("({skipped} more) {events}"),
        }
    }

    /// Waits until `count` log lines satisfy `wanted`; returns how many do.
    pub(crate) fn count_log(&self, wanted: impl Fn(&str) -> bool, count: usize, within: Duration) -> usize {
        self.process.log.count(within, count, |line| wanted(line))
    }

    /// The last log lines.
    pub(crate) fn log_tail(&self) -> Vec<String> {
        self.process.log.tail(4)
    }

    /// Whether an event, as the host wrote it, contains `text`.
    pub(crate) fn event_contains(&self, text: &str) -> bool {
        self.process.events.with(|events| events.iter().any(|event| event.to_string().contains(text)))
    }
}
