//! The results of a run, and the Markdown they become.

use std::fmt::Write;

use crate::goals::{GOALS, Outcome};
use crate::machine::Fact;
use crate::plan::{CANDIDATES, Load, OURS, WORKLOADS, Workload, YARDSTICK};
use crate::sample::{Metric, Rounds, Sample};

/// Everything that was measured.
#[derive(Debug, Default)]
pub struct Results(Vec<(&'static str, &'static str, Rounds)>);

/// A column of a table: heading, figure, decimals.
type Column = (&'static str, Metric, usize);

const HEAD: &str = "# Side by side

Written by `bench`; how to read it is in [README.md](README.md). Lower is better, unless it is per second. All figures are
medians over the rounds; ratios (×) are to fastwebsockets.

";

const MESSAGE_COLUMNS: &[Column] = &[
    ("messages/s", Metric::PerSecond, 0),
    ("p50 µs", Metric::P50Us, 0),
    ("p99 µs", Metric::P99Us, 0),
    ("server busy %", Metric::BusyPercent, 0),
    ("resident MiB", Metric::ResidentMib, 1),
];
const HANDSHAKE_COLUMNS: &[Column] = &[
    ("handshakes/s", Metric::PerSecond, 0),
    ("p50 µs", Metric::P50Us, 0),
    ("p99 µs", Metric::P99Us, 0),
    ("server busy %", Metric::BusyPercent, 0),
    ("resident MiB", Metric::ResidentMib, 1),
];
const IDLE_COLUMNS: &[Column] =
    &[("KiB each after one echo", Metric::UsedKib, 2), ("resident MiB in all", Metric::ResidentMib, 1)];

impl Results {
    /// Adds a round.
    pub fn push(&mut self, workload: &'static str, candidate: &'static str, sample: Sample) {
        let same = |(w, c, _): &&mut (&str, &str, Rounds)| (*w, *c) == (workload, candidate);
        if let Some((.., rounds)) = self.0.iter_mut().find(same) {
            rounds.push(sample);
        } else {
            let mut rounds = Rounds::default();
            rounds.push(sample);
            self.0.push((workload, candidate, rounds));
        }
    }

    /// The median of a figure, if it was measured.
    pub fn median(&self, workload: &str, candidate: &str, metric: Metric) -> Option<f64> {
        self.rounds(workload, candidate)?.median(metric)
    }

    fn rounds(&self, workload: &str, candidate: &str) -> Option<&Rounds> {
        self.0.iter().find(|(w, c, _)| (*w, *c) == (workload, candidate)).map(|(.., rounds)| rounds)
    }

    /// The whole report.
    pub fn report(&self, facts: &[Fact]) -> String {
        let mut out = String::from(HEAD);
        for Fact { about, value } in facts {
            let _ = writeln!(out, "- {about}: {value}");
        }
        let (goals, overview, details) = (self.goals(), self.overview(), self.details());
        let _ = write!(out, "\n## Goals\n\n{goals}\n## Overview\n\n{overview}\n## All figures\n\n{details}");
        out
    }

    /// The goals and whether they are met.
    pub fn goals(&self) -> String {
        let mut out = format!("| goal for {OURS} | bound | measured | |\n|---|---|--:|---|\n");
        for goal in GOALS {
            let (figure, verdict) = match goal.judge(self) {
                Outcome::Measured(figure, true) => (format!("{figure:.2}"), "met"),
                Outcome::Measured(figure, false) => (format!("{figure:.2}"), "**missed**"),
                Outcome::NotMeasured => ("–".to_owned(), "not measured"),
            };
            line(&mut out, &[goal.what, &goal.bound(), &figure, verdict]);
        }
        out
    }

    /// One row per workload, one column per candidate: the decisive figure, and its ratio to the yardstick.
    pub fn overview(&self) -> String {
        let measured = |name: &str| self.0.iter().any(|(_, candidate, _)| *candidate == name);
        let names: Vec<_> = CANDIDATES.iter().map(|candidate| candidate.name).filter(|name| measured(name)).collect();
        let mut out = String::new();
        line(&mut out, &[&["", "decisive figure"], &names[..]].concat());
        line(&mut out, &[&["---", "---"], &vec!["--:"; names.len()][..]].concat());
        for workload in self.workloads() {
            let (heading, metric, decimals) = decisive(workload);
            let mut cells = vec![workload.name.to_owned(), heading.to_owned()];
            cells.extend(names.iter().map(|name| match self.median(workload.name, name, metric) {
                Some(median) => format!("{median:.decimals$}{}", self.ratio_in_words(workload, name)),
                None => "–".to_owned(),
            }));
            line(&mut out, &cells);
        }
        out
    }

    /// All figures of each workload.
    pub fn details(&self) -> String {
        let mut out = String::new();
        for workload in self.workloads() {
            let _ = writeln!(out, "### {}\n\n{}\n", workload.name, workload.describe());
            out += &self.table(workload);
            out.push('\n');
        }
        out
    }

    fn table(&self, workload: &Workload) -> String {
        let (heading, metric, decimals) = decisive(workload);
        let columns = further(workload);
        let mut out = String::new();
        let headings = columns.iter().map(|(heading, ..)| *heading);
        line(
            &mut out,
            &["server", heading, "lowest – highest", "ratio"].into_iter().chain(headings).collect::<Vec<_>>(),
        );
        line(&mut out, &[&["---"], &vec!["--:"; columns.len() + 3][..]].concat());
        for candidate in CANDIDATES {
            let Some(rounds) = self.rounds(workload.name, candidate.name) else { continue };
            let number = |(_, metric, decimals): &Column| figure(rounds.median(*metric), *decimals);
            let range = rounds
                .range(metric)
                .map_or_else(String::new, |(lowest, highest)| format!("{lowest:.decimals$} – {highest:.decimals$}"));
            let mut cells = vec![candidate.name.to_owned(), figure(rounds.median(metric), decimals), range];
            cells.push(figure(self.ratio(workload, candidate.name), 2));
            cells.extend(columns.iter().map(number));
            line(&mut out, &cells);
        }
        out
    }

    fn workloads(&self) -> impl Iterator<Item = &'static Workload> {
        WORKLOADS.iter().filter(|workload| self.0.iter().any(|(name, ..)| *name == workload.name))
    }

    /// The decisive figure over the yardstick's.
    fn ratio(&self, workload: &Workload, candidate: &str) -> Option<f64> {
        let (_, metric, _) = decisive(workload);
        Some(self.median(workload.name, candidate, metric)? / self.median(workload.name, YARDSTICK, metric)?)
    }

    fn ratio_in_words(&self, workload: &Workload, candidate: &str) -> String {
        self.ratio(workload, candidate).map_or_else(String::new, |ratio| format!(" ({ratio:.2}×)"))
    }
}

