//! What the audit tells: for people, for programs, and as the document of all checks.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::checks::{ASVS, CHECKS, Check};
use super::limits::Budget;
use super::mends::{LIBRARIES, Topic};
use super::ruling::{Ruling, Severity, Verdict};
use super::text::{self, Redactor};
use crate::reach::Target;

/// The results of an audit.
pub(crate) struct Report {
    /// The URL without its query, and the addresses.
    pub(crate) target: String,
    pub(crate) addresses: Vec<String>,
    pub(crate) plan: Budget,
    pub(crate) seconds: f64,
    pub(crate) results: Vec<(&'static Check, Ruling)>,
    pub(crate) redactor: Redactor,
}

/// What will be sent, before anything is.
pub(crate) fn plan(
    target: &Target,
    addresses: &[String],
    checks: &[&Check],
    budget: Budget,
    rate: f64,
    patience: u64,
) -> String {
    let mut out = format!("wsguard audit of {target} ({})\n", addresses.join(", "));
    let _ = writeln!(
        out,
        "at most {} connections ({rate} a second; 50 a second for connection-burst), {} both ways, {} s where nothing answers; \
         unfinished requests are held for {patience} s",
        budget.connections,
        text::bytes(budget.bytes),
        budget.seconds,
    );
    for check in checks {
        let _ = writeln!(out, "  {:<20} {}", check.name, check.sends);
    }
    out
}

impl Report {
    fn with(&self, verdict: impl Fn(Verdict) -> bool) -> impl Iterator<Item = &(&'static Check, Ruling)> {
        self.results.iter().filter(move |(_, ruling)| verdict(ruling.verdict))
    }

    /// Findings, the worst first.
    fn findings(&self) -> Vec<(Severity, &'static Check, &Ruling)> {
        let all = self.results.iter().filter_map(|(check, ruling)| match ruling.verdict {
            Verdict::Finding(severity) => Some((severity, *check, ruling)),
            _ => None,
        });
        let mut all: Vec<_> = all.collect();
        all.sort_by_key(|(severity, ..)| std::cmp::Reverse(*severity));
        all
    }

    /// Whether something is as bad as this, or worse.
    pub(crate) fn has(&self, severity: Severity) -> bool {
        self.findings().first().is_some_and(|(worst, ..)| *worst >= severity)
    }

    pub(crate) fn unknown(&self) -> usize {
        self.with(|verdict| verdict == Verdict::Unknown).count()
    }

    pub(crate) fn text(&self, library: Option<&str>) -> String {
        let mut out = String::new();
        let findings = self.findings();
        for (severity, check, ruling) in &findings {
            let _ = writeln!(out, "{:<7} {}: {}", severity.name().to_uppercase(), check.name, check.title);
            let _ = writeln!(out, "        sent  {}", self.redactor.clean(&ruling.sent));
            let _ = writeln!(out, "        came  {}", self.redactor.clean(&ruling.came));
            let _ = writeln!(out, "        why   {}; OWASP ASVS {ASVS}: {}\n", check.why, check.asvs.join(", "));
        }
        self.rest(&mut out, "could not tell", Verdict::Unknown, true);
        self.rest(&mut out, "not examined", Verdict::Skipped, true);
        self.rest(&mut out, "passed", Verdict::Passed, false);
        out += &mends(&findings.iter().map(|(_, check, _)| *check).collect::<Vec<_>>(), library);
        let count = |severity| findings.iter().filter(|(of, ..)| *of == severity).count();
        let _ = writeln!(
            out,
            "{} high, {} medium, {} low; {} passed, {} could not be told, {} not examined; {:.0} s",
            count(Severity::High),
            count(Severity::Medium),
            count(Severity::Low),
            self.with(|verdict| verdict == Verdict::Passed).count(),
            self.unknown(),
            self.with(|verdict| verdict == Verdict::Skipped).count(),
            self.seconds
        );
        out
    }

    fn rest(&self, out: &mut String, heading: &str, of: Verdict, with_reason: bool) {
        let all: Vec<_> = self.with(|verdict| verdict == of).collect();
        if all.is_empty() {
            return;
        }
        if !with_reason {
            let names: Vec<_> = all.iter().map(|(check, _)| check.name).collect();
            let _ = writeln!(out, "{heading}: {}\n", names.join(", "));
            return;
        }
        let _ = writeln!(out, "{heading}:");
        for (check, ruling) in all {
            let _ = writeln!(out, "  {:<20} {}", check.name, self.redactor.clean(&ruling.came));
        }
        out.push('\n');
    }

    pub(crate) fn json(&self) -> Value {
        let results: Vec<_> = self.results.iter().map(|(check, ruling)| self.result(check, ruling)).collect();
        let findings = self.findings();
        let count = |severity| findings.iter().filter(|(of, ..)| *of == severity).count();
        json!({
            "target": self.target,
            "addresses": self.addresses,
            "plan": {"connections": self.plan.connections, "bytes": self.plan.bytes, "seconds": self.plan.seconds},
            "seconds": (self.seconds * 10.0).round() / 10.0,
            "summary": {
                "high": count(Severity::High), "medium": count(Severity::Medium), "low": count(Severity::Low),
                "passed": self.with(|verdict| verdict == Verdict::Passed).count(),
                "unknown": self.unknown(),
                "skipped": self.with(|verdict| verdict == Verdict::Skipped).count(),
            },
            "results": results,
        })
    }

