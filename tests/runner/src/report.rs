//! Counting verdicts: the closing line, the table of threats, and the asserted number of skips.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use wsguard_test_support::outcome::{Failure, Outcome};

use crate::scenario::Case;
use crate::step::misread;

/// How one job ended.
#[derive(Debug, Clone)]
pub(crate) enum Verdict {
    Passed,
    Failed(Failure),
    Skipped(String),
}

#[derive(Debug, Default)]
struct Count {
    passed: usize,
    run: usize,
}

/// All verdicts of a run.
#[derive(Debug, Default)]
pub(crate) struct Report {
    passed: usize,
    failed: usize,
    skipped: BTreeMap<String, usize>,
    /// Threat id → names of its cases, and host → count over both transports.
    threats: BTreeMap<ThreatId, (BTreeSet<String>, BTreeMap<String, Count>)>,
    hosts: BTreeSet<String>,
    times: Vec<(Duration, String)>,
}

/// `H2` sorts before `H10`.
type ThreatId = (String, u32);

fn threat_id(text: &str) -> ThreatId {
    let digits = text.find(|c: char| c.is_ascii_digit()).unwrap_or(text.len());
    (text[..digits].to_owned(), text[digits..].parse().unwrap_or(0))
}

impl Report {
    pub(crate) fn add(&mut self, case: &Case, host: &str, transport: &str, verdict: &Verdict, took: Duration) {
        self.times.push((took, format!("{host} over {transport}: {}", case.name)));
        self.hosts.insert(host.to_owned());
        let passed = match verdict {
            Verdict::Skipped(_) => {
                *self.skipped.entry(host.to_owned()).or_default() += 1;
                return;
            }
            Verdict::Passed => true,
            Verdict::Failed(_) => false,
        };
        self.passed += usize::from(passed);
        self.failed += usize::from(!passed);
        for threat in &case.threats {
            let (names, hosts) = self.threats.entry(threat_id(threat)).or_default();
            names.insert(case.name.clone());
            let count = hosts.entry(host.to_owned()).or_default();
            count.run += 1;
            count.passed += usize::from(passed);
        }
    }

    pub(crate) fn failed(&self) -> usize {
        self.failed
    }

    pub(crate) fn closing_line(&self) -> String {
        let skipped: usize = self.skipped.values().sum();
        format!("{} passed, {} failed, {skipped} skipped", self.passed, self.failed)
    }

    /// Markdown: a threat id, its scenarios, and for each host how many runs (plain and TLS) passed.
    pub(crate) fn table(&self) -> String {
        let mut out = String::from("| threat | scenarios |");
        for host in &self.hosts {
            let _ = write!(out, " {host} |");
        }
        let _ = writeln!(out, "\n|---|---|{}", "---|".repeat(self.hosts.len()));
        for ((kind, number), (names, hosts)) in &self.threats {
            let number = if *number == 0 { String::new() } else { number.to_string() };
            let _ = write!(out, "| {kind}{number} | {} |", names.len());
            for host in &self.hosts {
                match hosts.get(host) {
                    Some(count) if count.passed == count.run => {
                        let _ = write!(out, " {} pass |", count.run);
                    }
                    Some(count) => {
                        let _ = write!(out, " **{} of {} fail** |", count.run - count.passed, count.run);
                    }
                    None => out.push_str(" – |"),
                }
            }
            out.push('\n');
        }
        out
    }

    /// The slowest jobs, to keep the suite quick.
    pub(crate) fn slowest(&self, count: usize) -> String {
        let mut times = self.times.clone();
        times.sort_by(|a, b| b.cmp(a));
        let lines: Vec<String> =
            times.iter().take(count).map(|(took, name)| format!("{:6} ms  {name}", took.as_millis())).collect();
        lines.join("\n") + "\n"
    }

    /// Compares with the checked-in numbers in `SKIPS`.
    pub(crate) fn skips_are_expected(&self, scenarios: &Path, hosts: &[&str]) -> Outcome<bool> {
        let text = std::fs::read_to_string(scenarios.join("SKIPS"))?;
        let expected: BTreeMap<String, usize> = toml::from_str(&text).map_err(misread)?;
        let mut right = true;
        for host in hosts {
            let expected = expected.get(*host).copied().unwrap_or(0);
            let skipped = self.skipped.get(*host).copied().unwrap_or(0);
            if expected != skipped {
                println!("FAILED {host}: {skipped} skips, tests/scenarios/SKIPS says {expected}");
                right = false;
            }
        }
        Ok(right)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threat_ids_sort_by_number() {
        assert!(threat_id("H2") < threat_id("H10"));
        assert_eq!(threat_id("options"), ("options".into(), 0));
    }
}