/// The figure that a workload is measured for; lower is better in all of them.
fn decisive(workload: &Workload) -> Column {
    match workload.load {
        Load::Echo { .. } => ("CPU µs per message", Metric::CpuUs, 3),
        Load::Idle { .. } => ("KiB per connection", Metric::FreshKib, 2),
        Load::Handshakes { .. } => ("CPU µs per handshake", Metric::CpuUs, 1),
    }
}

fn further(workload: &Workload) -> &'static [Column] {
    match workload.load {
        Load::Echo { .. } => MESSAGE_COLUMNS,
        Load::Idle { .. } => IDLE_COLUMNS,
        Load::Handshakes { .. } => HANDSHAKE_COLUMNS,
    }
}

fn figure(value: Option<f64>, decimals: usize) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.decimals$}"))
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

    #[test]
    fn ratios_refer_to_the_yardstick() {
        let mut results = Results::default();
        results.push("raw-64B", OURS, Sample::from([(Metric::CpuUs, 3.0)]));
        results.push("raw-64B", OURS, Sample::from([(Metric::CpuUs, 5.0)]));
        results.push("raw-64B", YARDSTICK, Sample::from([(Metric::CpuUs, 8.0)]));
        results.push("json-90B", OURS, Sample::from([(Metric::CpuUs, 2.0)]));
        let overview = results.overview();
        assert!(overview.contains("| raw-64B | CPU µs per message | 4.000 (0.50×) | 8.000 (1.00×) |"), "{overview}");
        assert!(overview.contains("| json-90B | CPU µs per message | 2.000 | – |"), "{overview}");
        assert!(results.details().contains("3.000 – 5.000"));
        assert!(results.goals().contains("| 0.50 | met |"));
    }
}
