//! The Markdown that the results become.

use std::fmt::Write;

use crate::candidates::CANDIDATES;
use crate::goals::{GOALS, Outcome};
use crate::machine::Fact;
use crate::plan::{BESIDE, Load, Offence, Workload};
use crate::results::Results;
use crate::sample::{Metric, Series};

/// A column of a table: heading, figure, decimals.
type Column = (&'static str, Metric, usize);

const HEAD: &str = "# Side by side

Written by `bench`; how to read it is in [README.md](README.md). **Lower is better**, unless a column is per second. Figures
are medians over the rounds; a ratio is the median of the rounds' own ratios, with its lowest and highest.

";

/// How a reader measures again.
pub const COMMAND: &str = "cargo run --release --locked -p wsguard-bench --bin bench --";

const MESSAGE_COLUMNS: &[Column] = &[
    ("messages/s", Metric::PerSecond, 0),
    ("p50 µs", Metric::P50Us, 0),
    ("p99 µs", Metric::P99Us, 0),
    ("server busy %", Metric::BusyPercent, 0),
    ("resident MiB", Metric::ResidentMib, 1),
];
const ROUND_TRIP_COLUMNS: &[Column] = &[
    ("p99 µs", Metric::P99Us, 1),
    ("p99.9 µs", Metric::P999Us, 1),
    ("CPU µs per message", Metric::CpuUs, 2),
    ("server busy %", Metric::BusyPercent, 0),
];
const HANDSHAKE_COLUMNS: &[Column] = &[
    ("application thread µs", Metric::AppCpuUs, 1),
    ("per second", Metric::PerSecond, 0),
    ("p50 µs", Metric::P50Us, 0),
    ("p99 µs", Metric::P99Us, 0),
    ("server busy %", Metric::BusyPercent, 0),
    ("resident MiB", Metric::ResidentMib, 1),
];
const CROSSING_COLUMNS: &[Column] = &[
    ("Redis µs", Metric::RedisCpuUs, 2),
    ("messages/s", Metric::PerSecond, 0),
    ("p50 µs", Metric::P50Us, 0),
    ("p99 µs", Metric::P99Us, 0),
    ("servers busy %", Metric::BusyPercent, 0),
    ("resident MiB of both", Metric::ResidentMib, 1),
];
const IDLE_COLUMNS: &[Column] = &[("never used", Metric::FreshKib, 2), ("resident MiB in all", Metric::ResidentMib, 1)];

const RELOAD_COLUMNS: &[Column] =
    &[("reload answered, ms", Metric::ReloadMs, 1), ("text of the metrics, ms", Metric::MetricsMs, 2)];

/// The whole report.
///
/// `why` is written by hand: what the time goes to where a goal is missed.
pub fn report(results: &Results, facts: &[Fact], plots: &[&str], why: &str) -> String {
    let mut out = String::from(HEAD);
    for Fact { about, value } in facts {
        let _ = writeln!(out, "- {about}: {value}");
    }
    for file in plots {
        let _ = write!(out, "\n![{}](plots/{file})\n", file.trim_end_matches(".svg"));
    }
    let (goals, details) = (goals(results), details(results));
    let _ = write!(out, "{}\n## Goals\n\n{goals}\n{why}\n## Figures\n\n{details}", absences(results));
    out
}

/// Whom the run did without, and why.
fn absences(results: &Results) -> String {
    if results.absences.is_empty() {
        return String::new();
    }
    let mut out = String::from("\n## Absent\n\n");
    for (server, why) in &results.absences {
        let _ = writeln!(out, "- **{server}**: {why}");
    }
    out
}

/// The goals and whether they are met.
pub fn goals(results: &Results) -> String {
    let mut out = String::new();
    line(&mut out, &["goal", "bound", "measured", "lowest – highest", ""]);
    line(&mut out, &["---", "---", "--:", "--:", "---"]);
    for goal in GOALS {
        let (figure, range, verdict) = match goal.judge(results) {
            Outcome::Measured(figure, rounds, is_met) => {
                (format!("{figure:.2}"), range(&rounds, 2), if is_met { "met" } else { "**missed**" })
            }
            Outcome::NotMeasured => ("–".to_owned(), "–".to_owned(), "not measured"),
        };
        line(&mut out, &[goal.what, &goal.bound(), &figure, &range, verdict]);
    }
    out
}

/// All figures of each workload.
pub fn details(results: &Results) -> String {
    let mut out = String::new();
    for workload in results.workloads() {
        let (name, what) = (workload.name, workload.describe());
        let _ = writeln!(out, "### {name}\n\n{what}. Alone: `{COMMAND} --only {name}`\n");
        match workload.load {
            Load::Attacked => attacked(&mut out, results, workload),
            _ => table(&mut out, results, workload),
        }
        out.push('\n');
    }
    out
}

fn table(out: &mut String, results: &Results, workload: &Workload) {
    let (heading, metric, decimals) = decisive(workload);
    let columns = further(workload);
    let ratio = format!("× {}", workload.yardstick);
    let mut headings = vec!["server", heading, "lowest – highest", &ratio, "lowest – highest"];
    headings.extend(columns.iter().map(|(heading, ..)| *heading));
    line(out, &headings);
    line(out, &[&["---"], &vec!["--:"; headings.len() - 1][..]].concat());
    let yardstick = results.series(workload.name, workload.yardstick, metric);
    for server in servers(workload) {
        let Some(rounds) = results.rounds(workload.name, server) else {
            empty_row(out, results, workload, server, headings.len());
            continue;
        };
        let figures = rounds.series(metric);
        let ratios = figures.over(&yardstick);
        let mut cells = vec![in_bold_if_ours(server), figure(figures.median(), decimals), range(&figures, decimals)];
        cells.extend([figure(ratios.median(), 2), range(&ratios, 2)]);
        cells.extend(columns.iter().map(|(_, metric, decimals)| figure(rounds.median(*metric), *decimals)));
        line(out, &cells);
    }
}

/// What attacks do to honest clients: a row per server and attack.
fn attacked(out: &mut String, results: &Results, workload: &Workload) {
    let headings = [
        "server",
        "beside",
        "honest p50 µs",
        "honest p99 µs",
        "p99 × quiet",
        "honest lost",
        "application thread %",
        "server busy %",
        "acts/s",
    ];
    line(out, &headings);
    line(out, &[&["---", "---"], &["--:"; 7][..]].concat());
    for server in servers(workload) {
        let Some(rounds) = results.rounds(workload.name, server) else {
            empty_row(out, results, workload, server, headings.len());
            continue;
        };
        let quiet = rounds.series(Metric::HonestP99Us(BESIDE[0]));
        for &beside in BESIDE {
            let times = rounds.series(Metric::HonestP99Us(beside)).over(&quiet);
            let lost = rounds.series(Metric::HonestLost(beside)).range().map(|(_, most)| most);
            let mut cells = vec![in_bold_if_ours(server), beside.describe().to_owned()];
            cells.push(figure(rounds.median(Metric::HonestP50Us(beside)), 0));
            cells.push(figure(rounds.median(Metric::HonestP99Us(beside)), 0));
            cells.push(format!("{} ({})", figure(times.median(), 2), range(&times, 2)));
            cells.push(figure(lost, 0));
            cells.push(figure(rounds.median(Metric::AppPercent(beside)), 1));
            cells.push(figure(rounds.median(Metric::ServerPercent(beside)), 0));
            cells.push(figure(rounds.median(Metric::ActsPerSecond(beside)), 0));
            line(out, &cells);
        }
    }
}

/// The row of a server without figures, if it was asked for.
fn empty_row(out: &mut String, results: &Results, workload: &Workload, server: &str, columns: usize) {
    let Some(why) = results.reason(workload.name, server) else { return };
    let mut cells = vec![in_bold_if_ours(server), why];
    cells.resize(columns, String::new());
    line(out, &cells);
}

/// The servers of a workload, in the order of the candidates.
fn servers(workload: &Workload) -> impl Iterator<Item = &'static str> {
    CANDIDATES.iter().map(|candidate| candidate.name).filter(|name| workload.servers.contains(name))
}

