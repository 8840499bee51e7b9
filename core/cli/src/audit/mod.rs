//! `wsguard audit`: a bounded and honest examination of a WebSocket server that one is responsible for.
//!
//! The table of [`checks`] says what is sent and how it is judged. [`probes`] send it through an [`examiner`], whose
//! connections are counted and paced ([`limits`]); what came back is judged by decisions without a socket ([`seen`],
//! [`ruling`]). A check says "could not tell" rather than guess: each compares with a control that the server took.

mod access;
mod bomb;
mod checks;
mod examiner;
mod frame;
pub(crate) mod head;
mod hello;
mod likeness;
mod limits;
mod mends;
mod message;
mod options;
mod probes;
mod report;
mod ruling;
mod seen;
mod target;
mod text;
mod tls;
mod visit;

use std::io::Write;
use std::sync::{Mutex, OnceLock};
use std::time::Instant;

use rustls::RootCertStore;
use rustls::pki_types::ServerName;

use crate::outcome::{Ended, Failure, Outcome};
use crate::terminal::{self, Patient};
use checks::Check;
use examiner::{Entry, Examiner, Unreached};
use head::Ask;
use limits::{Budget, Purse};
use message::Message;
use report::Report;
use ruling::Ruling;
use target::Target;

pub(crate) use options::Args;

/// What finding a way in may cost, and what is left for servers that want to be asked again.
const BEGINNING: Budget = Budget { connections: 16, bytes: 256 * 1024, seconds: 30 };

pub(crate) fn run(args: &Args) -> Ended {
    if args.list {
        terminal::print(&if args.markdown { report::markdown() } else { report::list() })?;
        return Ok(Outcome::Well);
    }
    args.check_library()?;
    let (checks, rate, patience) = (args.checks()?, args.checked_rate()?, args.patience()?);
    let mut examiner = prepare(args, &checks)?;
    let addresses: Vec<_> = examiner.addresses.iter().map(ToString::to_string).collect();
    let budget = budget(&checks, rate, patience.as_secs());
    let plan = report::plan(&examiner.target.at, &addresses, &checks, budget, rate, patience.as_secs());
    if args.json {
        Patient(std::io::stderr()).write_all(plan.as_bytes())?;
    } else {
        say(&format!(
            "{plan}
"
        ))?;
    }
    if args.dry_run {
        return Ok(Outcome::Well);
    }
    let began = Instant::now();
    // Only now: the seconds of the plan have begun.
    examiner.purse = Purse::new(budget, rate);
    protect_credentials(&examiner)?;
    find_way_in(&mut examiner, args)?;
    let report = Report {
        target: examiner.target.at.to_string(),
        addresses,
        plan: budget,
        results: examine(&examiner, &checks),
        seconds: began.elapsed().as_secs_f64(),
        redactor: examiner.redactor(),
    };
    terminal::print(&if args.json {
        format!(
            "{}
",
            report.json()
        )
    } else {
        report.text(args.library.as_deref())
    })?;
    end(args, &examiner, &report)
}

/// The plan, on standard output. Where nobody reads what will be sent, nothing is.
fn say(text: &str) -> std::io::Result<()> {
    Patient(std::io::stdout()).write_all(text.as_bytes())
}

/// The sum of what the checks may cost, the way in, and the pace.
fn budget(checks: &[&Check], rate: f64, patience: u64) -> Budget {
    let sum = checks.iter().fold(BEGINNING, |sum, check| sum + check.budget);
    let paced = (f64::from(sum.connections) / rate).ceil() as u64;
    Budget { seconds: sum.seconds + paced + patience, ..sum }
}

