//! The pictures of a run: what is compared in each, and in which colour each system appears in all of them.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::candidates::CANDIDATES;
use crate::plan::{BESIDE, Beside, Load, WORKLOADS, Workload};
use crate::plot::{Bar, Panel, Picture};
use crate::report::decisive;
use crate::results::Results;
use crate::sample::{Metric, Series};

/// A picture: file name, title, and the workloads it compares under a heading each.
struct Plot {
    file: &'static str,
    title: &'static str,
    panels: &'static [(&'static str, &'static str)],
}

const PLOTS: &[Plot] = &[
    Plot {
        file: "overview.svg",
        title: "What it costs a server",
        panels: &[
            ("raw-64B-16", "Echo of 64 bytes, 16 messages in flight on each connection"),
            ("json-90B", "JSON echo with Origin, token, rate limit and schema checked"),
            ("offenders", "An offender: handshake, broken JSON, closed"),
            ("idle", "An idle connection"),
        ],
    },
    Plot {
        file: "echo.svg",
        title: "Echo: server CPU per message",
        panels: &[
            ("raw-64B", "64 bytes, 1 message in flight on each connection"),
            ("raw-64B-16", "64 bytes, 16 messages in flight on each connection"),
            ("raw-16KiB", "16 KiB, 1 message in flight on each connection"),
        ],
    },
    Plot {
        file: "guarded.svg",
        title: "With Origin, token, rate limit and schema checked",
        panels: &[
            ("json-90B", "JSON echo, 90 bytes, 1 message in flight on each connection"),
            ("json-90B-16", "JSON echo, 90 bytes, 16 messages in flight on each connection"),
            ("refusals", "Refusing a foreign Origin"),
            ("offenders", "An offender: handshake, broken JSON, closed"),
        ],
    },
    Plot {
        file: "tls.svg",
        title: "Over TLS 1.3",
        panels: &[
            ("tls-64B", "Echo of 64 bytes, 1 message in flight on each connection"),
            ("tls-16KiB", "Echo of 16 KiB, 1 message in flight on each connection"),
            ("tls-handshakes", "A handshake: P-256 certificate, no resumption"),
            ("tls-idle", "An idle connection"),
        ],
    },
    Plot {
        file: "connections.svg",
        title: "Connections",
        panels: &[
            ("handshakes", "Connect, opening handshake, close"),
            ("idle", "An idle connection"),
            ("fan-out", "A message of one to a room of 1000"),
            ("round-trip", "One connection's round trip (median)"),
        ],
    },
    Plot {
        file: "moved.svg",
        title: "The same application, moved",
        panels: &[
            ("moved-ws", "An application of ws: echo of 64 bytes, 1 message in flight on each connection"),
            ("moved-ws-16", "An application of ws: 16 messages in flight on each connection"),
            ("moved-socketio", "Socket.IO over WebSocket: 1 message in flight on each connection"),
            ("moved-fastapi", "FastAPI under uvicorn: 1 message in flight on each connection"),
            ("moved-fastapi-16", "FastAPI under uvicorn: 16 messages in flight on each connection"),
        ],
    },
    Plot {
        file: "scaling.svg",
        title: "Server CPU per message as connections grow",
        panels: &[
            ("connections-10", "10 connections"),
            ("connections-100", "100 connections"),
            ("connections-1000", "1 000 connections"),
            ("connections-10000", "10 000 connections"),
        ],
    },
];

/// Writes the pictures of everything that was measured into `folder`; the names of the files.
pub fn write(results: &Results, folder: &Path, machine: &str) -> Result<Vec<&'static str>> {
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    let mut pictures: Vec<_> = PLOTS.iter().map(|plot| (plot.file, plot.picture(results, machine))).collect();
    pictures.push(("attacked.svg", attacked(results, machine)));
    pictures.retain(|(_, picture)| !picture.panels.is_empty());
    for (file, picture) in &pictures {
        let path = folder.join(file);
        fs::write(&path, picture.svg()).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(pictures.into_iter().map(|(file, _)| file).collect())
}

impl Plot {
    fn picture(&self, results: &Results, machine: &str) -> Picture {
        let measured = |name: &str| results.workloads().find(|workload| workload.name == name);
        let panels = self.panels.iter().filter_map(|(name, title)| {
            let workload = measured(name)?;
            let (_, metric, _) = decisive(workload);
            Some(panel(results, workload, metric, (*title).to_owned()))
        });
        Picture {
            title: self.title.to_owned(),
            notes: notes(machine),
            panels: panels.collect(),
            has_one_scale: self.file == "scaling.svg",
        }
    }
}

fn notes(machine: &str) -> Vec<String> {
    vec![
        "Lower is better. In bold: wsguard with every protection on; the thin line is lowest to highest round."
            .to_owned(),
        machine.to_owned(),
    ]
}

