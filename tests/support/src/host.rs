//! One test host process, spoken to as docs/HOST.md says. It never outlives its test: it is killed on drop with its whole
//! process group, and a test that dies closes the host's standard input, which ends it, too.

use std::io::{PipeReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::lines::Lines;
use crate::outcome::{Failure, Outcome, ensure, fail};
use crate::process::{Group, Signal};
use crate::wire::{PATIENCE, Target};

/// Every host of the repository, in the order in which tests take them.
pub const NAMES: [&str; 4] = ["rust", "c", "python", "node"];

/// Those that have a `run` below `directory`.
pub fn there(directory: &Path) -> Outcome<Vec<String>> {
    let there = NAMES.iter().filter(|name| directory.join(name).join("run").is_file());
    let there = there.map(|name| (*name).to_owned()).collect::<Vec<_>>();
    ensure!(!there.is_empty(), "no host below {}", directory.display());
    Ok(there)
}

/// A host that was started.
#[derive(Debug)]
pub struct Host {
    child: Child,
    /// How it ended, once that was asked.
    status: Option<ExitStatus>,
    /// Its processes.
    pub group: Group,
    stdin: Option<ChildStdin>,
    /// What it prints.
    pub events: Lines<Value>,
    /// Its standard error, if that is a pipe.
    pub log: Lines<String>,
    /// A log that nobody reads.
    pub(crate) unread: Option<PipeReader>,
    /// Where it listens, without TLS.
    pub target: Target,
}

impl Host {
    /// Starts `command`, which must have a process group of its own and pipes for standard input and output, hands it the
    /// first line, and waits for the line that answers it: `listening`, or `error`. `keep` makes events of all its lines.
    pub fn start(
        mut command: Command,
        first_line: &Value,
        keep: impl FnMut(&str) -> Option<Value> + Send + 'static,
    ) -> Outcome<(Self, Value)> {
        let spawned = command.spawn();
        let mut child = spawned.map_err(|error| Failure(format!("{}: {error}", command.get_program().display())))?;
        // It holds the descriptors of standard error, and a reader that is to be gone would wait for them.
        drop(command);
        let group = Group::of(child.id());
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return fail!("the host has no pipes");
        };
        let stderr: Box<dyn Read + Send> = match child.stderr.take() {
            Some(stderr) => Box::new(stderr),
            None => Box::new(std::io::empty()),
        };
        let (events, log) = (Lines::of(stdout, keep), Lines::of(stderr, |line| Some(line.to_owned())));
        let target = Target::plain("");
        let mut host = Self { child, status: None, group, stdin: Some(stdin), events, log, unread: None, target };
        // Whoever has ended before it reads this has said why in its log.
        let _ = host.tell(first_line);
        let answer = host.event(PATIENCE, |event| event["type"] == "listening" || event["type"] == "error");
        let Some(answer) = answer else {
            // Its log may end a moment after its output.
            host.log.end(Duration::from_secs(1));
            let log = host.log_tail();
            return if log.is_empty() {
                fail!("the host did not start")
            } else {
                fail!("the host did not start; its log ends: {log}")
            };
        };
        match answer["addr"].as_str() {
            Some(address) => address.clone_into(&mut host.target.address),
            None => ensure!(answer["type"] == "error", "the host named no address: {answer}"),
        }
        Ok((host, answer))
    }

    /// Gives it a command without waiting for the answer.
    pub fn tell(&mut self, line: &Value) -> Outcome {
        let Some(stdin) = &mut self.stdin else { return fail!("the host's input is closed") };
        writeln!(stdin, "{line}").map_err(|error| Failure(format!("the host does not read: {error}")))?;
        Ok(stdin.flush()?)
    }

    /// Ends its input: it drains and exits.
    pub fn end_input(&mut self) {
        self.stdin = None;
    }

    /// Takes the first event that `wanted` accepts.
    pub fn event(&self, within: Duration, wanted: impl Fn(&Value) -> bool) -> Option<Value> {
        self.events.take(within, wanted)
    }

    /// Takes every event that has come.
    pub fn events_so_far(&self) -> Vec<Value> {
        self.events.with(std::mem::take)
    }

    /// Takes every log line that has come.
    pub fn log_so_far(&self) -> Vec<String> {
        self.log.with(std::mem::take)
    }

    /// The end of its log, for a failure's line.
    pub fn log_tail(&self) -> String {
        self.log.tail(4).join(" | ")
    }

    /// Gives it a command and returns its answer.
    pub fn command(&mut self, command: &Value) -> Outcome<Value> {
        self.tell(command)?;
        let answer = self.event(PATIENCE, |event| {
            event["type"] == "done" && event["do"] == command["do"]
                || event["type"] == "stats"
                || event["type"] == "metrics"
        });
        answer.ok_or_else(|| Failure(format!("no answer to {command}: {}", self.log_tail())))
    }

    /// Its counters.
    pub fn stats(&mut self) -> Outcome<Value> {
        self.command(&json!({"do": "stats"}))
    }

    /// One of its counters; `verdicts.CODE` for a verdict.
    pub fn stat(&mut self, name: &str) -> Outcome<u64> {
        let stats = self.stats()?;
        let value = match name.strip_prefix("verdicts.") {
            Some(code) => stats["verdicts"][code].as_u64().or(Some(0)),
            None => stats[name].as_u64(),
        };
        value.ok_or_else(|| Failure(format!("no number {name} in {stats}")))
    }

    /// Asks for a counter until `enough` says yes; how long that took.
    pub fn until(&mut self, name: &str, within: Duration, enough: impl Fn(u64) -> bool) -> Outcome<Duration> {
        let began = Instant::now();
        loop {
            let value = self.stat(name)?;
            let elapsed = began.elapsed();
            if enough(value) {
                return Ok(elapsed);
            }
            ensure!(elapsed < within, "{name} is still {value} after {} ms", elapsed.as_millis());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Whether its process runs.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.ended(), Ok(None))
    }

    /// Waits for the end of the process and of its output. A signal counts as 128 + its number, as in a shell.
    pub fn exit_code(&mut self, within: Duration) -> Outcome<i32> {
        let deadline = Instant::now() + within;
        // The end of standard output is what is waited for; the process is gone a moment later.
        self.events.end(within);
        loop {
            if let Some(status) = self.ended()? {
                self.log.end(deadline.saturating_duration_since(Instant::now()));
                return Ok(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)));
            }
            ensure!(Instant::now() < deadline, "the host is still running after {} ms", within.as_millis());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn ended(&mut self) -> std::io::Result<Option<ExitStatus>> {
        if self.status.is_none() {
            self.status = self.child.try_wait()?;
        }
        Ok(self.status)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.stdin = None;
        // Until its end was asked for, its number is its own, and so is its group's.
        if self.status.is_none() {
            let _ = self.group.signal(Signal::SIGKILL);
            let _ = self.child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt as _;
    use std::process::Stdio;

    use super::*;

    /// A host in two lines of shell.
    fn start(script: &str) -> Outcome<(Host, Value)> {
        let mut command = Command::new("sh");
        command.args(["-c", script]).process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Host::start(command, &json!({"options": {}}), |line| serde_json::from_str(line).ok())
    }

    #[test]
    fn it_listens_answers_and_ends_with_its_input() {
        let (mut host, answer) = start(
            r#"read options; echo "no event"; echo "$options" >&2; echo '{"type":"listening","addr":"127.0.0.1:1"}'
            while read line; do echo '{"type":"stats","open":7,"verdicts":{}}'; done; exit 3"#,
        )
        .unwrap();
        assert_eq!((answer["type"].as_str(), &*host.target.address), (Some("listening"), "127.0.0.1:1"));
        assert_eq!((host.stat("open").unwrap(), host.stat("verdicts.internal").unwrap()), (7, 0));
        assert!(host.stat("nothing").is_err() && host.is_alive());
        host.end_input();
        assert_eq!(host.exit_code(PATIENCE).unwrap(), 3);
        assert_eq!(host.log_tail(), r#"{"options":{}}"#);
        assert!(host.tell(&json!({})).is_err());
    }

    #[test]
    fn a_refusal_is_an_answer_and_silence_is_a_failure() {
        let (mut host, answer) = start(r#"echo '{"type":"error","option":"listen"}'; exit 2"#).unwrap();
        assert_eq!((answer["option"].as_str(), host.exit_code(PATIENCE).unwrap()), (Some("listen"), 2));
        for script in ["read options; echo sorry >&2", "echo sorry >&2"] {
            assert_eq!(start(script).unwrap_err().0, "the host did not start; its log ends: sorry");
        }
        assert!(start(r#"read options; echo '{"type":"listening"}'; read end"#).is_err());
    }

    #[test]
    fn a_host_that_stays_is_killed_with_its_children() {
        let script = r#"read options; sleep 60 & echo '{"type":"listening","addr":"127.0.0.1:1"}'; sleep 60"#;
        let (host, _) = start(script).unwrap();
        let group = host.group;
        drop(host);
        let deadline = Instant::now() + PATIENCE;
        while !group.members().is_empty() {
            assert!(Instant::now() < deadline, "{:?} live on", group.members());
            std::thread::yield_now();
        }
    }
}