/// Everything that can be refused without a connection.
fn prepare(args: &Args, checks: &[&Check]) -> Result<Examiner, Failure> {
    let target = Target::parse(args.url.as_deref().unwrap_or_default())?;
    let (access, protocols) = (args.access()?, args.subprotocols()?);
    let first_try = Ask::new(&target, access.clone(), protocols);
    let message = Message::new(args.ordinary_message()?, target.engine_io);
    let (timeout, patience) = (args.timeout()?, args.patience()?);
    args.checked_origin()?;
    let addresses = target.resolve(&args.responsible)?;
    // Read for a URL without TLS as well: a mistake in it is told.
    let authorities = match &args.ca {
        None if !target.at.is_tls => RootCertStore::empty(),
        file => tls::authorities(file.as_deref())?,
    };
    let tls = if target.at.is_tls {
        let name = ServerName::try_from(target.at.host.clone());
        let name =
            name.map_err(|_| Failure::new(format!("{} is no name that a certificate can have", target.at.host)))?;
        Some((tls::client()?, name))
    } else {
        None
    };
    Ok(Examiner {
        purse: Purse::new(budget(checks, 1.0, 0), 1.0),
        way_in: Err("it was not looked for".to_owned()),
        ordinary: OnceLock::new(),
        any_origin: OnceLock::new(),
        ambient_is_enough: OnceLock::new(),
        other_text: OnceLock::new(),
        silence: Mutex::default(),
        burst_refused: OnceLock::new(),
        target,
        addresses,
        tls,
        authorities,
        trusts_any: args.trust_any_certificate,
        timeout,
        patience,
        message,
        access,
        first_try,
    })
}

/// A credential is not sent to whoever answers in the server's place; said before anything else is tried.
fn protect_credentials(examiner: &Examiner) -> Result<(), Failure> {
    if examiner.is_guarded() { reach_anything(examiner) } else { Ok(()) }
}

/// Whether anything is there at all. Where no TLS of today is spoken, that is a finding.
fn reach_anything(examiner: &Examiner) -> Result<(), Failure> {
    match examiner.dial(None) {
        Ok(_) => Ok(()),
        Err(Unreached::Distrusted(why)) => Err(Failure::new(why)),
        Err(_) if probes::transport::has_only_old_tls(examiner) => Ok(()),
        Err(why) => Err(Failure::new(format!("{} cannot be reached: {why}", examiner.target.at))),
    }
}

/// Looks for an opening handshake that is let in: with the origin that was given, or that of the URL, or none.
fn find_way_in(examiner: &mut Examiner, args: &Args) -> Result<(), Failure> {
    let own = examiner.target.own_origin();
    let origins = args.checked_origin()?.map_or_else(|| vec![Some(own.as_str()), None], |origin| vec![Some(origin)]);
    let mut refusals = Vec::new();
    for origin in origins {
        let ask = examiner.first_try.with_origin(origin);
        let why = match examiner.enter_to_stay(&ask) {
            Entry::In(_) => {
                examiner.way_in = Ok(ask);
                return Ok(());
            }
            Entry::Late(how) | Entry::Refused(_, how) => how,
            Entry::Unclear(why) => why,
        };
        refusals.push(format!(
            "{}: {why}",
            origin.map_or_else(|| "no Origin".to_owned(), |origin| format!("Origin {origin}"))
        ));
    }
    reach_anything(examiner)?;
    examiner.first_try = examiner.first_try.with_origin(args.checked_origin()?.or(Some(&own)));
    examiner.way_in = Err(refusals.join("; "));
    Ok(())
}

/// Runs the checks: those that wait beside the others, in the order of the table.
fn examine(examiner: &Examiner, checks: &[&'static Check]) -> Vec<(&'static Check, Ruling)> {
    let one = |check: &Check| (check.run)(examiner).unwrap_or_else(|early| early);
    std::thread::scope(|scope| {
        let waiting: Vec<_> =
            checks.iter().filter(|check| check.waits).map(|check| (*check, scope.spawn(|| one(check)))).collect();
        let mut results: Vec<_> =
            checks.iter().filter(|check| !check.waits).map(|check| (*check, one(check))).collect();
        results.extend(waiting.into_iter().map(|(check, thread)| {
            (check, thread.join().unwrap_or_else(|_| Ruling::unknown("", "a fault of wsguard audit itself")))
        }));
        results
    })
}

fn end(args: &Args, examiner: &Examiner, report: &Report) -> Ended {
    if let Err(why) = &examiner.way_in {
        let why = examiner.redactor().clean(why);
        return Err(Failure::new(format!(
            "there was no way in, so {} could not be told ({why}); --origin, --token, --header, --cookie, --query and \
             --subprotocol say how one is let in",
            match report.unknown() {
                1 => "1 check".to_owned(),
                more => format!("{more} checks"),
            }
        )));
    }
    let found = args.fail_on.severity().is_some_and(|severity| report.has(severity));
    Ok(if found || args.strict && report.unknown() > 0 { Outcome::Found } else { Outcome::Well })
}
