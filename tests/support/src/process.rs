//! Processes and process groups as `/proc` shows them, signals and resource limits.

use std::ffi::OsStr;
use std::fs;
use std::process::Command;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
pub use nix::sys::signal::Signal;
use nix::sys::signal::killpg;
pub use nix::unistd::Pid;

use crate::outcome::{Failure, Outcome};

/// A host and whatever it started.
#[derive(Clone, Copy, Debug)]
pub struct Group(Pid);

impl Group {
    /// The group whose leader has this process id.
    pub fn of(leader: u32) -> Self {
        Self(Pid::from_raw(leader.cast_signed()))
    }

    /// Sends a signal to every member.
    pub fn signal(self, signal: Signal) -> Outcome {
        Ok(killpg(self.0, signal)?)
    }

    /// Resident memory of all members, in KiB.
    pub fn resident_kib(self) -> u64 {
        self.members().into_iter().filter_map(|pid| resident_kib(pid).ok()).sum()
    }

    /// Processor time that all members have used.
    pub fn cpu(self) -> Duration {
        self.members().into_iter().filter_map(|pid| cpu(pid).ok()).sum()
    }

    /// Open file descriptors of all members.
    pub fn descriptors(self) -> usize {
        self.members().iter().filter_map(|pid| fs::read_dir(format!("/proc/{pid}/fd")).ok()).map(Iterator::count).sum()
    }

    /// The processes that are in it now.
    pub fn members(self) -> Vec<Pid> {
        let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
        let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).map(Pid::from_raw);
        pids.filter(|pid| group_of(*pid) == Some(self.0)).collect()
    }
}

/// The third field behind the name in brackets.
fn group_of(pid: Pid) -> Option<Pid> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    fields.split(' ').nth(2)?.parse().ok().map(Pid::from_raw)
}

/// User and system time of all threads of a process, ended ones included.
#[cfg(target_os = "linux")]
pub fn cpu(pid: Pid) -> Outcome<Duration> {
    Ok(nix::time::clock_getcpuclockid(pid)?.now()?.into())
}

/// Nobody tells it here.
#[cfg(not(target_os = "linux"))]
pub fn cpu(pid: Pid) -> Outcome<Duration> {
    crate::fail!("the processor time of {pid} is not known on this system")
}

/// Resident memory (`VmRSS`) of a process, in KiB.
pub fn resident_kib(pid: Pid) -> Outcome<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok());
    kib.ok_or_else(|| Failure(format!("/proc/{pid}/status has no VmRSS")))
}

/// A command that is killed by this signal when the thread that starts it ends, however that happens.
pub fn mortal(signal: &str, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.arg("--pdeathsig").arg(signal).arg(program);
    command
}

/// Raises the limit of open files of this process, which children inherit, as far as it goes; what it is now.
pub fn raise_descriptor_limit() -> Outcome<u64> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(hard)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt as _;

    use super::*;

    #[test]
    fn a_group_has_the_children_of_its_leader() {
        let mut shell = Command::new("sh").args(["-c", "sleep 60 & sleep 60"]).process_group(0).spawn().unwrap();
        let group = Group::of(shell.id());
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while group.members().len() < 3 {
            assert!(std::time::Instant::now() < deadline, "{:?}", group.members());
            std::thread::yield_now();
        }
        assert!(group.resident_kib() > 0 && group.descriptors() >= 9);
        group.signal(Signal::SIGKILL).unwrap();
        shell.wait().unwrap();
        while !group.members().is_empty() {
            assert!(std::time::Instant::now() < deadline, "{:?}", group.members());
            std::thread::yield_now();
        }
    }

    #[test]
    fn time_and_memory_of_this_process_are_known() {
        let own = Pid::this();
        let before = cpu(own).unwrap();
        while cpu(own).unwrap() == before {}
        assert!(resident_kib(own).unwrap() > 100);
        assert!(raise_descriptor_limit().unwrap() >= 20);
    }
}
