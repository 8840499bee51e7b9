//! The goals of the project that this bench decides, and whether a run met them.

use crate::plan::Beside;
use crate::results::{Cell, Results};
use crate::sample::{Metric, Series};

/// One goal for one of our hosts.
#[derive(Clone, Copy, Debug)]
pub struct Goal {
    /// In words.
    pub what: &'static str,
    figure: Figure,
    most: f64,
}

#[derive(Clone, Copy, Debug)]
enum Figure {
    /// The decisive figure of the first over that of the second, round by round.
    Ratio(Metric, Cell, Cell),
    /// The figure itself.
    Value(Metric, Cell),
    /// One figure over another of the same round.
    Times(Metric, Metric, Cell),
    /// How much more the first is than the second, round by round.
    More(Metric, Cell, Cell),
    /// The figure in the worst round.
    Worst(Metric, Cell),
    /// The largest over the smallest of these workloads.
    Spread(Metric, &'static [&'static str], &'static str),
}

/// What a run says about a goal.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The median over the rounds, the rounds, and whether the median is within the bound.
    Measured(f64, Series, bool),
    /// The workload or a server it needs was left out, or is absent.
    NotMeasured,
}

/// The goals of the bench (issue 7), of the Python and Node faces (issues 5 and 6), of moving in (issue 17), and of compression
/// (issue 18), and of nodes over Redis (issue 19).
pub const GOALS: &[Goal] = &[
    cpu("Rust, 64 B, 1 in flight", "raw-64B", "wsguard-rust", "bun", 0.95),
    cpu("Rust, 64 B, 16 in flight", "raw-64B-16", "wsguard-rust", "bun", 0.65),
    cpu("Rust, 16 KiB", "raw-16KiB", "wsguard-rust", "bun", 0.6),
    Goal {
        what: "Rust, JSON + schema + limits, over its own raw, 1 in flight",
        figure: Figure::Ratio(Metric::CpuUs, ("json-90B", "wsguard-rust"), ("raw-64B", "wsguard-rust")),
        most: 1.15,
    },
    Goal {
        what: "Rust, JSON + schema + limits, µs per message, 16 in flight",
        figure: Figure::Value(Metric::CpuUs, ("json-90B-16", "wsguard-rust")),
        most: 0.6,
    },
    cpu("Rust, refusing a bad Origin", "refusals", "wsguard-rust", "ws-practice", 0.25),
    cpu("Rust, an offender: handshake, bad JSON, drop", "offenders", "wsguard-rust", "ws-practice", 0.12),
    cpu("Rust, handshake", "handshakes", "wsguard-rust", "bun", 1.0),
    cpu("Rust, TLS handshake", "tls-handshakes", "wsguard-rust", "bun", 0.8),
    cpu("Rust, TLS echo, 64 B", "tls-64B", "wsguard-rust", "bun", 1.0),
    cpu("Rust, TLS echo, 16 KiB", "tls-16KiB", "wsguard-rust", "bun", 0.8),
    value("Rust, KiB per idle connection", Metric::UsedKib, "idle", 1.0),
    value("Rust, KiB per idle TLS connection", Metric::UsedKib, "tls-idle", 7.0),
    cpu("Rust, fan-out, per delivery", "fan-out", "wsguard-rust", "bun", 1.0),
    cpu("Rust, fan-out, per delivery", "fan-out", "wsguard-rust", "ws", 0.45),
    beside("Rust, honest p99 beside bad JSON, over quiet", Beside::BadJson),
    beside("Rust, honest p99 beside bad Origin, over quiet", Beside::BadOrigin),
    beside("Rust, honest p99 beside oversize headers, over quiet", Beside::OversizeHead),
    beside("Rust, honest p99 beside pings, over quiet", Beside::Pings),
    beside("Rust, honest p99 beside slowloris, over quiet", Beside::Slowloris),
    Goal {
        what: "Rust, honest connections lost beside any attack",
        figure: Figure::Worst(Metric::HonestLostInAll, ("attacked", "wsguard-rust")),
        most: 0.0,
    },
    Goal {
        what: "Rust, the latest message during a reload of 1 000 events with schemas, ms",
        figure: Figure::Worst(Metric::LatestMs, ("reload", "wsguard-rust")),
        most: 50.0,
    },
    value("Rust, the text of the metrics with all codes, ms", Metric::MetricsMs, "reload", 5.0),
    app("Rust, application thread: what the worst attack adds, % of a core", "wsguard-rust"),
    app("Python, application thread: what the worst attack adds, % of a core", "wsguard-python"),
    app("Node, application thread: what the worst attack adds, % of a core", "wsguard-node"),
    Goal {
        what: "Rust, cost per message from 10 to 10 000 connections, largest over smallest",
        figure: Figure::Spread(
            Metric::CpuUs,
            &["connections-10", "connections-100", "connections-1000", "connections-10000"],
            "wsguard-rust",
        ),
        most: 1.3,
    },
    cpu("Python, 64 B, 1 in flight", "raw-64B", "wsguard-python", "picows", 1.0),
    cpu("Python, 64 B, 16 in flight", "raw-64B-16", "wsguard-python", "picows", 0.12),
    cpu("Python, 16 KiB", "raw-16KiB", "wsguard-python", "picows", 0.95),
    Goal {
        what: "Python, one connection's round trip (p50)",
        figure: Figure::Ratio(Metric::P50Us, ("round-trip", "wsguard-python"), ("round-trip", "picows")),
        most: 1.1,
    },
    cpu("Python, JSON, 1 in flight", "json-90B", "wsguard-python", "websockets-practice", 0.35),
    cpu("Python, JSON, 16 in flight", "json-90B-16", "wsguard-python", "websockets-practice", 0.1),
    cpu("Node, 64 B, 1 in flight", "raw-64B", "wsguard-node", "ws", 0.85),
    cpu("Node, 64 B, 16 in flight", "raw-64B-16", "wsguard-node", "ws", 0.08),
    cpu("Node, 64 B, 16 in flight", "raw-64B-16", "wsguard-node", "bun", 1.05),
    cpu("Node, 16 KiB", "raw-16KiB", "wsguard-node", "ws", 0.5),
    cpu("Node, JSON, 1 in flight", "json-90B", "wsguard-node", "ws-practice", 0.45),
    cpu("Node, JSON, 16 in flight", "json-90B-16", "wsguard-node", "ws-practice", 0.06),
    cpu("an application of ws on wsguard/ws, 64 B, 1 in flight", "moved-ws", "wsguard-ws", "ws-app", 0.7),
    cpu("an application of ws on wsguard/ws, 64 B, 16 in flight", "moved-ws-16", "wsguard-ws", "ws-app", 0.2),
    cpu("Socket.IO on guard(policy), 1 in flight", "moved-socketio", "wsguard-socketio", "socketio", 0.8),
    cpu("FastAPI on wsguard.uvicorn, 64 B, 1 in flight", "moved-fastapi", "wsguard-fastapi", "fastapi", 0.5),
    cpu("FastAPI on wsguard.uvicorn, 64 B, 16 in flight", "moved-fastapi-16", "wsguard-fastapi", "fastapi", 0.3),
    cpu("Rust, 2 KiB of JSON compressed both ways", "deflate-2KiB", "wsguard-rust", "bun", 0.8),
    cpu("Rust, 2 KiB of JSON compressed both ways", "deflate-2KiB", "wsguard-rust", "ws", 0.3),
    Goal {
        what: "Rust, KiB that an idle connection needs more when it is compressed",
        figure: Figure::More(Metric::UsedKib, ("deflate-idle", "wsguard-rust"), ("idle", "wsguard-rust")),
        most: 0.1,
    },
    Goal {
        what: "Rust, a bomb of 1 : 1000 over an honest message of max_message_bytes",
        figure: Figure::Ratio(Metric::CpuUs, ("bombs", "wsguard-rust"), ("largest-messages", "wsguard-rust")),
        most: 1.0,
    },
    Goal {
        what: "Rust, fan-out of 4 KiB, compressed over plain, per delivery",
        figure: Figure::Ratio(Metric::CpuUs, ("deflate-fan-out", "wsguard-rust"), ("fan-out-4KiB", "wsguard-rust")),
        most: 1.15,
    },
    cluster("Rust, a message with limits, as a node over as a server alone", "cluster-echo"),
    cluster("Rust, a room of one node, as a node over as a server alone", "cluster-room"),
    cpu(
        "Rust, delivery to another node, CPU of both",
        "cluster-crossing",
        "wsguard-rust-cluster",
        "socketio-redis",
        0.5,
    ),
    cpu(
        "Node, delivery to another node, CPU of both",
        "cluster-crossing",
        "wsguard-node-cluster",
        "socketio-redis",
        0.5,
    ),
];

