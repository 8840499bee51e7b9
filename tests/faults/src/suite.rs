//! Running tests one after another against every host, and telling how they went.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use crate::certs::Certs;
use crate::outcome::{Failure, Outcome};
use crate::process::raise_descriptor_limit;
use crate::{ensure, fail};

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
    /// The row of THREATS.md.
    pub threat: &'static str,
    /// What it does.
    pub run: fn(&Ground) -> Outcome<String>,
}

struct Arguments {
    hosts: Option<Vec<String>>,
    filter: Option<String>,
    list: bool,
    directory: PathBuf,
}

impl Arguments {
    fn parse(mut words: impl Iterator<Item = String>) -> Outcome<Self> {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../hosts");
        let mut parsed = Self { hosts: None, filter: None, list: false, directory };
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| Failure(format!("{word} wants a value")));
            match word.as_str() {
                "--host" => parsed.hosts = Some(value()?.split(',').map(str::to_owned).collect()),
                "--filter" => parsed.filter = Some(value()?),
                "--hosts" => parsed.directory = value()?.into(),
                "--list" => parsed.list = true,
                _ => return fail!("unknown argument {word:?}; [--host rust,c] [--filter TEXT] [--hosts DIR] [--list]"),
            }
        }
        Ok(parsed)
    }

    /// The hosts that can be started, or those that were asked for.
    fn hosts(&self) -> Outcome<Vec<String>> {
        if let Some(hosts) = &self.hosts {
            return Ok(hosts.clone());
        }
        let mut hosts = Vec::new();
        for entry in fs::read_dir(&self.directory).map_err(|error| Failure(format!("tests/hosts: {error}")))?.flatten()
        {
            if entry.path().join("run").exists() {
                hosts.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        hosts.sort();
        ensure!(!hosts.is_empty(), "no host in {}", self.directory.display());
        Ok(hosts)
    }
}

/// A temporary directory.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs what the command line asks for; exit code 1 when a test failed, 2 when nothing could be run.
pub fn main(program: &str, tests: &[Test]) -> ExitCode {
    match Arguments::parse(std::env::args().skip(1)).and_then(|arguments| run_all(program, tests, &arguments)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("{program}: {failure}");
            ExitCode::from(2)
        }
    }
}

fn run_all(program: &str, tests: &[Test], arguments: &Arguments) -> Outcome<bool> {
    let chosen = |test: &&Test| arguments.filter.as_deref().is_none_or(|f| test.name.contains(f) || test.threat == f);
    let tests = tests.iter().filter(chosen).collect::<Vec<_>>();
    if arguments.list {
        for test in &tests {
            println!("{:4} {}", test.threat, test.name);
        }
        return Ok(true);
    }
    let scratch = Scratch(std::env::temp_dir().join(format!("{program}-{}", std::process::id())));
    fs::create_dir_all(&scratch.0)?;
    let descriptors = raise_descriptor_limit();
    let (mut passed, mut failed) = (0, 0);
    for host in arguments.hosts()? {
        let certs = Certs::create(&scratch.0)?;
        let run = arguments.directory.join(&host).join("run");
        let ground = Ground { run, certs, scratch: scratch.0.clone(), descriptors };
        for test in &tests {
            let began = Instant::now();
            let outcome = (test.run)(&ground);
            let seconds = began.elapsed().as_secs_f64();
            let (mark, note) = match outcome {
                Ok(note) => {
                    passed += 1;
                    ("ok  ", note)
                }
                Err(failure) => {
                    failed += 1;
                    ("FAIL", failure.to_string())
                }
            };
            println!("{mark} {host:7} {:4} {:24} {seconds:5.1} s  {note}", test.threat, test.name);
        }
    }
    println!("{passed} passed, {failed} failed");
    Ok(failed == 0 && passed > 0)
}
