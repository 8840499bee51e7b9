//! The verbs of a scenario. Each step is a table with one verb and optionally `on`, the connection it speaks of; without
//! `on` that is the connection of the step before.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};
use wsguard_test_support::outcome::{Failure, Outcome, fail};

use crate::bytes::Bytes;
use crate::frame::{FrameForm, Opcode};
use crate::http::Request;
use crate::wire::Connect;

/// A parsed step.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) on: Option<String>,
    /// Writes in pieces of so many bytes.
    pub(crate) chunk: Option<usize>,
    pub(crate) verb: Verb,
}

/// Everything a scenario can do or expect.
#[derive(Debug, Clone)]
pub(crate) enum Verb {
    Connect(Connect),
    Send(Bytes),
    Request(Box<Request>),
    Upgrade(Box<Request>),
    ExpectHttp(ExpectHttp),
    Refused(Refused),
    Answered(Answered),
    Frame(FrameForm),
    Frames(Vec<FrameForm>),
    Emit(Emit),
    Expect(Expect),
    Collect(Collect),
    ExpectBytes(Bytes),
    ExpectClose(CloseWanted),
    ExpectEof(Within),
    Ends(Within),
    ExpectTlsRefused(Within),
    ExpectNothing(ForMs),
    Pong(Within),
    Closed(Closed),
    Alive(Alive),
    Fresh(Alive),
    Bye(Within),
    Event(Value),
    Events(Vec<Value>),
    CountEvents(CountEvents),
    NoEvent(Value),
    Log(Log),
    NoLog(String),
    Control(Control),
    Signal(String),
    EndInput(Empty),
    Exit(Exit),
    Mark(String),
    Elapsed(Elapsed),
    WaitMs(u64),
    Memory(Memory),
    Drop(Empty),
    Reset(Empty),
    ShutWrite(Empty),
    Trickle(Trickle),
    Flood(Flood),
    WriteFile(WriteFile),
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Empty {}

/// An HTTP answer, its body, and the end of the connection.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExpectHttp {
    pub(crate) status: u16,
    #[serde(default)]
    pub(crate) headers: Table,
    pub(crate) body: Option<String>,
    pub(crate) body_contains: Option<String>,
    #[serde(default = "short_body")]
    pub(crate) body_max: usize,
    #[serde(default = "yes")]
    pub(crate) closes: bool,
    #[serde(default = "patience_ms")]
    pub(crate) within_ms: u64,
}

/// Some HTTP answer in time: for input that may be ignored or refused, but not slowly.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Answered {
    pub(crate) one_of: Vec<u16>,
    #[serde(default = "patience_ms")]
    pub(crate) within_ms: u64,
}

/// A refused handshake in full: status, `Connection: close`, a body that names the code, the end of the connection, the
/// violation event with the address, and no other event.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Refused {
    pub(crate) status: u16,
    pub(crate) code: String,
    /// The address in the event; default: the connection's.
    pub(crate) ip: Option<String>,
    /// The user in the event; default: none.
    pub(crate) user: Option<String>,
    #[serde(default)]
    pub(crate) headers: Table,
    /// The event is expected (default); `false`: allowed, not required (not a violation of the peer's).
    #[serde(default = "yes")]
    pub(crate) event: bool,
    #[serde(default = "patience_ms")]
    pub(crate) within_ms: u64,
}

