//! What is measured: the workloads, and who takes part in each.

use std::time::Duration;

/// The origin and the token that every honest connection of the generator sends.
pub const ORIGIN: &str = "https://bench.example";
/// See [`ORIGIN`].
pub const TOKEN: &str = "bench-token-2f6c1d0a9b8e47735510";
/// An origin that no server lets in.
pub const EVIL_ORIGIN: &str = "https://evil.example";

/// One thing to measure.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    /// Unique, and what `--only` matches.
    pub name: &'static str,
    /// What the generator does.
    pub load: Load,
    /// Whether the connections are TLS.
    pub tls: bool,
    /// Whether they agree to permessage-deflate, and messages go compressed both ways.
    pub compressed: bool,
    /// The names of the candidates that take part, in the order of the report.
    pub servers: &'static [&'static str],
    /// The candidate that the ratios refer to.
    pub yardstick: &'static str,
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
    /// The same by clients that are not to be let in, or not to stay.
    Offences {
        /// What each of them does wrong.
        offence: Offence,
        /// Offenders on their way at any time.
        concurrent: usize,
    },
    /// One message at a time to everyone in a room.
    FanOut {
        /// Who is in it, the sender included.
        members: usize,
        /// Bytes of its text.
        text_bytes: usize,
    },
    /// Messages to a room whose only member is on another node of the cluster.
    Crossing {
        /// Bytes of their text.
        text_bytes: usize,
        /// Messages that are under way at any time.
        in_flight: usize,
    },
    /// Honest clients at a fixed rate, first alone, then beside each attack in turn.
    Attacked,
    /// The same clients while the server takes over other options.
    Reload {
        /// Events with schemas in the options.
        events: usize,
    },
}

/// What a client does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offence {
    /// It comes from another site: to be refused in the opening handshake.
    BadOrigin,
    /// It sends broken JSON once it is in: to be closed.
    BadJson,
    /// Its message inflates to 64 times what one may have, a thousand times what it came as: to be closed.
    Bomb,
    /// Nothing: its message has as many bytes as one may have when it is inflated, and is answered.
    None,
}

/// What goes on beside honest clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Beside {
    /// Nothing: the quiet before the attacks.
    Nothing,
    /// Clients that are let in, send broken JSON, and come again when they are closed.
    BadJson,
    /// Opening handshakes from a foreign site.
    BadOrigin,
    /// Request heads over every limit.
    OversizeHead,
    /// Clients that are let in and send pings.
    Pings,
    /// Clients that send their request head one byte at a time.
    Slowloris,
}

/// All of them, in the order in which they are measured.
pub const BESIDE: &[Beside] =
    &[Beside::Nothing, Beside::BadJson, Beside::BadOrigin, Beside::OversizeHead, Beside::Pings, Beside::Slowloris];

impl Beside {
    /// In words.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Nothing => "quiet",
            Self::BadJson => "bad JSON",
            Self::BadOrigin => "bad Origin",
            Self::OversizeHead => "oversize headers",
            Self::Pings => "pings",
            Self::Slowloris => "slowloris",
        }
    }
}

/// What an echo message is.
#[derive(Clone, Copy, Debug)]
pub enum Message {
    /// A binary frame with this many payload bytes.
    Binary(usize),
    /// An `echo` envelope of this many bytes in all.
    Json(usize),
    /// A binary frame with this many bytes of an application's JSON, which repeats itself as such texts do.
    Records(usize),
    /// An event of Socket.IO, a packet of this many bytes in all.
    SocketIo(usize),
}

const ECHO: &[&str] = &[
    "wsguard-rust",
    "wsguard-c",
    "wsguard-python",
    "wsguard-node",
    "bun",
    "fastwebsockets",
    "tungstenite",
    "tungstenite-4k",
    "ws",
    "picows",
    "websockets",
    "socketify",
];
const JSON: &[&str] =
    &["wsguard-rust", "wsguard-c", "wsguard-python", "wsguard-node", "ws-practice", "websockets-practice"];
