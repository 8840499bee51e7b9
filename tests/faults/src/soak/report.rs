//! What one server's life came to, as a table, and whether that is good enough. No socket and no process here.

use std::collections::BTreeMap;
use std::fmt::{self, Display};

use serde_json::Value;

use crate::tally::Tally;

/// What `stats` tells that only grows; everything else there is a gauge.
const COUNTERS: [&str; 9] = [
    "messages_in",
    "bytes_in",
    "bytes_out",
    "messages_compressed_in",
    "bytes_inflated",
    "messages_compressed_out",
    "messages_left_plain",
    "compression_saved_bytes",
    "cluster_dropped",
];

/// Whether a node has its Redis is no gauge.
const STATES: [&str; 2] = ["generation", "cluster_up"];

/// The gauges that are not 0.
pub(crate) fn gauges(stats: &Value) -> BTreeMap<String, u64> {
    let Some(stats) = stats.as_object() else { return BTreeMap::new() };
    let gauge = |name: &String| {
        !COUNTERS.contains(&name.as_str()) && !STATES.contains(&name.as_str()) && !name.ends_with("_total")
    };
    let numbers = stats.iter().filter_map(|(name, value)| Some((name.clone(), value.as_u64()?)));
    numbers.filter(|(name, value)| gauge(name) && *value > 0).collect()
}

/// Resident memory, in KiB.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory {
    /// After the first client.
    pub(crate) start: u64,
    /// The most in each quarter of the time.
    pub(crate) quarters: [u64; 4],
    /// After everybody has left.
    pub(crate) end: u64,
}

impl Memory {
    /// Two quarters differ in what the dice let be open together. Every attacker may have a crowd, which holds a hundred
    /// connections of up to 32 KiB each (the bound of `two-thousand-over-tls`); that two of the six meet in one quarter
    /// and not in the other is common, more is not. An allocator that has grown to its working set adds a little.
    const CHANCE: u64 = 2 * 100 * 32;

    /// Enters what was in use when `share` of the time was over.
    pub(crate) fn sample(&mut self, share: f64, kib: u64) {
        let quarter = (share * 4.0).clamp(0.0, 3.0) as usize;
        self.quarters[quarter] = self.quarters[quarter].max(kib);
    }

    /// What the last quarter may reach: the second's most, a twentieth, and what chance makes of it. The first quarter
    /// is left out, for the working set has yet to be built up.
    fn bound(&self) -> u64 {
        self.quarters[1] + self.quarters[1] / 20 + Self::CHANCE
    }

    fn fault(&self) -> Option<String> {
        if self.quarters.contains(&0) {
            return Some("memory was not read in every quarter of the time".into());
        }
        let (last, bound) = (self.quarters[3], self.bound());
        (last > bound).then(|| format!("memory grows: {} in the last quarter, {} may be", mib(last), mib(bound)))
    }
}

fn mib(kib: u64) -> String {
    format!("{:.1} MiB", kib as f64 / 1024.0)
}