/// A connection the server closes: close frame, our echo, the end, and the host's events.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Closed {
    pub(crate) close: u16,
    pub(crate) reason: Option<String>,
    /// The violation's code; absent: none is required.
    pub(crate) code: Option<String>,
    /// The user in the violation event (default: that of the `open` event); the message event it names.
    pub(crate) event: Option<String>,
    /// Echoes the close frame (the default).
    #[serde(default = "yes")]
    pub(crate) reply: bool,
    /// Frames with these opcodes may come first.
    #[serde(default)]
    pub(crate) after: Vec<Opcode>,
    #[serde(default = "patience_ms")]
    pub(crate) within_ms: u64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CloseWanted {
    pub(crate) code: Option<u16>,
    pub(crate) reason: Option<String>,
    #[serde(default)]
    pub(crate) reply: bool,
    #[serde(default = "yes")]
    pub(crate) eof: bool,
    #[serde(default = "patience_ms")]
    pub(crate) within_ms: u64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Within {
    #[serde(default = "patience_ms")]
    pub(crate) within_ms: u64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ForMs {
    pub(crate) for_ms: u64,
}

/// A JSON message in a text frame: exactly the keys that are given.
pub(crate) type Emit = Table;

/// The next frame.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Expect {
    pub(crate) op: Option<Opcode>,
    pub(crate) payload: Option<Bytes>,
    pub(crate) json: Option<Value>,
    pub(crate) length: Option<usize>,
    /// Whether it came compressed; absent: either. The rest is compared with what is inflated.
    pub(crate) compressed: Option<bool>,
    #[serde(default = "one")]
    pub(crate) times: usize,
    #[serde(default = "patience_ms")]
    pub(crate) within_ms: u64,
}

/// Reads frames of one kind until another kind, the end, or the time is over, and counts them.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Collect {
    pub(crate) op: Opcode,
    pub(crate) min: usize,
    pub(crate) max: usize,
    /// Stops once so many have come.
    pub(crate) until: Option<usize>,
    #[serde(default = "patience_ms")]
    pub(crate) within_ms: u64,
}

/// The connection still works: one echo there and back.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Alive {
    #[serde(default = "patience_ms")]
    pub(crate) within_ms: u64,
    pub(crate) from: Option<std::net::IpAddr>,
    pub(crate) token: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CountEvents {
    #[serde(rename = "match")]
    pub(crate) wanted: Value,
    pub(crate) min: usize,
    pub(crate) max: usize,
    /// Takes them, so that they are not found again.
    #[serde(default)]
    pub(crate) take: bool,
    #[serde(default = "patience_ms")]
    pub(crate) within_ms: u64,
}

/// Log lines that contain all of `contains`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Log {
    pub(crate) contains: Vec<String>,
    #[serde(default = "one")]
    pub(crate) min: usize,
    pub(crate) max: Option<usize>,
    #[serde(default = "patience_ms")]
    pub(crate) within_ms: u64,
}

/// A command to the host and what its answer must contain.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Control {
    pub(crate) send: Table,
    pub(crate) expect: Option<Table>,
    /// Does not wait for the answer.
    #[serde(default)]
    pub(crate) detached: bool,
    #[serde(default = "patience_ms")]
    pub(crate) within_ms: u64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Exit {
    pub(crate) code: i32,
    #[serde(default = "patience_ms")]
    pub(crate) within_ms: u64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Elapsed {
    pub(crate) since: String,
    pub(crate) at_least_ms: Option<u64>,
    pub(crate) at_most_ms: Option<u64>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Memory {
    /// Remembers the present size under a name.
    pub(crate) mark: Option<String>,
    pub(crate) below_mib: Option<u64>,
    pub(crate) since: Option<String>,
    pub(crate) growth_below_mib: Option<u64>,
}

/// Sends slowly, byte by byte, until the peer closes or everything is sent.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Trickle {
    pub(crate) bytes: Bytes,
    pub(crate) every_ms: u64,
}

/// Sends the same bytes again and again without reading, until the peer closes or takes no more, or so many times.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Flood {
    pub(crate) frame: FrameForm,
    pub(crate) times: usize,
    /// How long a full socket is waited for.
    #[serde(default = "flood_patience_ms")]
    pub(crate) patience_ms: u64,
}

/// Writes a file into `{{dir}}`: contents, or `@name` for a file of the certificate directory.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WriteFile {
    pub(crate) name: String,
    pub(crate) content: String,
}

