//! `bench`: starts each server on one core, loads it from another, and writes the table.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use std::{env, fs, iter};

use anyhow::{Context, Error, Result, ensure};
use clap::Parser;
use tempfile::TempDir;
use wsguard_bench::candidates::{CANDIDATES, Candidate};
use wsguard_bench::install::{Absences, install};
use wsguard_bench::machine::Fact;
use wsguard_bench::plan::{WORKLOADS, Window, Workload};
use wsguard_bench::results::Results;
use wsguard_bench::sample::Sample;
use wsguard_bench::server::Server;
use wsguard_bench::{generator, machine, plots, process, report};
use wsguard_test_support::certs::Certs;
use wsguard_test_support::process::raise_descriptor_limit;

/// Files that a server and the generator hold besides connections.
const SPARE_FILES: u64 = 200;

/// A compiler that works while the server runs needs so many times the warm-up.
const SLOW_WARM_UP: u32 = 4;

/// Measures wsguard beside its peers.
#[derive(Parser)]
#[command(name = "bench", after_help = "How to read the figures: bench/README.md")]
struct Arguments {
    /// One short round instead of five; prints only
    #[arg(long)]
    quick: bool,
    /// Only the workload called so, or those with this in their name (may be repeated)
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Only the server called so, or those with this in their name (may be repeated)
    #[arg(long, value_name = "NAME")]
    server: Vec<String>,
    /// Rounds per workload and server
    #[arg(long, value_name = "COUNT")]
    rounds: Option<usize>,
    /// Length of a measured window
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<f64>,
    /// End a window after so many messages, if that comes first
    #[arg(long, value_name = "COUNT")]
    messages: Option<u64>,
    /// Where to write the report, with plots/ beside it; a full run writes bench/RESULTS.md, any other only prints
    #[arg(long, value_name = "PATH")]
    out: Option<PathBuf>,
}

fn main() -> Result<()> {
    let mut arguments = env::args_os().skip(1).peekable();
    if arguments.next_if(|first| first == process::LAUNCH).is_some() {
        return process::launch(arguments);
    }
    let arguments = Arguments::parse();
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the package is in no workspace")?;
    build_peers()?;
    let plan = Plan::new(&arguments, repository)?;
    let (results, facts) = plan.run();
    let full = !arguments.quick && arguments.only.is_empty() && arguments.server.is_empty();
    let out = arguments.out.or_else(|| full.then(|| repository.join("bench/RESULTS.md")));
    let (mut plots, mut why) = (Vec::new(), String::new());
    if let Some(path) = &out {
        plots = plots::write(&results, &path.with_file_name("plots"), &machine::in_short())?;
        why = fs::read_to_string(repository.join("bench/WHY.md")).context("reading bench/WHY.md")?;
    }
    let report = report::report(&results, &facts, &plots, &why);
    println!("{report}");
    if let Some(path) = out {
        fs::write(&path, report).with_context(|| format!("writing {}", path.display()))?;
        eprintln!("written: {}", path.display());
    }
    ensure!(results.failures() == 0, "{} measurements failed, see the report", results.failures());
    Ok(())
}

/// Builds the peers when cargo runs this program: `cargo run --bin bench` builds no other program of the package.
fn build_peers() -> Result<()> {
    let Some(cargo) = env::var_os("CARGO") else { return Ok(()) };
    let mut build = Command::new(cargo);
    build.args([
        "build",
        "--quiet",
        "--locked",
        "--bins",
        "--manifest-path",
        concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"),
    ]);
    if !cfg!(debug_assertions) {
        build.arg("--release");
    }
    ensure!(build.status()?.success(), "the peers do not build");
    Ok(())
}

/// What this run measures, and how.
struct Plan<'a> {
    repository: &'a Path,
    workloads: Vec<&'static Workload>,
    candidates: Vec<&'static Candidate>,
    rounds: usize,
    window: Window,
    server_core: usize,
    absences: Absences,
    certs: Certs,
    /// Where the certificates are, for as long as this is.
    _scratch: TempDir,
}

impl<'a> Plan<'a> {
    fn new(arguments: &Arguments, repository: &'a Path) -> Result<Self> {
        let workloads: Vec<_> = named(WORKLOADS, &arguments.only, |workload| workload.name).collect();
        ensure!(
            !workloads.is_empty(),
            "no workload is called so; there are {}",
            names(WORKLOADS.iter().map(|w| w.name))
        );
        let takes_part = |server: &&Candidate| workloads.iter().any(|workload| workload.servers.contains(&server.name));
        let candidates: Vec<_> =
            named(CANDIDATES, &arguments.server, |server| server.name).filter(takes_part).collect();
        ensure!(
            !candidates.is_empty(),
            "no server of these workloads is called so; there are {}",
            names(CANDIDATES.iter().map(|c| c.name))
        );
        let absences = install(&candidates, repository);
        let (warm_up, length, rounds) = if arguments.quick { (0.2, 0.4, 1) } else { (0.2, 0.5, 5) };
        let window = Window {
            warm_up: Duration::from_secs_f64(warm_up),
            length: Duration::try_from_secs_f64(arguments.seconds.unwrap_or(length))?,
            most: arguments.messages.unwrap_or(u64::MAX),
        };
        let (generator_core, server_core) = process::two_cores()?;
        process::pin_to(generator_core)?;
        let open_files = raise_descriptor_limit()?;
        let most = workloads.iter().map(|workload| workload.connections()).max().unwrap_or_default();
        ensure!(
            open_files >= most as u64 + SPARE_FILES,
            "{open_files} open files are allowed, {most} connections wanted"
        );
        let (rounds, scratch) = (arguments.rounds.unwrap_or(rounds), tempfile::tempdir()?);
        let certs = Certs::create(scratch.path())?;
        let mut plan =
            Self { repository, workloads, candidates, rounds, window, server_core, absences, certs, _scratch: scratch };
        plan.start_each_once();
        Ok(plan)
    }