const ROUND_TRIP_TLS: &[&str] =
    &["wsguard-rust", "wsguard-python", "wsguard-node", "bun", "ws", "picows", "websockets"];
const TLS_FEW: &[&str] = &["wsguard-rust", "bun", "ws", "websockets"];
const HANDSHAKES_IDLE: &[&str] =
    &["wsguard-rust", "wsguard-python", "wsguard-node", "bun", "fastwebsockets", "ws", "picows", "websockets"];
const FAN_OUT: &[&str] = &["wsguard-rust", "wsguard-c", "wsguard-python", "wsguard-node", "bun", "ws"];
const GUARDED: &[&str] = &["wsguard-rust", "wsguard-python", "wsguard-node", "ws-practice", "websockets-practice"];
/// Those whose host knows the commands.
const RELOADING: &[&str] = &["wsguard-rust"];
const SCALING: &[&str] = &["wsguard-rust", "bun"];
/// The same application on both sides.
const WS_APP: &[&str] = &["wsguard-ws", "ws-app"];
const SOCKET_IO: &[&str] = &["wsguard-socketio", "socketio"];
const FASTAPI: &[&str] = &["wsguard-fastapi", "fastapi"];
/// The same host with the option `cluster` and without: what it does not have to ask Redis for.
const ONE_NODE: &[&str] = &["wsguard-rust", "wsguard-rust-cluster"];
const NODES: &[&str] = &["wsguard-rust-cluster", "wsguard-node-cluster", "socketio-redis"];
const DEFLATE: &[&str] = &["wsguard-rust", "wsguard-c", "wsguard-python", "wsguard-node", "bun", "ws", "fastapi"];
const DEFLATE_FEW: &[&str] = &["wsguard-rust", "bun", "ws"];
const DEFLATE_OURS: &[&str] = &["wsguard-rust"];

