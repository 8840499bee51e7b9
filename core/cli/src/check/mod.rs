//! `wsguard check`: whether a server starts with a policy, what is in force then, and what is weak about it.

mod credentials;
mod entropy;
mod facts;
mod finding;
mod machine;
mod scope;
mod shown;
mod warnings;

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use crate::outcome::{Ended, Failure, Outcome};
use crate::policy::{self, Read, Source};
use crate::terminal::{self, Paint};
use facts::Facts;
pub(crate) use facts::now_unix_s;
use finding::{Finding, Severity};
pub(crate) use scope::Scope;

#[derive(clap::Args)]
#[command(after_help = "\
Example:
  wsguard check policy.json
  wsguard check policy.toml --set 'listen=\"0.0.0.0:8443\"' --strict

Exit codes: 0 the policy is good; 1 a warning of severity high, with --strict any warning; 2 a server would not start.")]
pub(crate) struct Args {
    #[command(flatten)]
    source: Source,

    /// Exit code 1 for any warning, not only those of severity high.
    #[arg(long)]
    strict: bool,

    /// Print one JSON object.
    #[arg(long)]
    json: bool,

    /// Print also the options that have their default.
    #[arg(long)]
    all: bool,
}

pub(crate) fn run(args: &Args) -> Ended {
    let read = args.source.compile()?;
    let name = args.source.name();
    let own_file = (args.source.path.as_os_str() != "-").then_some(args.source.path.as_path());
    let facts =
        Facts::of(&read, own_file).map_err(|error| Failure::new(format!("{name}: {}", policy::with_code(&error))))?;
    let empty = Map::new();
    let stated = read.stated.as_object().unwrap_or(&empty);
    let findings = warnings::of(stated, &facts);
    let text = if args.json {
        as_json(&name, &read, stated, &findings)
    } else {
        as_text(&name, stated, &findings, args.all, Paint::for_stdout())
    };
    terminal::print(&text)?;
    let least = if args.strict { Severity::Low } else { Severity::High };
    Ok(if findings.iter().any(|finding| finding.severity >= least) { Outcome::Found } else { Outcome::Well })
}

fn as_json(name: &str, read: &Read, stated: &Map<String, Value>, findings: &[Finding]) -> String {
    let in_force: Map<String, Value> =
        shown::in_force(stated).into_iter().map(|(name, value, _)| (name.to_owned(), value)).collect();
    let routes =
        shown::members(stated, wsguard::binding::Options::table()).remove("routes").unwrap_or_else(|| json!({}));
    let told = json!({
        "policy": name,
        "summary": read.set.to_string(),
        "in_force": in_force,
        "stated": stated.keys().collect::<Vec<_>>(),
        "routes": routes,
        "warnings": findings.iter().map(Finding::json).collect::<Vec<_>>(),
    });
    format!("{told:#}\n")
}

/// The longest value that is shown whole.
const MAX_VALUE: usize = 160;

fn as_text(name: &str, stated: &Map<String, Value>, findings: &[Finding], all: bool, paint: Paint) -> String {
    let mut text = String::new();
    let rows = shown::in_force(stated);
    let _ =
        writeln!(text, "{name}: its options are sound; the address, and an issuer of keys, are tried at the start.\n");
    let _ = writeln!(text, "{}", paint.bold("In force"));
    for (option, value, is_default) in rows.iter().filter(|(.., is_default)| all || !is_default) {
        let value = match absent(option).filter(|_| *is_default && value.is_null()) {
            Some(words) => words.to_owned(),
            None => terminal::harmless(&value.to_string(), MAX_VALUE),
        };
        let line = format!("  {option:<28} {value}{}", if *is_default { "  (default)" } else { "" });
        let _ = writeln!(text, "{}", if *is_default { paint.dim(&line) } else { line });
    }
    if !all {
        let _ = writeln!(text, "{}", paint.dim("  the others have their default: --all prints them"));
    }
    let shown = shown::members(stated, wsguard::binding::Options::table());
    for (path, route) in shown.get("routes").and_then(Value::as_object).into_iter().flatten() {
        let _ = writeln!(text, "\n{}", paint.bold(&format!("On the route {}", terminal::harmless(path, 128))));
        for (option, value) in route.as_object().into_iter().flatten() {
            let _ = writeln!(text, "  {option:<28} {}", terminal::harmless(&value.to_string(), MAX_VALUE));
        }
    }
    text.push('\n');
    warnings_text(&mut text, findings, paint);
    text
}

/// What it means that the option is left out, where that is no value.
fn absent(option: &str) -> Option<&'static str> {
    wsguard::binding::Options::table().find(option).map(|option| option.absent().unwrap_or("none"))
}

fn warnings_text(text: &mut String, findings: &[Finding], paint: Paint) {
    if findings.is_empty() {
        let _ = writeln!(text, "{}", paint.green("Nothing to warn of."));
        return;
    }
    let plural = if findings.len() == 1 { "" } else { "s" };
    let _ = writeln!(text, "{}", paint.bold(&format!("{} warning{plural}", findings.len())));
    for finding in findings {
        let severity = format!("{:<6}", finding.severity.name());
        let severity = match finding.severity {
            Severity::High => paint.red(&severity),
            Severity::Medium => paint.yellow(&severity),
            Severity::Low => paint.dim(&severity),
        };
        let option = terminal::harmless(&finding.option, 200);
        let _ = writeln!(text, "  {severity} {}: {}", paint.bold(&option), finding.what);
        let _ = writeln!(text, "         instead: {}", finding.instead);
    }
}