const fn cluster(what: &'static str, workload: &'static str) -> Goal {
    let figure = Figure::Ratio(Metric::CpuUs, (workload, "wsguard-rust-cluster"), (workload, "wsguard-rust"));
    Goal { what, figure, most: 1.1 }
}

const fn cpu(what: &'static str, workload: &'static str, ours: &'static str, theirs: &'static str, share: f64) -> Goal {
    Goal { what, figure: Figure::Ratio(Metric::CpuUs, (workload, ours), (workload, theirs)), most: share }
}

const fn value(what: &'static str, metric: Metric, workload: &'static str, most: f64) -> Goal {
    Goal { what, figure: Figure::Value(metric, (workload, "wsguard-rust")), most }
}

const fn beside(what: &'static str, attack: Beside) -> Goal {
    let (attacked, quiet) = (Metric::HonestP99Us(attack), Metric::HonestP99Us(Beside::Nothing));
    Goal { what, figure: Figure::Times(attacked, quiet, ("attacked", "wsguard-rust")), most: 2.0 }
}

const fn app(what: &'static str, server: &'static str) -> Goal {
    Goal { what, figure: Figure::Value(Metric::AppPercentAdded, ("attacked", server)), most: 1.0 }
}

impl Goal {
    /// The bound in words.
    pub fn bound(&self) -> String {
        match self.figure {
            Figure::Ratio(_, _, (_, server)) if !server.starts_with("wsguard") => {
                format!("≤ {} of {server}", self.most)
            }
            _ => format!("≤ {}", self.most),
        }
    }