/// The workloads, in the order of the report.
pub const WORKLOADS: &[Workload] = &[
    echo("raw-64B", Message::Binary(64), 64, 1, ECHO, "bun"),
    echo("json-90B", Message::Json(90), 64, 1, JSON, "ws-practice"),
    echo("raw-64B-16", Message::Binary(64), 64, 16, ECHO, "bun"),
    echo("raw-16KiB", Message::Binary(16 << 10), 64, 1, ECHO, "bun"),
    echo("json-90B-16", Message::Json(90), 64, 16, JSON, "ws-practice"),
    echo("round-trip", Message::Binary(64), 1, 1, ROUND_TRIP_TLS, "bun"),
    over_tls(echo("tls-64B", Message::Binary(64), 64, 1, ROUND_TRIP_TLS, "bun")),
    over_tls(echo("tls-16KiB", Message::Binary(16 << 10), 64, 1, ROUND_TRIP_TLS, "bun")),
    plain("handshakes", Load::Handshakes { concurrent: 32 }, HANDSHAKES_IDLE, "bun"),
    over_tls(plain("tls-handshakes", Load::Handshakes { concurrent: 32 }, TLS_FEW, "bun")),
    plain("refusals", Load::Offences { offence: Offence::BadOrigin, concurrent: 32 }, GUARDED, "ws-practice"),
    plain("offenders", Load::Offences { offence: Offence::BadJson, concurrent: 32 }, GUARDED, "ws-practice"),
    plain("fan-out", Load::FanOut { members: 1000, text_bytes: 64 }, FAN_OUT, "bun"),
    plain("idle", Load::Idle { connections: 4000 }, HANDSHAKES_IDLE, "bun"),
    over_tls(plain("tls-idle", Load::Idle { connections: 2000 }, TLS_FEW, "bun")),
    echo("connections-10", Message::Binary(64), 10, 1, SCALING, "bun"),
    echo("connections-100", Message::Binary(64), 100, 1, SCALING, "bun"),
    echo("connections-1000", Message::Binary(64), 1000, 1, SCALING, "bun"),
    echo("connections-10000", Message::Binary(64), 10_000, 1, SCALING, "bun"),
    echo("moved-ws", Message::Binary(64), 64, 1, WS_APP, "ws-app"),
    echo("moved-ws-16", Message::Binary(64), 64, 16, WS_APP, "ws-app"),
    over_tls(echo("moved-ws-tls", Message::Binary(64), 64, 1, WS_APP, "ws-app")),
    echo("moved-socketio", Message::SocketIo(64), 64, 1, SOCKET_IO, "socketio"),
    echo("moved-socketio-16", Message::SocketIo(64), 64, 16, SOCKET_IO, "socketio"),
    over_tls(echo("moved-socketio-tls", Message::SocketIo(64), 64, 1, SOCKET_IO, "socketio")),
    echo("moved-fastapi", Message::Binary(64), 64, 1, FASTAPI, "fastapi"),
    echo("moved-fastapi-16", Message::Binary(64), 64, 16, FASTAPI, "fastapi"),
    over_tls(echo("moved-fastapi-tls", Message::Binary(64), 64, 1, FASTAPI, "fastapi")),
    compressed(echo("deflate-2KiB", Message::Records(2048), 64, 1, DEFLATE, "bun")),
    compressed(plain("deflate-idle", Load::Idle { connections: 4000 }, DEFLATE_FEW, "bun")),
    plain("fan-out-4KiB", Load::FanOut { members: 1000, text_bytes: 4096 }, DEFLATE_FEW, "bun"),
    compressed(plain("deflate-fan-out", Load::FanOut { members: 1000, text_bytes: 4096 }, DEFLATE_FEW, "bun")),
    compressed(plain("bombs", offences(Offence::Bomb), DEFLATE_OURS, "wsguard-rust")),
    compressed(plain("largest-messages", offences(Offence::None), DEFLATE_OURS, "wsguard-rust")),
    echo("cluster-echo", Message::Json(90), 64, 1, ONE_NODE, "wsguard-rust"),
    plain("cluster-room", Load::FanOut { members: 10, text_bytes: 64 }, ONE_NODE, "wsguard-rust"),
    plain("cluster-crossing", Load::Crossing { text_bytes: 64, in_flight: 64 }, NODES, "socketio-redis"),
    plain("cluster-crossing-1", Load::Crossing { text_bytes: 64, in_flight: 1 }, NODES, "socketio-redis"),
    plain("attacked", Load::Attacked, GUARDED, "ws-practice"),
    plain("reload", Load::Reload { events: 1000 }, RELOADING, "wsguard-rust"),
];

/// Honest connections of [`Load::Attacked`].
pub const HONEST: usize = 50;
/// Messages that they send per second, all together.
pub const HONEST_PER_SECOND: u32 = 3000;
/// Attackers beside them, at most: more than a server that ends them as they come ever sees.
pub const ATTACKERS: usize = 1500;

const fn echo(
    name: &'static str,
    message: Message,
    connections: usize,
    in_flight: u32,
    servers: &'static [&'static str],
    yardstick: &'static str,
) -> Workload {
    plain(name, Load::Echo { message, connections, in_flight }, servers, yardstick)
}

