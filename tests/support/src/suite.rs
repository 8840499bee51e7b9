//! Running tests one after another against every host, and telling how they went.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;

use crate::certs::Certs;
use crate::host::there;
use crate::outcome::Outcome;
use crate::process::raise_descriptor_limit;
use crate::progress::{Progress, spent};

/// What a test works with.
#[derive(Debug)]
pub struct Ground {
    /// The program that starts the host.
    pub run: PathBuf,
    /// Test certificates.
    pub certs: Certs,
    /// A directory that is removed at the end.
    pub scratch: PathBuf,
    /// How many files this process may open.
    pub descriptors: u64,
}

/// One test; what it returns is a note with its measurements.
#[derive(Clone, Copy)]
pub struct Test {
    /// Its name, for `--filter`.
    pub name: &'static str,
    /// The row of docs/THREATS.md.
    pub threat: &'static str,
    /// What it does.
    pub run: fn(&Ground) -> Outcome<String>,
}

#[derive(Debug, Parser)]
#[command(about = "Runs each test against each host, one after another")]
struct Arguments {
    /// Only these hosts
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    host: Option<Vec<String>>,
    /// Only the tests with this in their name, or of the threat with this id
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// Where the hosts are
    #[arg(long, value_name = "DIR", default_value = HOSTS, hide_default_value = true)]
    hosts: PathBuf,
    /// Say which tests there are, and run none
    #[arg(long)]
    list: bool,
}

/// `tests/hosts`.
pub const HOSTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../hosts");

/// Runs what the command line asks for: `tests` against every host, `once` against the first alone. Exit code 1 when a test
/// failed, 2 when nothing could be run.
pub fn main(program: &str, tests: &[Test], once: &[Test]) -> ExitCode {
    match run_all(program, tests, once, &Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("{program}: {failure}");
            ExitCode::from(2)
        }
    }
}

fn run_all(program: &str, tests: &[Test], once: &[Test], arguments: &Arguments) -> Outcome<bool> {
    let chosen = |test: &&Test| arguments.filter.as_deref().is_none_or(|f| test.name.contains(f) || test.threat == f);
    let tests = tests.iter().filter(chosen).collect::<Vec<_>>();
    let mut once = once.iter().filter(chosen).collect::<Vec<_>>();
    if arguments.list {
        for test in tests.iter().chain(&once) {
            println!("{:4} {}", test.threat, test.name);
        }
        return Ok(true);
    }
    let scratch = tempfile::Builder::new().prefix(program).tempdir()?;
    let descriptors = raise_descriptor_limit()?;
    let mut tally = Tally::default();
    for host in arguments.host.clone().map_or_else(|| there(&arguments.hosts), Ok)? {
        let certs = Certs::create(scratch.path())?;
        let run = arguments.hosts.join(&host).join("run");
        let ground = Ground { run, certs, scratch: scratch.path().to_owned(), descriptors };
        for test in tests.iter().copied().chain(once.drain(..)) {
            tally.run(&format!("{host:7} {:4} {:24}", test.threat, test.name), "", || (test.run)(&ground));
        }
    }
    Ok(tally.end(""))
}

/// How tests went, told as each ends.
#[derive(Debug, Default)]
pub struct Tally {
    passed: usize,
    failed: usize,
}

impl Tally {
    /// Runs one, and prints how it went: `title`, the time it took, and behind `about` what it says. While a long one runs, a
    /// line from time to time says so.
    pub fn run(&mut self, title: &str, about: &str, test: impl FnOnce() -> Outcome<String>) {
        let began = Instant::now();
        let (done, name) = (self.passed + self.failed, title.to_owned());
        let progress = Progress::start(move |time| format!("...  {name} runs for {} ({done} done)", spent(time)));
        let outcome = test();
        drop(progress);
        let seconds = began.elapsed().as_secs_f64();
        let (mark, note) = match outcome {
            Ok(note) => {
                self.passed += 1;
                ("ok  ", note)
            }
            Err(failure) => {
                self.failed += 1;
                ("FAIL", failure.to_string())
            }
        };
        println!("{mark} {title} {seconds:5.1} s  {about}{note}");
    }

    /// Prints how many passed; whether any did, and all of them.
    pub fn end(self, on: &str) -> bool {
        let Self { passed, failed } = self;
        println!("{passed} passed, {failed} failed{on}");
        failed == 0 && passed > 0
    }
}