    fn result(&self, check: &Check, ruling: &Ruling) -> Value {
        let mut result = json!({
            "check": check.name,
            "verdict": ruling.verdict.name(),
            "sent": self.redactor.clean(&ruling.sent),
            "came": self.redactor.clean(&ruling.came),
            "asvs": {"version": ASVS, "items": check.asvs},
        });
        if let Verdict::Finding(severity) = ruling.verdict {
            result["severity"] = severity.name().into();
            result["title"] = check.title.into();
            result["why"] = check.why.into();
            let mends = LIBRARIES.iter().zip(check.topic.mends());
            result["mend"] = mends.map(|(library, mend)| ((*library).to_owned(), Value::from(mend))).collect();
        }
        result
    }
}

/// How to mend what was found, each kind once.
fn mends(found: &[&Check], library: Option<&str>) -> String {
    let mut out = String::new();
    for (at, check) in found.iter().enumerate() {
        if found[..at].iter().any(|told| told.topic == check.topic) {
            continue;
        }
        let names: Vec<_> = found.iter().filter(|other| other.topic == check.topic).map(|other| other.name).collect();
        let _ = writeln!(out, "to mend {}", names.join(", "));
        for (name, mend) in LIBRARIES.iter().zip(check.topic.mends()) {
            if library.is_none_or(|only| only.eq_ignore_ascii_case(name)) {
                let _ = writeln!(out, "  {name:<18} {mend}");
            }
        }
        out.push('\n');
    }
    out
}

/// The names of all checks, and what each sends.
pub(crate) fn list() -> String {
    let mut out = String::new();
    for check in CHECKS {
        let _ = writeln!(out, "{:<20} {:<7} {}", check.name, check.severity.name(), check.sends);
    }
    out
}

/// The part of docs/AUDIT.md that is made from the table.
pub(crate) fn markdown() -> String {
    let mut out = String::new();
    for check in CHECKS {
        let _ =
            writeln!(out, "### {}\n\n*{}* ({} at worst)\n", check.name, sentence(check.title), check.severity.name());
        let _ = writeln!(out, "- sends: {}", check.sends);
        let _ = writeln!(out, "- judges: {}", check.judges);
        let _ = writeln!(out, "- why: {}", check.why);
        let _ = writeln!(out, "- OWASP ASVS {ASVS}: {}", check.asvs.join(", "));
        let _ = writeln!(out, "- to mend: [{}](#{0})\n", anchor(check.topic));
    }
    out += "## How to mend\n";
    let mut told = Vec::new();
    for check in CHECKS {
        if told.contains(&check.topic) {
            continue;
        }
        told.push(check.topic);
        let names = CHECKS.iter().filter(|other| other.topic == check.topic).map(|other| format!("`{}`", other.name));
        let names = names.collect::<Vec<_>>().join(", ");
        let _ = writeln!(out, "\n### {}\n\nFor {names}.\n\n| with | |\n|---|---|", anchor(check.topic));
        for (library, mend) in LIBRARIES.iter().zip(check.topic.mends()) {
            let _ = writeln!(out, "| {library} | {} |", mend.replace('|', "\\|"));
        }
    }
    out
}

fn anchor(topic: Topic) -> String {
    format!("mend-{topic:?}").to_lowercase()
}

fn sentence(title: &str) -> String {
    let mut letters = title.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect::<String>()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::audit::checks::by_name;

    fn report() -> Report {
        let result = |name, ruling| (by_name(name).unwrap(), ruling);
        Report {
            target: "ws://localhost/".into(),
            addresses: vec!["127.0.0.1:80".into()],
            plan: Budget { connections: 1, bytes: 2, seconds: 3 },
            seconds: 1.0,
            results: vec![
                result("banner", Ruling::finding(Severity::Low, "a GET", "server: x/1 hunter22")),
                result("origin-foreign", Ruling::finding(Severity::High, "Origin: x", "101")),
                result("utf8", Ruling::unknown("a text", "silence")),
                result("unmasked", Ruling::passed("a ping", "closed with 1002")),
            ],
            redactor: Redactor::new(["hunter22".to_owned()]),
        }
    }

    #[test]
    fn the_worst_comes_first_and_no_secret_comes_at_all() {
        let text = report().text(Some("ws"));
        assert!(text.starts_with("HIGH    origin-foreign"), "{text}");
        assert!(!text.contains("hunter22") && text.contains("[credential]"));
        assert!(text.contains("  ws ") && !text.contains("  Socket.IO "));
        assert!(
            text.ends_with("1 high, 0 medium, 1 low; 1 passed, 1 could not be told, 0 not examined; 1 s\n"),
            "{text}"
        );
    }

    #[test]
    fn programs_are_told_the_same() {
        let json = report().json();
        assert!(!json.to_string().contains("hunter22"));
        assert_eq!(json["summary"]["high"], 1);
        assert_eq!(json["results"][1]["severity"], "high");
        assert_eq!(json["results"][1]["mend"].as_object().unwrap().len(), LIBRARIES.len());
        assert!(json["results"][3].get("severity").is_none());
        assert!(report().has(Severity::High));
    }

    #[test]
    fn the_document_has_every_check() {
        let document = markdown();
        for check in CHECKS {
            assert!(document.contains(&format!("### {}\n", check.name)), "{}", check.name);
        }
        assert!(list().lines().count() == CHECKS.len());
    }

    /// docs/AUDIT.md follows the table: `make audit-doc` writes it again.
    #[test]
    fn the_committed_document_is_this_one() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
        let path = root.join("docs/AUDIT.md");
        let marker = "<!-- From here on: `wsguard audit --list --markdown`. -->\n\n";
        let text = std::fs::read_to_string(&path).unwrap();
        let (own, made) = text.split_once(marker).expect("the marker");
        if std::env::var_os("WSGUARD_WRITE").is_some() {
            return std::fs::write(path, format!("{own}{marker}{}", markdown())).unwrap();
        }
        assert!(
            made == markdown(),
            "docs/AUDIT.md differs: WSGUARD_WRITE=1 cargo test -p wsguard-cli committed_document"
        );
    }
}