/// One server's life.
#[derive(Debug)]
pub(crate) struct Report {
    host: String,
    policy: &'static str,
    seed: u64,
    pub(crate) minutes: f64,
    pub(crate) memory: Memory,
    /// What gauges are above 0 after everybody has left.
    pub(crate) gauges: BTreeMap<String, u64>,
    /// The most that was read of each while all were at work.
    peaks: BTreeMap<String, u64>,
    /// Before the first guest and after the last.
    pub(crate) descriptors: (usize, usize),
    /// What the server counted.
    pub(crate) verdicts: Value,
    echoes: u64,
    said: u64,
    handshakes: u64,
    /// What must be 0, with its name.
    never: [(&'static str, u64); 5],
    attacks: BTreeMap<&'static str, u64>,
    commands: BTreeMap<&'static str, u64>,
    notes: Vec<String>,
    /// What ended it early.
    broken: Vec<String>,
}

impl Report {
    pub(crate) fn new(host: &str, policy: &'static str, seed: u64) -> Self {
        Self {
            host: host.to_owned(),
            policy,
            seed,
            minutes: 0.0,
            memory: Memory::default(),
            gauges: BTreeMap::new(),
            peaks: BTreeMap::new(),
            descriptors: (0, 0),
            verdicts: Value::Null,
            echoes: 0,
            said: 0,
            handshakes: 0,
            never: [("", 0); 5],
            attacks: BTreeMap::new(),
            commands: BTreeMap::new(),
            notes: Vec::new(),
            broken: Vec::new(),
        }
    }

    /// It could not be lived to its end.
    pub(crate) fn fault(&mut self, what: impl Display) {
        self.broken.push(what.to_string());
    }

    /// What the gauges are while all are at work.
    pub(crate) fn see(&mut self, gauges: &BTreeMap<String, u64>) {
        for (name, value) in gauges {
            let peak = self.peaks.entry(name.clone()).or_default();
            *peak = (*peak).max(*value);
        }
    }

    /// Takes over what was counted.
    pub(crate) fn take(&mut self, tally: &Tally) {
        self.echoes = tally.echoes.now();
        self.said = tally.said.now();
        self.handshakes = tally.handshakes.now();
        self.never = [
            ("honest losses", tally.lost.now()),
            ("out of order", tally.disorder.now()),
            ("foreign bytes", tally.foreign.now()),
            ("refused honest handshakes", tally.refused.now()),
            ("attacks let through", tally.let_through.now()),
        ];
        self.attacks = tally.attacks();
        self.commands = tally.commands();
        self.notes = tally.notes();
    }

    /// Everything that must not be; nothing when all is well.
    pub(crate) fn faults(&self) -> Vec<String> {
        let mut faults = self.broken.clone();
        faults
            .extend(self.never.iter().filter(|(_, count)| *count > 0).map(|(name, count)| format!("{name}: {count}")));
        if !self.broken.is_empty() {
            return faults;
        }
        if self.echoes == 0 || self.said == 0 || self.attacks.is_empty() {
            faults.push("nothing happened".into());
        }
        faults.extend(self.gauges.iter().map(|(name, value)| format!("{name} is {value} after everybody has left")));
        let (before, after) = self.descriptors;
        if after > before {
            faults.push(format!("{before} descriptors at the start, {after} at the end"));
        }
        faults.extend(self.memory.fault());
        faults
    }
}

/// `name n, name n, …`
fn list<'a, K: Display + 'a, V: Display + 'a>(counts: impl IntoIterator<Item = (K, V)>) -> String {
    let words = counts.into_iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>();
    if words.is_empty() { "none".into() } else { words.join(", ") }
}

impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut row = |name: &str, value: &str| writeln!(f, "  {name:26} {value}");
        row("host", &format!("{}, {}, seed {}", self.host, self.policy, self.seed))?;
        row("minutes", &format!("{:.1}", self.minutes))?;
        row("honest echoes", &self.echoes.to_string())?;
        row("honest room messages", &self.said.to_string())?;
        row("honest handshakes", &self.handshakes.to_string())?;
        for (name, count) in self.never {
            row(name, &count.to_string())?;
        }
        row("attacks", &format!("{}: {}", self.attacks.values().sum::<u64>(), list(&self.attacks)))?;
        row("commands", &list(&self.commands))?;
        let verdicts = self.verdicts.as_object().into_iter().flatten().filter(|(_, count)| **count != 0);
        row("verdicts", &list(verdicts))?;
        let Memory { start, quarters, end } = &self.memory;
        let quarters = quarters.map(mib).join(", ");
        row("memory", &format!("start {}, quarters {quarters}, end {}", mib(*start), mib(*end)))?;
        row("gauges at most", &list(&self.peaks))?;
        row("descriptors", &format!("start {}, end {}", self.descriptors.0, self.descriptors.1))?;
        row("gauges left", &list(&self.gauges))?;
        for note in &self.notes {
            row("note", note)?;
        }
        let faults = self.faults();
        for fault in &faults {
            row("FAIL", fault)?;
        }
        row("verdict", if faults.is_empty() { "ok" } else { "failed" })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn good() -> Report {
        let tally = Tally::default();
        tally.echoes.add(1000);
        tally.said.add(100);
        tally.attack("crowd");
        let mut report = Report::new("rust", "tokens", 1);
        report.descriptors = (20, 20);
        report.memory = Memory { start: 8000, quarters: [9000, 16_000, 16_500, 17_000], end: 9000 };
        report.take(&tally);
        report
    }

    #[test]
    fn a_good_life_has_no_fault() {
        assert_eq!(good().faults(), Vec::<String>::new());
        assert!(good().to_string().ends_with("ok\n"));
    }

    #[test]
    fn each_count_that_must_be_zero_fails() {
        let counts: [fn(&Tally); 5] = [
            |t| t.lost.add(1),
            |t| t.disorder.add(1),
            |t| t.foreign.add(1),
            |t| t.refused.add(1),
            |t| {
                t.let_through.add(1);
            },
        ];
        for count in counts {
            let tally = Tally::default();
            tally.echoes.add(1);
            tally.said.add(1);
            tally.attack("crowd");
            count(&tally);
            let mut report = good();
            report.take(&tally);
            assert_eq!(report.faults().len(), 1, "{:?}", report.faults());
        }
    }

    #[test]
    fn what_is_left_fails() {
        let fails = |change: fn(&mut Report)| {
            let mut report = good();
            change(&mut report);
            report.faults().len()
        };
        assert_eq!(fails(|report| report.gauges = gauges(&json!({"open": 1}))), 1);
        assert_eq!(fails(|report| report.descriptors = (20, 21)), 1);
        assert_eq!(fails(|report| report.memory.quarters[3] = 30_000), 1);
        assert_eq!(fails(|report| report.memory.quarters[2] = 0), 1, "a quarter without a sample proves nothing");
        assert_eq!(fails(|report| report.take(&Tally::default())), 1, "nothing happened");
        assert_eq!(fails(|report| report.fault("the process is gone")), 1);
    }

    #[test]
    fn gauges_are_whatever_is_not_known_to_grow() {
        let stats = json!({"type": "stats", "open": 0, "delayed": 2, "rooms": 1, "opened_total": 9, "messages_in": 9,
            "bytes_in": 9, "bytes_out": 9, "bytes_inflated": 9, "cluster_up": 1, "cluster_dropped": 9, "verdicts": {"internal": 3}});
        assert_eq!(gauges(&stats), [("delayed".to_owned(), 2), ("rooms".to_owned(), 1)].into());
    }

    #[test]
    fn samples_fall_into_their_quarter() {
        let mut memory = Memory::default();
        for (share, kib) in [(0.0, 5), (0.24, 4), (0.25, 6), (0.5, 7), (0.99, 8), (1.2, 9)] {
            memory.sample(share, kib);
        }
        assert_eq!(memory.quarters, [5, 6, 7, 9]);
    }
}