const fn plain(name: &'static str, load: Load, servers: &'static [&'static str], yardstick: &'static str) -> Workload {
    Workload { name, load, tls: false, compressed: false, servers, yardstick }
}

const fn offences(offence: Offence) -> Load {
    Load::Offences { offence, concurrent: 8 }
}

const fn compressed(workload: Workload) -> Workload {
    Workload { compressed: true, ..workload }
}

const fn over_tls(workload: Workload) -> Workload {
    Workload { tls: true, ..workload }
}

impl Workload {
    /// What it is, in words.
    pub fn describe(&self) -> String {
        let what = match self.load {
            Load::Echo { message, connections, in_flight } => {
                let message = match message {
                    Message::Binary(bytes) => format!("{bytes} B binary"),
                    Message::Json(bytes) => format!("{bytes} B JSON envelope"),
                    Message::SocketIo(bytes) => format!("{bytes} B packet of Socket.IO"),
                    Message::Records(bytes) => format!("{bytes} B of JSON"),
                };
                format!("echo, {message}, {connections} connections, {in_flight} in flight on each")
            }
            Load::Idle { connections } => format!("{connections} open connections without traffic"),
            Load::Handshakes { concurrent } => format!("connect, opening handshake, TCP close; {concurrent} at a time"),
            Load::Offences { offence: Offence::BadOrigin, concurrent } => {
                format!("connect, opening handshake from a foreign Origin, refused; {concurrent} at a time")
            }
            Load::Offences { offence: Offence::BadJson, concurrent } => {
                format!("connect, opening handshake, broken JSON, closed; {concurrent} at a time")
            }
            Load::Offences { offence: Offence::Bomb, concurrent } => {
                format!("connect, opening handshake, 64 MiB in 64 KiB, closed; {concurrent} at a time")
            }
            Load::Offences { offence: Offence::None, concurrent } => format!(
                "connect, opening handshake, the largest message that is let in, echoed plain, TCP close; {concurrent} at a time"
            ),
            Load::FanOut { members, text_bytes } => {
                format!("a message of one, {text_bytes} B of text, to a room of {members}, one message at a time")
            }
            Load::Crossing { text_bytes, in_flight } => format!(
                "messages of {text_bytes} B of text to a room whose only member is on another node, {in_flight} under way; \
                 CPU of both nodes"
            ),
            Load::Attacked => format!(
                "{HONEST} honest connections send {HONEST_PER_SECOND} JSON messages a second, alone and beside each attack"
            ),
            Load::Reload { events } => format!(
                "the same honest connections while the server takes over {events} other events with schemas; \
                 then the text of its metrics"
            ),
        };
        let what = if self.compressed { format!("{what}; compressed both ways") } else { what };
        if self.tls { format!("{what}; over TLS 1.3, P-256 certificate, no resumption") } else { what }
    }

    /// The connections it holds open at a time, at most.
    pub fn connections(&self) -> usize {
        match self.load {
            Load::Echo { connections, .. } | Load::Idle { connections } => connections,
            Load::Handshakes { concurrent } | Load::Offences { concurrent, .. } => concurrent,
            Load::FanOut { members, .. } => members,
            Load::Crossing { .. } => 2,
            Load::Attacked => HONEST + ATTACKERS,
            Load::Reload { .. } => HONEST,
        }
    }

    /// Whether its messages are envelopes.
    pub fn is_json(&self) -> bool {
        match self.load {
            Load::Echo { message, .. } => matches!(message, Message::Json(_)),
            Load::Offences { offence, .. } => matches!(offence, Offence::BadOrigin | Offence::BadJson),
            Load::FanOut { .. } | Load::Crossing { .. } | Load::Attacked | Load::Reload { .. } => true,
            Load::Idle { .. } | Load::Handshakes { .. } => false,
        }
    }
}

/// How long is measured. The window ends with whichever bound is reached first.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// Load before the window opens.
    pub warm_up: Duration,
    /// Length of the window.
    pub length: Duration,
    /// Messages or handshakes in the window.
    pub most: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::candidates::CANDIDATES;

    #[test]
    fn every_server_of_a_workload_is_a_candidate() {
        for workload in WORKLOADS {
            for name in workload.servers.iter().chain([&workload.yardstick]) {
                assert!(CANDIDATES.iter().any(|candidate| candidate.name == *name), "{name} in {}", workload.name);
            }
            assert!(workload.servers.contains(&workload.yardstick), "{}", workload.name);
        }
    }

    #[test]
    fn names_are_unique() {
        for (number, workload) in WORKLOADS.iter().enumerate() {
            assert!(WORKLOADS[..number].iter().all(|other| other.name != workload.name), "{}", workload.name);
        }
    }

    #[test]
    fn every_host_takes_part_in_every_echo() {
        let hosts = CANDIDATES
            .iter()
            .filter(|candidate| candidate.is_host() && !candidate.cluster)
            .map(|candidate| candidate.name);
        assert!(hosts.clone().count() == 4 && hosts.clone().all(|host| ECHO.contains(&host) && JSON.contains(&host)));
    }
}
