//! Processes as the bench needs them: pinned to one core, ended with their parent, and their threads, one by one.
//!
//! What must be set in a child between fork and exec is set by a [`launch`] step instead: this program starts itself
//! once more, sets it, and becomes the server. So no unsafe code is needed, and the server inherits all of it.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::{fs, process};

use anyhow::{Context, Result, bail, ensure};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::{Pid, getppid};

/// The first argument that turns this program into the launch step.
pub const LAUNCH: &str = "launch";

/// A command that starts `program` on `core` in its own process group, to be killed when this process ends.
pub fn pinned(core: usize, program: &OsString) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.args([LAUNCH, &process::id().to_string(), &core.to_string()]).arg(program).process_group(0);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

/// The launch step: `launch PARENT CORE PROGRAM ARGUMENTS…`. Returns only when it fails.
pub fn launch(mut arguments: impl Iterator<Item = OsString>) -> Result<()> {
    let mut number = || arguments.next()?.to_str()?.parse::<usize>().ok();
    let (parent, core) = (number().context("no parent")?, number().context("no core")?);
    let program = arguments.next().context("no program")?;
    set_pdeathsig(Signal::SIGKILL)?;
    ensure!(usize::try_from(getppid().as_raw()) == Ok(parent), "the bench has already ended");
    pin_to(core)?;
    Err(Command::new(&program).args(arguments).exec()).with_context(|| format!("starting {}", program.display()))
}

/// Two cores this process may use: one for the generator, one for the server.
pub fn two_cores() -> Result<(usize, usize)> {
    let allowed = sched_getaffinity(Pid::from_raw(0))?;
    let mut cores = (0..CpuSet::count()).filter(|&core| allowed.is_set(core).unwrap_or(false));
    match (cores.next(), cores.next()) {
        (Some(generator), Some(server)) => Ok((generator, server)),
        _ => bail!("two cores are needed: one for the server, one for the generator"),
    }
}

/// Pins the calling thread, and what it starts from now on, to `core`.
pub fn pin_to(core: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(core)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
}

/// A thread of another process.
#[derive(Debug)]
pub struct Thread {
    /// Its name, of which the kernel keeps 15 bytes.
    pub name: String,
    /// Time on a core so far, in nanoseconds.
    pub cpu_ns: u64,
}

/// The threads that a process has now.
pub fn threads(pid: Pid) -> Result<Vec<Thread>> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"))?.flatten();
    // A thread may end meanwhile: then it has no files any more, and is left out.
    Ok(tasks.filter_map(|task| thread(&task.path())).collect())
}

fn thread(task: &Path) -> Option<Thread> {
    let name = fs::read_to_string(task.join("comm")).ok()?.trim().to_owned();
    let cpu_ns = fs::read_to_string(task.join("schedstat")).ok()?.split_whitespace().next()?.parse().ok()?;
    Some(Thread { name, cpu_ns })
}