    /// Holds the medians of a run against the goal.
    pub fn judge(&self, results: &Results) -> Outcome {
        let series = |metric, (workload, server): Cell| results.series(workload, server, metric);
        let figures = match self.figure {
            Figure::Ratio(metric, ours, theirs) => series(metric, ours).over(&series(metric, theirs)),
            Figure::More(metric, this, other) => series(metric, this).beyond(&series(metric, other)),
            Figure::Value(metric, cell) | Figure::Worst(metric, cell) => series(metric, cell),
            Figure::Times(above, below, cell) => series(above, cell).over(&series(below, cell)),
            Figure::Spread(metric, workloads, server) => {
                spread(&workloads.iter().map(|workload| series(metric, (workload, server))).collect::<Vec<_>>())
            }
        };
        let figure = match self.figure {
            Figure::Worst(..) => figures.range().map(|(_, worst)| worst),
            _ => figures.median(),
        };
        figure.map_or(Outcome::NotMeasured, |figure| Outcome::Measured(figure, figures, figure <= self.most))
    }
}

/// Round by round, the largest over the smallest.
fn spread(all: &[Series]) -> Series {
    let rounds = all.iter().map(|series| series.0.len()).min().unwrap_or_default();
    let in_round = |round: usize| Series(all.iter().map(|series| series.0[round]).collect()).range();
    Series((0..rounds).filter_map(in_round).map(|(smallest, largest)| largest / smallest).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::WORKLOADS;
    use crate::sample::Sample;

    fn goal(what: &str) -> &'static Goal {
        GOALS.iter().find(|goal| goal.what == what).unwrap()
    }

    fn results(cells: &[(&'static str, &'static str, Metric, &[f64])]) -> Results {
        let mut results = Results::default();
        for (workload, server, metric, values) in cells {
            for &value in *values {
                results.push(workload, server, Sample::from([(*metric, value)]));
            }
        }
        results
    }

    #[test]
    fn a_ratio_is_the_median_of_the_rounds() {
        let goal = goal("Rust, 64 B, 1 in flight");
        let ours = ("raw-64B", "wsguard-rust", Metric::CpuUs, &[3.0, 2.0, 9.0][..]);
        assert_eq!(goal.judge(&results(&[ours])), Outcome::NotMeasured);
        let theirs = ("raw-64B", "bun", Metric::CpuUs, &[4.0, 4.0, 4.0][..]);
        let outcome = goal.judge(&results(&[ours, theirs]));
        assert_eq!(outcome, Outcome::Measured(0.75, Series(vec![0.75, 0.5, 2.25]), true));
    }

    #[test]
    fn a_lost_connection_in_one_round_is_a_missed_goal() {
        let goal = goal("Rust, honest connections lost beside any attack");
        let rounds = ("attacked", "wsguard-rust", Metric::HonestLostInAll, &[0.0, 1.0, 0.0][..]);
        assert!(matches!(goal.judge(&results(&[rounds])), Outcome::Measured(_, _, false)));
    }

    #[test]
    fn a_spread_is_taken_within_a_round() {
        let series = [Series(vec![1.0, 2.0]), Series(vec![2.0, 3.0]), Series(vec![1.5, 1.0])];
        assert_eq!(spread(&series), Series(vec![2.0, 3.0]));
        assert_eq!(spread(&[]), Series::default());
    }

    #[test]
    fn every_goal_is_about_servers_that_the_plan_measures() {
        for goal in GOALS {
            let cells = match goal.figure {
                Figure::Ratio(_, ours, theirs) | Figure::More(_, ours, theirs) => vec![ours, theirs],
                Figure::Value(_, cell) | Figure::Worst(_, cell) | Figure::Times(_, _, cell) => vec![cell],
                Figure::Spread(_, workloads, server) => workloads.iter().map(|name| (*name, server)).collect(),
            };
            for (name, server) in cells {
                let workload = WORKLOADS.iter().find(|workload| workload.name == name);
                assert!(workload.is_some_and(|workload| workload.servers.contains(&server)), "{}", goal.what);
            }
        }
    }
}