fn in_bold_if_ours(server: &str) -> String {
    if server.starts_with("wsguard") { format!("**{server}**") } else { server.to_owned() }
}

/// The figure that a workload is measured for; lower is better in all of them.
pub fn decisive(workload: &Workload) -> Column {
    match workload.load {
        Load::Echo { connections: 1, .. } => ("p50 µs", Metric::P50Us, 1),
        Load::Echo { .. } => ("CPU µs per message", Metric::CpuUs, 3),
        Load::Idle { .. } => ("KiB per connection, after one echo", Metric::UsedKib, 2),
        Load::Handshakes { .. } => ("CPU µs per handshake", Metric::CpuUs, 1),
        Load::Offences { offence: Offence::None, .. } => ("CPU µs per client", Metric::CpuUs, 1),
        Load::Offences { .. } => ("CPU µs per offender", Metric::CpuUs, 1),
        Load::FanOut { .. } | Load::Crossing { .. } => ("CPU µs per delivery", Metric::CpuUs, 3),
        Load::Attacked => ("honest p99 µs, quiet", Metric::HonestP99Us(BESIDE[0]), 0),
        Load::Reload { .. } => ("latest message, ms", Metric::LatestMs, 1),
    }
}

fn further(workload: &Workload) -> &'static [Column] {
    match workload.load {
        Load::Crossing { .. } => CROSSING_COLUMNS,
        Load::Echo { connections: 1, .. } => ROUND_TRIP_COLUMNS,
        Load::Echo { .. } | Load::FanOut { .. } | Load::Attacked => MESSAGE_COLUMNS,
        Load::Idle { .. } => IDLE_COLUMNS,
        Load::Reload { .. } => RELOAD_COLUMNS,
        Load::Handshakes { .. } | Load::Offences { .. } => HANDSHAKE_COLUMNS,
    }
}

