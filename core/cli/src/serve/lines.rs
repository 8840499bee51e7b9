//! What `serve` says of an event, as one line: for people, or as JSON.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};
use wsguard::{Close, ConnectionId, Event, JsonMessage, Open, Upgrade, ViolationEvent};

use crate::terminal::{Paint, harmless};

/// How much of a message is shown, in letters.
const MAX_SHOWN: usize = 200;
/// How much of a name or a path.
const MAX_NAME: usize = 128;

/// How lines are written.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Style {
    pub(super) as_json: bool,
    /// What is in messages is not shown.
    pub(super) without_data: bool,
    pub(super) paint: Paint,
}

/// One line: what happened, and its fields in their order.
pub(super) struct Line {
    event: &'static str,
    fields: Vec<(&'static str, Value)>,
}

impl Line {
    pub(super) fn new(event: &'static str) -> Self {
        Self { event, fields: Vec::new() }
    }

    /// Adds a field.
    pub(super) fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.fields.push((name, value.into()));
        self
    }

    /// Adds a field where there is one.
    fn maybe(self, name: &'static str, value: Option<impl Into<Value>>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// Lines that came faster than they could be written.
    pub(super) fn left_out(lines: u64) -> Self {
        Self::new("left_out").with("lines", lines)
    }

    /// What an event says; `None`: it says nothing to people.
    pub(super) fn of(event: &Event<'_>, style: Style) -> Option<Self> {
        match event {
            Event::Open(open) => Some(Self::open(open)),
            Event::Message(message) => Some(Self::message(message, style)),
            Event::Text(conn, text) => {
                Some(Self::raw(*conn, "text", text.len(), (!style.without_data).then(|| harmless(text, MAX_SHOWN))))
            }
            Event::Binary(conn, bytes) => {
                let shown = bytes.iter().take(32).fold(String::new(), |mut hex, byte| {
                    let _ = write!(hex, "{byte:02x}");
                    hex
                });
                Some(Self::raw(*conn, "binary", bytes.len(), (!style.without_data).then_some(shown)))
            }
            Event::Close(close) => Some(Self::close(close)),
            Event::Violation(violation) => Some(Self::violation(violation)),
            Event::Upgrade(upgrade) => Some(Self::upgrade(upgrade)),
            _ => None,
        }
    }

    fn open(open: &Open) -> Self {
        let roles: Vec<&str> = open.roles.iter().collect();
        Self::new("open")
            .with("conn", open.conn.to_string())
            .maybe("ip", open.ip.map(|ip| ip.to_string()))
            .maybe("user", open.user.as_deref().map(|user| harmless(user, MAX_NAME)))
            .maybe("roles", (!roles.is_empty()).then(|| harmless(&roles.join(","), MAX_NAME)))
            .with("path", harmless(&open.path, MAX_NAME))
            .maybe("origin", open.origin.as_deref().map(|origin| harmless(origin, MAX_NAME)))
            .maybe("subprotocol", open.subprotocol.as_deref())
            .maybe("compressed", open.compressed.then_some(true))
            .maybe("reported", open.reported.then_some(true))
    }

    fn message(message: &JsonMessage<'_>, style: Style) -> Self {
        Self::new("message")
            .with("conn", message.conn.to_string())
            .with("event", harmless(message.event, MAX_NAME))
            .maybe("id", message.id.map(|id| harmless(id, MAX_NAME)))
            .with("bytes", message.bytes)
            .maybe("data", (!style.without_data).then(|| harmless(message.data.as_str(), MAX_SHOWN)))
    }

    fn raw(conn: ConnectionId, kind: &'static str, bytes: usize, data: Option<String>) -> Self {
        Self::new(kind).with("conn", conn.to_string()).with("bytes", bytes).maybe("data", data)
    }

    fn close(close: &Close<'_>) -> Self {
        Self::new("close")
            .with("conn", close.conn.to_string())
            .with("code", close.code)
            .maybe("reason", (!close.reason.is_empty()).then(|| harmless(close.reason, MAX_NAME)))
            .maybe("verdict", close.verdict.map(wsguard::Code::name))
            .with("clean", close.clean)
    }

    fn violation(violation: &ViolationEvent) -> Self {
        Self::new(if violation.reported { "reported" } else { "refused" })
            .with("verdict", violation.code.name())
            .maybe(
                "status",
                Some(violation.code.http_status()).filter(|status| *status != 0 && violation.conn.is_none()),
            )
            .maybe("conn", violation.conn.map(|conn| conn.to_string()))
            .maybe("ip", violation.ip.map(|ip| ip.to_string()))
            .maybe("user", violation.user.as_deref().map(|user| harmless(user, MAX_NAME)))
            .maybe("event", violation.event.as_deref().map(|event| harmless(event, MAX_NAME)))
            .with("detail", harmless(&violation.detail, MAX_SHOWN))
    }

    fn upgrade(upgrade: &Upgrade) -> Self {
        Self::new("asks").with("path", harmless(&upgrade.request.path, MAX_NAME))
    }

    /// The line, without its end.
    pub(super) fn written(&self, time: &str, style: Style) -> String {
        if style.as_json {
            let mut members = Map::new();
            members.insert("time".into(), time.into());
            members.insert("type".into(), self.event.into());
            members.extend(self.fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
            return json!(members).to_string();
        }
        let event = format!("{:<8}", self.event);
        let event = match self.event {
            "open" | "listens" | "reloaded" => style.paint.green(&event),
            "refused" | "error" => style.paint.red(&event),
            "reported" => style.paint.yellow(&event),
            _ => style.paint.bold(&event),
        };
        let mut line = format!("{} {event}", style.paint.dim(time));
        for (name, value) in &self.fields {
            let _ = match value {
                Value::String(text) if text.contains([' ', '"', '=']) || text.is_empty() => {
                    write!(line, " {name}={text:?}")
                }
                Value::String(text) => write!(line, " {name}={text}"),
                other => write!(line, " {name}={other}"),
            };
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_line() {
        let line = Line::new("text").with("conn", "1").with("data", harmless("a\nb \u{1b}[31m", 99)).with("bytes", 7);
        assert_eq!(line.written("t", Style::default()), r#"t text     conn=1 data="a\\u{a}b \\u{1b}[31m" bytes=7"#);
        let json = line.written("t", Style { as_json: true, ..Style::default() });
        let read: Value = serde_json::from_str(&json).unwrap();
        assert_eq!((&read["type"], &read["bytes"], json.lines().count()), (&json!("text"), &json!(7), 1));
        // Who reads JSON line by line reads this as well.
        let left_out = Line::left_out(3).written("t", Style { as_json: true, ..Style::default() });
        assert_eq!(serde_json::from_str::<Value>(&left_out).unwrap()["lines"], 3);
    }

    #[test]
    fn messages_are_shown_unless_they_are_not_wanted() {
        let conn = ConnectionId::from_u64(7);
        let shown = |style| Line::of(&Event::Text(conn, "hunter2"), style).unwrap().written("t", style);
        assert!(shown(Style::default()).contains("data=hunter2"));
        assert!(!shown(Style { without_data: true, ..Style::default() }).contains("hunter2"));
        let long = "x".repeat(10_000);
        let line = Line::of(&Event::Binary(conn, long.as_bytes()), Style::default()).unwrap();
        assert!(line.written("t", Style::default()).len() < 200);
    }
}
