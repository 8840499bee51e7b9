//! The servers that are measured: how each is installed, started and told what to do.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use wsguard_test_support::certs::Certs;

use crate::machine;
use crate::plan::{Load, ORIGIN, TOKEN, Workload};
use crate::policy;
use crate::server::{Cluster, Start};

/// A server that can be measured.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    /// Unique, and what `--server` matches.
    pub name: &'static str,
    /// What is measured, in a few words.
    pub what: &'static str,
    /// The packages whose versions the report gives.
    pub packages: &'static [&'static str],
    /// How it runs.
    pub kind: Kind,
    /// Whether it is a node of a cluster over Redis.
    pub cluster: bool,
}

/// How a candidate runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A test host of this repository: `tests/hosts/LANGUAGE/run`.
    Host(&'static str),
    /// A program of this package with an argument.
    Rust(&'static str, &'static str),
    /// A script of `bench/peers/node` under Node.
    Node(&'static str),
    /// A script of `bench/peers/node` under Bun.
    Bun(&'static str),
    /// A script of `bench/peers/python` in its virtual environment.
    Python(&'static str),
}

/// Where in a host's first line Redis is named.
const HOST_TOLD: &str = "/options/cluster/url";

/// The candidates, in the order of the report.
pub const CANDIDATES: &[Candidate] = &[
    host("wsguard-rust", "rust", "our Rust host, every protection on"),
    host("wsguard-c", "c", "our C host, every protection on"),
    host("wsguard-python", "python", "our Python host, every protection on, echo in Python"),
    host("wsguard-node", "node", "our Node host, every protection on, echo in JavaScript"),
    Candidate {
        name: "bun",
        what: "Bun.serve (embeds uWebSockets), no checks",
        packages: &["bun"],
        kind: Kind::Bun("bun.mjs"),
        cluster: false,
    },
    Candidate {
        name: "fastwebsockets",
        what: "over hyper, socket taken out of hyper, no checks",
        packages: &["fastwebsockets"],
        kind: Kind::Rust("peer-fastwebsockets", ""),
        cluster: false,
    },
    Candidate {
        name: "tungstenite",
        what: "tokio-tungstenite with its defaults, no checks",
        packages: &["tokio-tungstenite"],
        kind: Kind::Rust("peer-tungstenite", "defaults"),
        cluster: false,
    },
    Candidate {
        name: "tungstenite-4k",
        what: "tokio-tungstenite with 4 KiB buffers, no checks",
        packages: &["tokio-tungstenite"],
        kind: Kind::Rust("peer-tungstenite", "4096"),
        cluster: false,
    },
    Candidate {
        name: "ws",
        what: "ws with bufferutil, no checks",
        packages: &["ws", "bufferutil"],
        kind: Kind::Node("ws.mjs"),
        cluster: false,
    },
    Candidate {
        name: "picows",
        what: "picows' core API on uvloop, no checks",
        packages: &["picows", "uvloop"],
        kind: Kind::Python("picows_echo.py"),
        cluster: false,
    },
    Candidate {
        name: "websockets",
        what: "websockets on uvloop, no checks",
        packages: &["websockets", "uvloop"],
        kind: Kind::Python("websockets_echo.py"),
        cluster: false,
    },
    Candidate {
        name: "socketify",
        what: "socketify (uWebSockets under Python), no checks",
        packages: &["socketify"],
        kind: Kind::Python("socketify_echo.py"),
        cluster: false,
    },
    Candidate {
        name: "ws-practice",
        what: "ws + Origin check + token + rate-limiter-flexible + Joi",
        packages: &["ws", "rate-limiter-flexible", "joi"],
        kind: Kind::Node("ws_practice.mjs"),
        cluster: false,
    },
    Candidate {
        name: "websockets-practice",
        what: "websockets + origins + token + limiter + Pydantic, uvloop",
        packages: &["websockets", "pydantic", "uvloop"],
        kind: Kind::Python("websockets_practice.py"),
        cluster: false,
    },
    Candidate {
        name: "wsguard-ws",
        what: "an application of ws on wsguard/ws, every protection on",
        packages: &["wsguard"],
        kind: Kind::Node("ws_app.mjs"),
        cluster: false,
    },
    Candidate {
        name: "ws-app",
        what: "the same application on ws with bufferutil, no checks",
        packages: &["ws", "bufferutil"],
        kind: Kind::Node("ws_app.mjs"),
        cluster: false,
    },
    Candidate {
        name: "wsguard-socketio",
        what: "a Socket.IO application with guard(policy) as its wsEngine, every protection on",
        packages: &["wsguard", "socket.io"],
        kind: Kind::Node("socketio_app.mjs"),
        cluster: false,
    },
    Candidate {
        name: "socketio",
        what: "the same application on Socket.IO's own engine (ws with bufferutil), no checks",
        packages: &["socket.io", "bufferutil"],
        kind: Kind::Node("socketio_app.mjs"),
        cluster: false,
    },
    Candidate {
        name: "wsguard-fastapi",
        what: "a FastAPI application under uvicorn with wsguard.uvicorn, every protection on",
        packages: &["wsguard", "fastapi", "uvicorn", "uvloop"],
        kind: Kind::Python("fastapi_app.py"),
        cluster: false,
    },
    Candidate {
        name: "fastapi",
        what: "the same application under uvicorn as it comes with uvloop, httptools and websockets, no checks",
        packages: &["fastapi", "uvicorn", "uvloop", "websockets"],
        kind: Kind::Python("fastapi_app.py"),
        cluster: false,
    },
    node(host("wsguard-rust-cluster", "rust", "our Rust host as a node over Redis, every protection on")),
    node(host("wsguard-node-cluster", "node", "our Node host as a node over Redis, every protection on")),
    node(Candidate {
        name: "socketio-redis",
        what: "Socket.IO with its Redis adapter (ws with bufferutil), no checks",
        packages: &["socket.io", "@socket.io/redis-adapter", "redis", "bufferutil"],
        kind: Kind::Node("socketio_cluster.mjs"),
        cluster: false,
    }),
];

const fn host(name: &'static str, language: &'static str, what: &'static str) -> Candidate {
    Candidate { name, what, packages: &["wsguard"], kind: Kind::Host(language), cluster: false }
}

const fn node(candidate: Candidate) -> Candidate {
    Candidate { cluster: true, ..candidate }
}

impl Candidate {
    /// Whether it is one of wsguard's test hosts.
    pub fn is_host(&self) -> bool {
        matches!(self.kind, Kind::Host(_))
    }

    /// Whether wsguard is what is measured: a host, or an application that runs on wsguard.
    pub fn is_ours(&self) -> bool {
        self.name.starts_with("wsguard")
    }

    /// Whether it compiles its code while it runs, so that it needs a longer warm-up.
    pub fn warms_up_slowly(&self) -> bool {
        matches!(self.kind, Kind::Node(_) | Kind::Bun(_) | Kind::Host("node"))
    }

    /// How to start it for `workload`.
    pub fn start(&self, workload: &Workload, repository: &Path, certs: &Certs) -> Start {
        let tls = workload.tls.then(|| json!({"cert": certs.path("server.pem"), "key": certs.path("server.key")}));
        let options = if self.is_host() {
            policy::host_options(workload, tls.as_ref(), self.cluster)
        } else {
            self.peer_options(workload, tls.as_ref())
        };
        let nodes = if matches!(workload.load, Load::Crossing { .. }) { 2 } else { 1 };
        let cluster =
            self.cluster.then_some(Cluster { nodes, told: if self.is_host() { HOST_TOLD } else { "/redis" } });
        let speaks_socket_io = self.packages.contains(&"socket.io");
        Start { command: self.command(repository).into(), options, cluster, speaks_socket_io }
    }

    /// Whether the program that runs it is there (a host's start script always is).
    pub fn is_installed(&self, repository: &Path) -> bool {
        let [program, _] = self.command(repository);
        program == "node" || Path::new(&program).exists()
    }

    /// Its packages and their versions as installed.
    pub fn versions(&self, repository: &Path) -> String {
        let version = |package: &&str| {
            let version = match self.kind {
                _ if *package == "wsguard" => machine::cargo_version(repository, package),
                Kind::Host(_) | Kind::Rust(..) => machine::cargo_version(repository, package),
                Kind::Node(_) | Kind::Bun(_) => machine::npm_version(&node_peers(repository), package),
                Kind::Python(_) => machine::pip_version(&python_peers(repository), package),
            };
            format!("{package} {version}")
        };
        self.packages.iter().map(version).collect::<Vec<_>>().join(", ")
    }

    /// The first line of a peer's stdin. An application that runs on wsguard is told by its policy.
    fn peer_options(&self, workload: &Workload, tls: Option<&Value>) -> Value {
        let room = matches!(workload.load, Load::FanOut { .. } | Load::Crossing { .. });
        let policy = self.is_ours().then(|| policy::policy(workload));
        json!({
            "tls": tls, "room": room, "redis": null, "compressed": workload.compressed, "origin": ORIGIN, "token": TOKEN, "policy": policy,
        })
    }

    /// The program and its argument.
    fn command(&self, repository: &Path) -> [OsString; 2] {
        let (node, python) = (node_peers(repository), python_peers(repository));
        match self.kind {
            Kind::Host(language) => {
                [repository.join("tests/hosts").join(language).join("run").into(), "--quiet".into()]
            }
            Kind::Rust(program, argument) => [beside_this_program(program).into(), argument.into()],
            Kind::Node(name) => ["node".into(), node.join(name).into()],
            Kind::Bun(name) => [node.join("node_modules/.bin/bun").into(), node.join(name).into()],
            Kind::Python(name) => [python.join(".venv/bin/python").into(), python.join(name).into()],
        }
    }
}

/// Where the JavaScript peers are.
pub fn node_peers(repository: &Path) -> PathBuf {
    repository.join("bench/peers/node")
}

/// Where the Python peers are.
pub fn python_peers(repository: &Path) -> PathBuf {
    repository.join("bench/peers/python")
}

fn beside_this_program(name: &str) -> PathBuf {
    std::env::current_exe().map_or_else(|_| name.into(), |program| program.with_file_name(name))
}
