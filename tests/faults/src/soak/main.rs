//! `wsguard-soak`: every host under all attacks at once for minutes, with honest clients beside them that must not lose a
//! message; at the end nothing may be left. Three servers of a host live at the same time, one host after another.

mod arguments;
mod attacks;
mod honest;
mod ledger;
mod life;
mod policy;
mod redis;
mod report;
mod tally;

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser as _;
use wsguard_test_support::certs::Certs;
use wsguard_test_support::outcome::{Failure, Outcome};
use wsguard_test_support::process::raise_descriptor_limit;

use crate::arguments::Arguments;
use crate::life::Plan;
use crate::policy::Policy;
use crate::report::Report;

fn main() -> ExitCode {
    match soak(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("wsguard-soak: {failure}");
            ExitCode::from(2)
        }
    }
}

/// Every host in its turn; whether all is well.
fn soak(arguments: &Arguments) -> Outcome<bool> {
    raise_descriptor_limit()?;
    attacks::check(&arguments.only)?;
    let hosts = arguments.hosts()?;
    let minutes = arguments.span.as_secs_f64() / 60.0;
    println!("soak: {minutes} minutes on each of {}; SEED={}", hosts.join(", "), arguments.seed);
    let scratch = tempfile::Builder::new().prefix("wsguard-soak").tempdir()?;
    hosts.iter().try_fold(true, |well, host| Ok(soak_host(arguments, host, scratch.path())? && well))
}

fn soak_host(arguments: &Arguments, host: &str, scratch: &Path) -> Outcome<bool> {
    let run = arguments.directory.join(host).join("run");
    let reports = std::thread::scope(|scope| {
        let lives = Policy::ALL.map(|policy| {
            let run = &run;
            scope.spawn(move || -> Outcome<Report> {
                let dir = scratch.join(format!("{host}-{policy:?}"));
                fs::create_dir_all(&dir)?;
                let certs = Certs::create(&dir)?;
                let (span, seed, only) = (arguments.span, arguments.seed, &arguments.only);
                Ok(life::live(&Plan { host, run, policy, certs: &certs, span, seed, only }))
            })
        });
        lives.map(|life| life.join().map_err(|_| Failure("a life panicked".into())).flatten())
    });
    let mut well = true;
    for report in reports {
        let report = report?;
        println!("\n{report}");
        well &= report.faults().is_empty();
    }
    Ok(well)
}
