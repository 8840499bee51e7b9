//! `wsguard-runner`: every scenario of `tests/scenarios` against every host, over plain TCP and TLS.
//!
//! It decides nothing about the protocol: what is right is written in the scenarios, and this only sends bytes and
//! compares. See `tests/scenarios/README.md` for the format.

mod arguments;
mod bytes;
mod frame;
mod host;
mod http;
mod jwt;
mod matcher;
mod report;
mod run;
mod scenario;
mod step;
mod template;
mod wire;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use arguments::Arguments;
use clap::Parser as _;
use report::{Report, Verdict};
use run::Place;
use scenario::Case;
use wsguard_test_support::certs::Certs;
use wsguard_test_support::host::there;
use wsguard_test_support::outcome::{Failure, Outcome, fail};
use wsguard_test_support::progress::{Progress, spent};

/// One case on one host over one transport.
#[derive(Debug, Clone)]
struct Job<'a> {
    case: &'a Case,
    host: &'a str,
    transport: &'a str,
}

fn main() -> ExitCode {
    match suite(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("wsguard-runner: {failure}");
            ExitCode::from(2)
        }
    }
}

/// Runs what the arguments ask for; whether all is well.
fn suite(arguments: &Arguments) -> Outcome<bool> {
    let mut cases = scenario::load(&arguments.root.join("scenarios"))?;
    if let Some(filter) = &arguments.filter {
        cases.retain(|case| case.name.contains(filter.as_str()) || case.threats.contains(filter));
    }
    if arguments.list {
        for case in &cases {
            println!("{:12} {}", case.threats.join(","), case.name);
        }
        println!("{} cases", cases.len());
        return Ok(true);
    }
    let hosts = hosts(arguments)?;
    let scratch = tempfile::Builder::new().prefix("wsguard-runner").tempdir()?;
    let certs = Certs::create(scratch.path())?;
    let began = Instant::now();
    let report = Mutex::new(Report::default());
    let jobs = jobs(&cases, &hosts, arguments);
    let (total, done) = (jobs.len(), Arc::new(AtomicUsize::new(0)));
    let progress = Progress::start({
        let done = Arc::clone(&done);
        move |time| format!("   {} of {total} runs after {}", done.load(Ordering::Relaxed), spent(time))
    });
    let (alone, beside): (Vec<_>, Vec<_>) = jobs.into_iter().partition(|job| job.case.alone);
    let ground = Ground { hosts: &hosts, certs: &certs, verbose: arguments.verbose, report: &report, done: &done };
    run_all(beside, arguments.jobs, ground);
    run_all(alone, 1, ground);
    drop(progress);
    let report = report.into_inner().unwrap_or_else(PoisonError::into_inner);
    if arguments.table {
        print!("{}", report.table());
    }
    if arguments.slowest > 0 {
        print!("{}", report.slowest(arguments.slowest));
    }
    let names: Vec<&str> = hosts.iter().map(|(name, _)| name.as_str()).collect();
    let complete = arguments.filter.is_none() && arguments.transports.len() == 2;
    let skips_right = !complete || report.skips_are_expected(&arguments.root.join("scenarios"), &names)?;
    println!("{} ({:.1} s)", report.closing_line(), began.elapsed().as_secs_f32());
    Ok(report.failed() == 0 && skips_right)
}

/// The hosts asked for, or every one that has an executable `run`.
fn hosts(arguments: &Arguments) -> Outcome<Vec<(String, PathBuf)>> {
    let directory = arguments.root.join("hosts");
    let asked = arguments.hosts.clone().map_or_else(|| there(&directory), Ok)?;
    asked
        .into_iter()
        .map(|name| match directory.join(&name).join("run").canonicalize() {
            Ok(run) => Ok((name, run)),
            Err(error) => fail!("host {name}: {error}"),
        })
        .collect()
}

fn jobs<'a>(cases: &'a [Case], hosts: &'a [(String, PathBuf)], arguments: &'a Arguments) -> Vec<Job<'a>> {
    let mut jobs = Vec::new();
    for (host, _) in hosts {
        for case in cases {
            for transport in arguments.transports.iter().filter(|transport| case.runs_over(transport)) {
                jobs.push(Job { case, host, transport });
            }
        }
    }
    jobs
}

/// What all jobs share.
#[derive(Clone, Copy)]
struct Ground<'a> {
    hosts: &'a [(String, PathBuf)],
    certs: &'a Certs,
    verbose: bool,
    report: &'a Mutex<Report>,
    done: &'a AtomicUsize,
}

/// Works through `jobs` on `threads` threads.
fn run_all(jobs: Vec<Job<'_>>, threads: usize, ground: Ground<'_>) {
    let queue = Mutex::new(VecDeque::from(jobs));
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                while let Some(job) = next() {
                    let began = Instant::now();
                    let verdict = ground.run(&job);
                    ground.tell(&job, &verdict);
                    let mut report = ground.report.lock().unwrap_or_else(PoisonError::into_inner);
                    report.add(job.case, job.host, job.transport, &verdict, began.elapsed());
                    ground.done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
}

impl Ground<'_> {
    fn run(&self, job: &Job<'_>) -> Verdict {
        match (job.case.skipped_on(job.host), run_of(self.hosts, job.host)) {
            (Some(reason), _) => Verdict::Skipped(reason.to_owned()),
            (None, None) => Verdict::Failed(Failure("no such host".into())),
            (None, Some(run)) => {
                let place = Place { run, transport: job.transport, certs: self.certs };
                run::run(job.case, place).map_or_else(Verdict::Failed, |()| Verdict::Passed)
            }
        }
    }

    fn tell(&self, job: &Job<'_>, verdict: &Verdict) {
        let line = format!("{} over {}: {}", job.host, job.transport, job.case.name);
        match verdict {
            Verdict::Failed(failure) => println!("FAILED {line}: {failure}"),
            Verdict::Passed if self.verbose => println!("passed {line}"),
            Verdict::Skipped(reason) if self.verbose => println!("skipped {line}: {reason}"),
            _ => {}
        }
    }
}

fn run_of<'a>(hosts: &'a [(String, PathBuf)], name: &str) -> Option<&'a Path> {
    hosts.iter().find(|(known, _)| known == name).map(|(_, run)| run.as_path())
}
