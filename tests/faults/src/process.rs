//! Process groups as `/proc` shows them, signals and resource limits.

use std::ffi::OsStr;
use std::fs;
use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal};

use crate::outcome::{Failure, Outcome};

/// A host and whatever it started.
#[derive(Clone, Copy, Debug)]
pub struct Group(Pid);

impl Group {
    /// The group whose leader has this process id.
    pub fn of(leader: u32) -> Outcome<Self> {
        Pid::from_raw(leader.cast_signed()).map(Self).ok_or_else(|| Failure("no such process".into()))
    }

    /// Sends a signal to every member.
    pub fn signal(self, signal: Signal) -> Outcome {
        Ok(rustix::process::kill_process_group(self.0, signal)?)
    }

    /// Resident memory of all members, in KiB.
    pub fn resident_kib(self) -> u64 {
        self.members().iter().filter_map(|pid| status_kib(*pid, "VmRSS:")).sum()
    }

    /// Processor time that all members have used.
    pub fn cpu(self) -> Duration {
        let ticks: u64 = self.members().iter().filter_map(|pid| cpu_ticks(*pid)).sum();
        Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
    }

    /// Open file descriptors of all members.
    pub fn descriptors(self) -> usize {
        self.members().iter().filter_map(|pid| fs::read_dir(format!("/proc/{pid}/fd")).ok()).map(Iterator::count).sum()
    }

    fn members(self) -> Vec<i32> {
        let group = self.0.as_raw_nonzero().get();
        let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
        let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter(|pid| stat_field(*pid, 2) == Some(i64::from(group))).collect()
    }
}

/// A field of `/proc/PID/stat`, counted from 0 behind the name in brackets.
fn stat_field(pid: i32, field: usize) -> Option<i64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    fields.split(' ').nth(field)?.parse().ok()
}

fn cpu_ticks(pid: i32) -> Option<u64> {
    Some((stat_field(pid, 11)? + stat_field(pid, 12)?).unsigned_abs())
}

fn status_kib(pid: i32, key: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

/// A command that is killed by this signal when the thread that starts it ends, however that happens.
pub fn mortal(signal: &str, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.arg("--pdeathsig").arg(signal).arg(program);
    command
}

/// Raises the limit of open files of this process as far as it goes; returns what it is now.
pub fn raise_descriptor_limit() -> u64 {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let _ = rustix::process::setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    rustix::process::getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}