    /// Who does not even start is absent, with the reason, instead of an error in the middle of the run.
    fn start_each_once(&mut self) {
        for candidate in &self.candidates {
            if self.absences.contains_key(candidate.name) {
                continue;
            }
            let start = candidate.start(self.workloads[0], self.repository, &self.certs);
            if let Err(error) = Server::start(&start, self.server_core) {
                let hint = if candidate.is_ours() { "does not start (`make hosts` builds it): " } else { "" };
                let why = format!("{hint}{error:#}").replace(&format!("{}/", self.repository.display()), "");
                self.absences.insert(candidate.name, why.replace('\n', " "));
            }
        }
        for (server, why) in &self.absences {
            eprintln!("{server} is absent: {why}");
        }
    }

    fn run(&self) -> (Results, Vec<Fact>) {
        let busy = machine::busy_before();
        eprintln!("in use before it began: {busy}");
        let started = Instant::now();
        let mut results = Results::without(self.absences.clone());
        // Rounds outside, workloads inside: a slow minute of the machine touches one round of some, not all of one.
        for round in 0..self.rounds {
            for workload in &self.workloads {
                eprintln!(
                    "{:4} s  round {}/{}  {}",
                    started.elapsed().as_secs(),
                    round + 1,
                    self.rounds,
                    workload.name
                );
                self.measure_all(workload, round, &mut results);
            }
        }
        let facts = self.facts(busy);
        (results, facts)
    }

    /// Measures everyone who takes part in a workload once.
    fn measure_all(&self, workload: &'static Workload, round: usize, results: &mut Results) {
        let takes_part = |candidate: &Candidate| {
            workload.servers.contains(&candidate.name)
                && !self.absences.contains_key(candidate.name)
                && !results.has_failed(workload.name, candidate.name)
        };
        let mut candidates: Vec<_> = self.candidates.iter().copied().filter(|server| takes_part(server)).collect();
        // Whoever went first goes last in the next round: no one always follows the same neighbour.
        let first = round % candidates.len().max(1);
        candidates.rotate_left(first);
        for candidate in candidates {
            match self.measure(workload, candidate) {
                Ok(sample) => results.push(workload.name, candidate.name, sample),
                Err((error, complaint)) => {
                    eprintln!("{} failed under {}: {error:#}\n{complaint}", candidate.name, workload.name);
                    results.fail(workload.name, candidate.name, format!("{error:#}"));
                }
            }
        }
    }

    /// Measures once, on a server started for it. An error comes with what the server had to say.
    fn measure(&self, workload: &Workload, candidate: &Candidate) -> Result<Sample, (Error, String)> {
        let start = candidate.start(workload, self.repository, &self.certs);
        let mut server = Server::start(&start, self.server_core).map_err(|error| (error, String::new()))?;
        let mut window = self.window;
        if candidate.warms_up_slowly() {
            window.warm_up *= SLOW_WARM_UP;
        }
        generator::run(&mut server, workload, window).map_err(|error| (error, server.complaint()))
    }

    fn facts(&self, busy: String) -> Vec<Fact> {
        let mut facts = machine::describe(self.repository);
        let command: Vec<_> = iter::once(report::COMMAND.to_owned()).chain(env::args().skip(1)).collect();
        let Window { warm_up, length, .. } = self.window;
        facts.extend([
            Fact::new("in use before it began", busy),
            Fact::new("command", format!("`{}`", command.join(" "))),
            Fact::new("rounds", format!("{}, each {length:?} after {warm_up:?} of warm-up", self.rounds)),
        ]);
        facts.extend(self.candidates.iter().map(|candidate| {
            Fact::new(candidate.name, format!("{}; {}", candidate.versions(self.repository), candidate.what))
        }));
        facts
    }
}

/// Those of `all` that are asked for: by their name if one is called exactly so, else by a part of it.
fn named<T>(all: &'static [T], asked: &[String], name: fn(&T) -> &'static str) -> impl Iterator<Item = &'static T> {
    let is_asked = move |one: &T, part: &String| {
        if all.iter().any(|other| name(other) == part) { name(one) == part } else { name(one).contains(part) }
    };
    all.iter().filter(move |one| asked.is_empty() || asked.iter().any(|part| is_asked(one, part)))
}

fn names(names: impl Iterator<Item = &'static str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}