/// What honest clients notice of each attack.
fn attacked(results: &Results, machine: &str) -> Picture {
    let workload = WORKLOADS.iter().find(|workload| matches!(workload.load, Load::Attacked));
    let workload = workload.filter(|workload| results.workloads().any(|measured| measured.name == workload.name));
    let panel = |workload| {
        BESIDE.iter().map(move |&beside| {
            let title = match beside {
                Beside::Nothing => "No attack".to_owned(),
                attack => format!("Attack: {}", attack.describe()),
            };
            panel(results, workload, Metric::HonestP99Us(beside), title)
        })
    };
    Picture {
        title: "Honest clients under attack: 99th percentile of their echo".to_owned(),
        notes: notes(machine),
        panels: workload.into_iter().flat_map(panel).collect(),
        has_one_scale: true,
    }
}

/// One panel: the best on top; who is absent at the end.
fn panel(results: &Results, workload: &Workload, metric: Metric, title: String) -> Panel {
    let bar = |name: &'static str| {
        let candidate = CANDIDATES.iter().find(|candidate| candidate.name == name)?;
        let series = results.series(workload.name, name, metric);
        Some(Bar { label: label(name), system: system(name), is_ours: candidate.is_ours(), figure: figure(&series) })
    };
    let mut bars: Vec<_> = workload.servers.iter().copied().filter_map(bar).collect();
    let rank = |bar: &Bar| bar.figure.map_or(f64::INFINITY, |(median, ..)| median);
    bars.sort_by(|one, other| rank(one).total_cmp(&rank(other)));
    Panel { title, unit: unit(metric, workload), bars }
}

fn figure(series: &Series) -> Option<(f64, f64, f64)> {
    let (lowest, highest) = series.range()?;
    Some((series.median()?, lowest, highest))
}

fn unit(metric: Metric, workload: &Workload) -> &'static str {
    match (metric, workload.load) {
        (Metric::CpuUs, Load::FanOut { .. } | Load::Crossing { .. }) => "CPU µs per delivery",
        (Metric::CpuUs, Load::Handshakes { .. } | Load::Offences { .. }) => "CPU µs each",
        (Metric::CpuUs, _) => "CPU µs per message",
        (Metric::UsedKib | Metric::FreshKib, _) => "resident KiB",
        _ => "µs",
    }
}

/// The name as people know it.
fn label(name: &str) -> String {
    match name {
        "wsguard-rust" => "wsguard (Rust)",
        "wsguard-c" => "wsguard (C)",
        "wsguard-python" => "wsguard (Python)",
        "wsguard-node" => "wsguard (Node)",
        "bun" => "Bun",
        "ws-practice" => "ws + Joi + limiter",
        "websockets-practice" => "websockets + Pydantic",
        "tungstenite-4k" => "tungstenite, 4 KiB",
        "wsguard-ws" => "wsguard/ws",
        "ws-app" => "ws",
        "wsguard-socketio" => "guard(policy)",
        "socketio" => "Socket.IO's own (ws)",
        "wsguard-fastapi" => "wsguard.uvicorn",
        "fastapi" => "uvicorn's own",
        other => other,
    }
    .to_owned()
}

/// A stack built on a library is drawn in that library's colour.
fn system(name: &str) -> &'static str {
    const SYSTEMS: &[&str] =
        &["wsguard", "websockets", "ws", "bun", "picows", "socketify", "tungstenite", "fastwebsockets"];
    match name {
        "socketio" | "socketio-redis" => "ws",
        "fastapi" => "websockets",
        _ => SYSTEMS.iter().find(|system| name.starts_with(**system)).copied().unwrap_or("other"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Sample;

    #[test]
    fn every_candidate_has_a_colour_and_every_panel_a_workload() {
        assert!(CANDIDATES.iter().all(|candidate| system(candidate.name) != "other"));
        assert_eq!((system("websockets-practice"), system("ws-practice")), ("websockets", "ws"));
        for (name, _) in PLOTS.iter().flat_map(|plot| plot.panels) {
            assert!(WORKLOADS.iter().any(|workload| workload.name == *name), "{name}");
        }
    }

    #[test]
    fn only_what_was_measured_is_drawn_and_the_best_is_on_top() {
        let mut results = Results::default();
        results.push("raw-64B", "bun", Sample::from([(Metric::CpuUs, 4.0)]));
        results.push("raw-64B", "ws", Sample::from([(Metric::CpuUs, 9.0)]));
        results.push("raw-64B", "wsguard-c", Sample::from([(Metric::CpuUs, 3.0)]));
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(write(&results, folder.path(), "a machine").unwrap(), ["echo.svg"]);
        let picture = fs::read_to_string(folder.path().join("echo.svg")).unwrap();
        let place = |text: &str| picture.find(text).unwrap();
        assert!(place(">wsguard (C)<") < place(">Bun<") && place(">Bun<") < place(">ws<"));
        assert!(place(">ws<") < place(">wsguard (Rust)<"), "who is absent comes last");
        assert!(picture.contains("Lower is better") && picture.contains("a machine"));
    }
}
