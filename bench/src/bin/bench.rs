//! `bench`: starts each server on one core, loads it from another, and writes the table.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use std::{env, fs};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use wsguard_bench::generator::{self, Window};
use wsguard_bench::machine::Fact;
use wsguard_bench::plan::{CANDIDATES, Candidate, WORKLOADS, Workload};
use wsguard_bench::report::Results;
use wsguard_bench::sample::Sample;
use wsguard_bench::server::Server;
use wsguard_bench::{machine, process};

/// Files that a server and the generator hold besides connections.
const SPARE_FILES: u64 = 200;

/// Measures wsguard beside its peers.
#[derive(Parser)]
#[command(name = "bench", after_help = "How to read the figures: bench/README.md")]
struct Arguments {
    /// Three short rounds instead of five longer ones
    #[arg(long)]
    quick: bool,
    /// Only workloads with this in their name (may be repeated)
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Only servers with this in their name (may be repeated)
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
    /// Where to write the report; a full run writes bench/RESULTS.md, any other only prints
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
    let report = plan.run()?;
    println!("{report}");
    let full = !arguments.quick && arguments.only.is_empty() && arguments.server.is_empty();
    if let Some(path) = arguments.out.or_else(|| full.then(|| repository.join("bench/RESULTS.md"))) {
        fs::write(&path, report).with_context(|| format!("writing {}", path.display()))?;
        eprintln!("written: {}", path.display());
    }
    Ok(())
}

/// Builds the peers when cargo runs this program: `cargo run --bin bench` builds no other program of the package.
fn build_peers() -> Result<()> {
    let Some(cargo) = env::var_os("CARGO") else { return Ok(()) };
    let mut build = Command::new(cargo);
    build.args(["build", "--quiet", "--bins", "--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")]);
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
}

impl<'a> Plan<'a> {
    fn new(arguments: &Arguments, repository: &'a Path) -> Result<Self> {
        let wanted = |names: &[String], name: &str| names.is_empty() || names.iter().any(|part| name.contains(part));
        let workloads: Vec<_> = WORKLOADS.iter().filter(|workload| wanted(&arguments.only, workload.name)).collect();
        ensure!(
            !workloads.is_empty(),
            "no workload is called so; there are {}",
            names(WORKLOADS.iter().map(|w| w.name))
        );
        let mut candidates: Vec<_> =
            CANDIDATES.iter().filter(|server| wanted(&arguments.server, server.name)).collect();
        ensure!(
            !candidates.is_empty(),
            "no server is called so; there are {}",
            names(CANDIDATES.iter().map(|c| c.name))
        );
        candidates.retain(|candidate| {
            let built = candidate.is_built(repository);
            if !built {
                eprintln!("{} is left out: it is not built (`make hosts`)", candidate.name);
            }
            built
        });
        let (warm_up, length, rounds) = if arguments.quick { (0.3, 0.7, 3) } else { (0.5, 2.0, 5) };
        let window = Window {
            warm_up: Duration::from_secs_f64(warm_up),
            length: Duration::try_from_secs_f64(arguments.seconds.unwrap_or(length))?,
            most: arguments.messages.unwrap_or(u64::MAX),
        };
        let (generator_core, server_core) = process::two_cores()?;
        process::pin_to(generator_core)?;
        let open_files = process::raise_open_files()?;
        let most = workloads.iter().map(|workload| workload.connections()).max().unwrap_or_default();
        ensure!(
            open_files >= most as u64 + SPARE_FILES,
            "{open_files} open files are allowed, {most} connections wanted"
        );
        Ok(Self { repository, workloads, candidates, rounds: arguments.rounds.unwrap_or(rounds), window, server_core })
    }

    fn run(&self) -> Result<String> {
        let busy = if machine::is_busy() { " (busy before it began: not figures to quote)" } else { "" };
        let load_before = format!("{}{busy}", machine::load());
        eprintln!("load average: {load_before}");
        let mut results = Results::default();
        for workload in &self.workloads {
            let mut candidates: Vec<_> = self.candidates.iter().filter(|server| workload.suits(server)).collect();
            for round in 1..=self.rounds {
                eprintln!("{} {round}/{}", workload.name, self.rounds);
                for candidate in &candidates {
                    let sample = self.measure(workload, candidate);
                    let sample = sample.with_context(|| format!("{} under {}", candidate.name, workload.name))?;
                    results.push(workload.name, candidate.name, sample);
                }
                // Whoever went first goes last: no one always follows the same neighbour.
                if !candidates.is_empty() {
                    candidates.rotate_left(1);
                }
            }
        }
        Ok(results.report(&self.facts(&load_before)))
    }

    fn measure(&self, workload: &Workload, candidate: &Candidate) -> Result<Sample> {
        let server = Server::start(&candidate.start(workload, self.repository)?, self.server_core)?;
        generator::run(&server, workload, self.window).with_context(|| server.complaint())
    }

    fn facts(&self, load_before: &str) -> Vec<Fact> {
        let mut facts = machine::describe(self.repository);
        let arguments = env::args().skip(1).collect::<Vec<_>>().join(" ");
        let Window { warm_up, length, .. } = self.window;
        facts.extend([
            Fact::new("load average", format!("{load_before} before, {} after", machine::load())),
            Fact::new("command", format!("`cargo run --release -p wsguard-bench --bin bench -- {arguments}`")),
            Fact::new("rounds", format!("{}, each {length:?} after {warm_up:?} of warm-up", self.rounds)),
        ]);
        facts.extend(self.candidates.iter().map(|candidate| {
            let version = machine::version(self.repository, candidate.package);
            Fact::new(candidate.name, format!("{} {version}, {}", candidate.package, candidate.what))
        }));
        facts
    }
}

fn names(names: impl Iterator<Item = &'static str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}
