//! What is measured: the workloads, the candidates, and the policy that wsguard enforces while it is measured.

use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};

use crate::server::{Start, peer_program};

/// The origin and the token that every connection of the generator sends.
pub const ORIGIN: &str = "https://bench.example";
/// See [`ORIGIN`].
pub const TOKEN: &str = "bench-token-2f6c1d0a9b8e47735510";

/// The name of the candidate that is ours.
pub const OURS: &str = "wsguard";
/// The name of the candidate that the ratios refer to.
pub const YARDSTICK: &str = "fastwebsockets";

/// One thing to measure.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    /// Unique, and what `--only` matches.
    pub name: &'static str,
    /// What the generator does.
    pub load: Load,
}

/// What the generator does.
#[derive(Clone, Copy, Debug)]
pub enum Load {
    /// Each connection keeps `in_flight` messages on their way and back: the next batch goes when all have returned.
    Echo {
        /// What is sent.
        message: Message,
        /// Open connections.
        connections: usize,
        /// Messages per batch.
        in_flight: u32,
    },
    /// Connections that are opened and then do nothing.
    Idle {
        /// Open connections.
        connections: usize,
    },
    /// Connections that are opened, upgraded and closed, over and over.
    Handshakes {
        /// Handshakes on their way at any time.
        concurrent: usize,
    },
}

/// What an echo message is.
#[derive(Clone, Copy, Debug)]
pub enum Message {
    /// A binary frame with this many payload bytes.
    Binary(usize),
    /// A text frame with this many payload bytes, all ASCII.
    Text(usize),
    /// An `echo` envelope of this many bytes in all.
    Json(usize),
}

/// A server that can be measured.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    /// Unique, and what `--server` matches.
    pub name: &'static str,
    /// What is measured, in a few words.
    pub what: &'static str,
    /// The package in Cargo.lock that gives the version.
    pub package: &'static str,
    kind: Kind,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    /// A test host of this repository: `tests/hosts/LANGUAGE/run`.
    Host { language: &'static str },
    /// A program of this package. It echoes whatever comes.
    Peer { program: &'static str },
}

/// The workloads, in the order of the report.
pub const WORKLOADS: &[Workload] = &[
    echo("raw-64B", Message::Binary(64), 64, 1),
    echo("raw-64B-16", Message::Binary(64), 64, 16),
    echo("raw-16KiB", Message::Binary(16 << 10), 64, 1),
    echo("raw-1KiB-400", Message::Binary(1 << 10), 400, 1),
    echo("json-90B", Message::Json(90), 64, 1),
    echo("json-90B-16", Message::Json(90), 64, 16),
    Workload { name: "idle", load: Load::Idle { connections: 10_000 } },
    Workload { name: "handshakes", load: Load::Handshakes { concurrent: 32 } },
];

/// The candidates, in the order of the report.
pub const CANDIDATES: &[Candidate] = &[
    Candidate {
        name: OURS,
        what: "the Rust host with every protection on",
        package: "wsguard",
        kind: Kind::Host { language: "rust" },
    },
    Candidate {
        name: "wsguard-c",
        what: "the C host: the same through the C ABI",
        package: "wsguard",
        kind: Kind::Host { language: "c" },
    },
    Candidate {
        name: YARDSTICK,
        what: "echo over hyper, socket taken out of hyper, no limits set",
        package: "fastwebsockets",
        kind: Kind::Peer { program: "peer-fastwebsockets" },
    },
    Candidate {
        name: "tungstenite-4k",
        what: "tokio-tungstenite echo, 4 KiB buffers, no limits set",
        package: "tokio-tungstenite",
        kind: Kind::Peer { program: "peer-tungstenite" },
    },
];

const fn echo(name: &'static str, message: Message, connections: usize, in_flight: u32) -> Workload {
    Workload { name, load: Load::Echo { message, connections, in_flight } }
}

impl Workload {
    /// What it is, in words.
    pub fn describe(&self) -> String {
        match self.load {
            Load::Echo { message, connections, in_flight } => {
                let message = match message {
                    Message::Binary(bytes) => format!("{bytes} B binary"),
                    Message::Text(bytes) => format!("{bytes} B text"),
                    Message::Json(bytes) => format!("{bytes} B JSON envelope"),
                };
                format!("echo, {message}, {connections} connections, {in_flight} in flight on each")
            }
            Load::Idle { connections } => format!("{connections} open connections without traffic"),
            Load::Handshakes { concurrent } => {
                format!("TCP connect, opening handshake, TCP close; {concurrent} at a time")
            }
        }
    }

    /// The connections it holds open at a time.
    pub fn connections(&self) -> usize {
        match self.load {
            Load::Echo { connections, .. } | Load::Idle { connections } => connections,
            Load::Handshakes { concurrent } => concurrent,
        }
    }

    /// Whether `candidate` can take part: only ours knows the envelope and checks it.
    pub fn suits(&self, candidate: &Candidate) -> bool {
        !matches!(self.load, Load::Echo { message: Message::Json(_), .. })
            || matches!(candidate.kind, Kind::Host { .. })
    }
}

impl Candidate {
    /// How to start it for `workload`, or why it cannot be started.
    pub fn start(&self, workload: &Workload, repository: &Path) -> Result<Start> {
        Ok(match self.kind {
            Kind::Host { language } => {
                let run = host_program(repository, language);
                Start { command: vec![run.into(), "--quiet".into()], options: host_options(workload) }
            }
            Kind::Peer { program } => Start { command: vec![peer_program(program)?.into()], options: json!({}) },
        })
    }

    /// Whether there is a program to start.
    pub fn is_built(&self, repository: &Path) -> bool {
        match self.kind {
            Kind::Host { language } => host_program(repository, language).exists(),
            Kind::Peer { program } => peer_program(program).is_ok(),
        }
    }
}

fn host_program(repository: &Path, language: &str) -> std::path::PathBuf {
    repository.join("tests/hosts").join(language).join("run")
}

/// The options line of a host: every protection on, every limit too high to be met by an honest generator.
fn host_options(workload: &Workload) -> Value {
    let json = matches!(workload.load, Load::Echo { message: Message::Json(_), .. });
    let schema = json!({
        "type": "object",
        "properties": {"text": {"type": "string", "maxLength": 1000}, "seq": {"type": "integer", "minimum": 0}},
        "required": ["text", "seq"],
        "additionalProperties": false,
    });
    let mut options = json!({
        "listen": "127.0.0.1:0",
        "threads": 1,
        "origins": [ORIGIN],
        "auth": {"tokens": [{"token": TOKEN, "user": "bench"}]},
        "protocol": if json { "json" } else { "raw" },
        "max_message_bytes": 1 << 20,
        "rate_limit": {
            "per_second": 1_000_000_000, "burst": 1_000_000_000, "queue": 20,
            "bytes_per_second": 1_000_000_000_000_u64, "key": "user",
        },
        "control_rate_limit": {"per_second": 10, "burst": 20},
        "handshakes_per_ip": null,
        "max_connections_per_ip": 50_000,
        "max_connections_per_user": 50_000,
    });
    if json {
        options["events"] = json!({"echo": {"schema": schema}});
    }
    json!({"options": options, "app": {}})
}