fn figure(value: Option<f64>, decimals: usize) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.decimals$}"))
}

fn range(series: &Series, decimals: usize) -> String {
    let range = series.range();
    range.map_or_else(|| "–".to_owned(), |(lowest, highest)| format!("{lowest:.decimals$} – {highest:.decimals$}"))
}

fn line(out: &mut String, cells: &[impl AsRef<str>]) {
    for cell in cells {
        out.push_str("| ");
        out.push_str(cell.as_ref());
        out.push(' ');
    }
    out.push_str("|\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Sample;

    #[test]
    fn a_row_has_the_figure_its_ratio_and_their_ranges() {
        let mut results = Results::default();
        for (ours, theirs) in [(3.0, 8.0), (5.0, 8.0), (4.0, 4.0)] {
            results.push("raw-64B", "wsguard-rust", Sample::from([(Metric::CpuUs, ours)]));
            results.push("raw-64B", "bun", Sample::from([(Metric::CpuUs, theirs)]));
        }
        let details = details(&results);
        assert!(details.contains("| **wsguard-rust** | 4.000 | 3.000 – 5.000 | 0.62 | 0.38 – 1.00 |"), "{details}");
        assert!(details.contains("| bun | 8.000 | 4.000 – 8.000 | 1.00 | 1.00 – 1.00 |"), "{details}");
        assert!(goals(&results).contains("| ≤ 0.95 of bun | 0.62 | 0.38 – 1.00 | met |"));
    }

    #[test]
    fn who_is_absent_has_a_row_that_says_why() {
        let mut results = Results::default();
        results.push("raw-64B", "bun", Sample::from([(Metric::CpuUs, 1.0)]));
        results.absences.insert("socketify", "libuv1 is missing".to_owned());
        let report = report(&results, &[], &[], "");
        assert!(report.contains("| socketify | absent: libuv1 is missing |"), "{report}");
        assert!(!report.contains("| **wsguard-rust** |"), "it was not asked for");
        assert!(report.contains("- **socketify**: libuv1 is missing"));
    }
}