fn yes() -> bool {
    true
}
fn one() -> usize {
    1
}
fn short_body() -> usize {
    256
}
fn patience_ms() -> u64 {
    5000
}
fn flood_patience_ms() -> u64 {
    1000
}

impl Step {
    pub(crate) fn parse(value: &Value) -> Outcome<Self> {
        let Value::Table(table) = value else { return fail!("a step is a table, not {value}") };
        let mut table = table.clone();
        let on = table.remove("on").map(read).transpose()?;
        let chunk = table.remove("chunk").map(read).transpose()?;
        let mut verbs = table.into_iter();
        match (verbs.next(), verbs.next()) {
            (Some((verb, value)), None) => {
                let shown = format!("{value}").chars().take(120).collect::<String>();
                let verb = Verb::parse(&verb, value).map_err(|error| format!("{verb} = {shown}: {error}"))?;
                Ok(Self { on, chunk, verb })
            }
            _ => fail!("a step has one verb: {value}"),
        }
    }
}

fn read<T: DeserializeOwned>(value: Value) -> Outcome<T> {
    value.try_into().map_err(misread)
}

/// What is wrong with a value, without the place in a file that it does not come from.
#[expect(clippy::needless_pass_by_value, reason = "it is what `map_err` gives")]
pub(crate) fn misread(error: toml::de::Error) -> Failure {
    Failure(error.message().to_owned())
}

impl Verb {
    fn parse(verb: &str, value: Value) -> Outcome<Self> {
        Ok(match verb {
            "connect" => Self::Connect(read(value)?),
            "send" => Self::Send(read(value)?),
            "request" => Self::Request(read(value)?),
            "upgrade" => Self::Upgrade(read(value)?),
            "expect_http" => Self::ExpectHttp(read(value)?),
            "refused" => Self::Refused(read(value)?),
            "answered" => Self::Answered(read(value)?),
            "frame" => Self::Frame(read(value)?),
            "frames" => Self::Frames(read(value)?),
            "emit" => Self::Emit(read(value)?),
            "expect" => Self::Expect(read(value)?),
            "collect" => Self::Collect(read(value)?),
            "expect_bytes" => Self::ExpectBytes(read(value)?),
            "expect_close" => Self::ExpectClose(read(value)?),
            "ends" => Self::Ends(read(value)?),
            "expect_eof" => Self::ExpectEof(read(value)?),
            "expect_tls_refused" => Self::ExpectTlsRefused(read(value)?),
            "expect_nothing" => Self::ExpectNothing(read(value)?),
            "pong" => Self::Pong(read(value)?),
            "closed" => Self::Closed(read(value)?),
            "alive" => Self::Alive(read(value)?),
            "fresh" => Self::Fresh(read(value)?),
            "bye" => Self::Bye(read(value)?),
            "event" => Self::Event(value),
            "events" => Self::Events(read(value)?),
            "count_events" => Self::CountEvents(read(value)?),
            "no_event" => Self::NoEvent(value),
            "log" => Self::Log(read(value)?),
            "no_log" => Self::NoLog(read(value)?),
            "control" => Self::Control(read(value)?),
            "signal" => Self::Signal(read(value)?),
            "end_input" => Self::EndInput(read(value)?),
            "exit" => Self::Exit(read(value)?),
            "mark" => Self::Mark(read(value)?),
            "elapsed" => Self::Elapsed(read(value)?),
            "wait_ms" => Self::WaitMs(read(value)?),
            "memory" => Self::Memory(read(value)?),
            "drop" => Self::Drop(read(value)?),
            "reset" => Self::Reset(read(value)?),
            "shut_write" => Self::ShutWrite(read(value)?),
            "trickle" => Self::Trickle(read(value)?),
            "flood" => Self::Flood(read(value)?),
            "write_file" => Self::WriteFile(read(value)?),
            other => return fail!("unknown verb {other:?}"),
        })
    }
}
