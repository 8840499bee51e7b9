//! What a reader must know of the machine to compare figures. What cannot be found out is said to be unknown.

use std::path::Path;
use std::process::Command;
use std::time::Duration;
use std::{fs, thread};

/// One line of the head of the report.
#[derive(Clone, Debug)]
pub struct Fact {
    /// What it is about.
    pub about: &'static str,
    /// What is so.
    pub value: String,
}

impl Fact {
    /// A fact.
    pub fn new(about: &'static str, value: String) -> Self {
        Self { about, value }
    }
}

/// The machine, the sources and the tools.
pub fn describe(repository: &Path) -> Vec<Fact> {
    vec![
        Fact::new("date", output("date", &["-u", "+%Y-%m-%d %H:%M UTC"])),
        Fact::new("commit", commit(repository)),
        Fact::new("processor", format!("{}, {} cores", field("/proc/cpuinfo", "model name"), cores())),
        Fact::new("memory", memory()),
        Fact::new("system", output("uname", &["-srm"])),
        Fact::new("compiler", output("rustc", &["--version"])),
        Fact::new(
            "runtimes",
            format!("Node {}, {}", output("node", &["--version"]), output("python3", &["--version"])),
        ),
    ]
}

/// The machine in a line.
pub fn in_short() -> String {
    let server = "server on one core, load from another";
    format!("{}, {} cores; {server}; {}", field("/proc/cpuinfo", "model name"), cores(), output("uname", &["-sr"]))
}

/// What the machine does while this waits for two seconds: something else than the bench. (The load average is of no use
/// here: it shows the build that came before.)
pub fn busy_before() -> String {
    const MOST_PERCENT: f64 = 20.0;
    let before = core_ticks();
    thread::sleep(Duration::from_secs(2));
    let (Some((used_before, all_before)), Some((used, all))) = (before, core_ticks()) else { return unknown() };
    let percent = (used - used_before) / (all - all_before) * cores() as f64 * 100.0;
    let verdict = if percent > MOST_PERCENT { ": **busy, not figures to quote**" } else { "" };
    format!("{percent:.0} % of a core{verdict}")
}

/// The version of a package of `package.json` as npm installed it.
pub fn npm_version(folder: &Path, package: &str) -> String {
    let manifest = fs::read_to_string(folder.join("node_modules").join(package).join("package.json"));
    let manifest: serde_json::Value = serde_json::from_str(&manifest.unwrap_or_default()).unwrap_or_default();
    manifest["version"].as_str().map_or_else(unknown, str::to_owned)
}

/// The version of a package of `requirements.txt` as it is pinned there.
pub fn pip_version(folder: &Path, package: &str) -> String {
    let list = fs::read_to_string(folder.join("requirements.txt")).unwrap_or_default();
    let pin = list.lines().find_map(|line| line.strip_prefix(package)?.strip_prefix("=="));
    pin.map_or_else(unknown, str::to_owned)
}

/// The version of a package as Cargo.lock has it.
pub fn cargo_version(repository: &Path, package: &str) -> String {
    let lock = fs::read_to_string(repository.join("Cargo.lock")).unwrap_or_default();
    let name = format!("name = \"{package}\"");
    let mut lines = lock.lines().skip_while(|line| *line != name);
    let version = lines.nth(1).and_then(|line| line.strip_prefix("version = "));
    version.map_or_else(unknown, |version| version.trim_matches('"').to_owned())
}

fn commit(repository: &Path) -> String {
    let git = |arguments: &[&str]| output("git", &[&["-C", &repository.to_string_lossy()], arguments].concat());
    let changes = git(&["status", "--porcelain", "--untracked-files=no"]);
    let state = if changes.is_empty() || changes == unknown() { "" } else { " with changes" };
    format!("{}{state}", git(&["rev-parse", "--short=12", "HEAD"]))
}

/// All of them: this process is pinned to one, so it cannot ask how many it may use.
fn cores() -> usize {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    text.lines().filter(|line| line.starts_with("processor")).count()
}

/// The time of all cores so far, in ticks: what was used, and all of it.
fn core_ticks() -> Option<(f64, f64)> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    let line = text.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<f64> = line.split_whitespace().map_while(|ticks| ticks.parse().ok()).take(8).collect();
    let all = ticks.iter().sum::<f64>();
    // After user, nice and system: idle, and waiting for a disk.
    let idle = ticks.get(3)? + ticks.get(4)?;
    Some((all - idle, all))
}

fn memory() -> String {
    let total = field("/proc/meminfo", "MemTotal");
    let kib = total.trim_end_matches(" kB").parse::<f64>();
    kib.map_or(total, |kib| format!("{:.1} GiB", kib / f64::from(1 << 20)))
}

fn field(path: &str, name: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let value = text.lines().find(|line| line.starts_with(name)).and_then(|line| line.split_once(':'));
    value.map_or_else(unknown, |(_, value)| value.trim().to_owned())
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().ok().filter(|output| output.status.success());
    output.map_or_else(unknown, |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn unknown() -> String {
    "unknown".to_owned()
}
