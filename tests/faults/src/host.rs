//! One test host process (HOST.md). It never outlives its test: it is killed on drop with its whole process group, and
//! a test that dies closes the host's standard input, which ends it, too.

use std::collections::VecDeque;
use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, PipeReader, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::client::PATIENCE;
use crate::outcome::{Failure, Outcome};
use crate::process::Group;
use crate::wire::Target;
use crate::{ensure, fail};

/// Where a host's standard error goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Log {
    /// To this test, which reads it.
    #[default]
    Read,
    /// Nowhere: the descriptor is closed.
    Closed,
    /// To a disk that is full.
    FullDisk,
    /// To a pipe whose reader is gone.
    BrokenPipe,
    /// To a pipe that is full and that nobody reads: whoever writes waits.
    FullPipe,
    /// To the same, where whoever writes is told that it is full.
    FullPipeThatDoesNotBlock,
}

impl Log {
    /// Where the host writes, and what must stay open meanwhile.
    fn open(self) -> Outcome<(Stdio, Option<PipeReader>)> {
        let (reader, writer) = match self {
            Log::Read => return Ok((Stdio::piped(), None)),
            Log::Closed => return Ok((Stdio::null(), None)),
            Log::FullDisk => return Ok((OpenOptions::new().write(true).open("/dev/full")?.into(), None)),
            Log::BrokenPipe | Log::FullPipe | Log::FullPipeThatDoesNotBlock => std::io::pipe()?,
        };
        if self == Log::BrokenPipe {
            return Ok((writer.into(), None));
        }
        rustix::io::ioctl_fionbio(&writer, true)?;
        while (&writer).write(&[b'.'; 4096]).is_ok() {}
        rustix::io::ioctl_fionbio(&writer, self == Log::FullPipeThatDoesNotBlock)?;
        Ok((writer.into(), Some(reader)))
    }
}

/// How a host is started.
#[derive(Clone, Debug)]
pub struct Setup {
    options: Value,
    app: Value,
    quiet: bool,
    descriptors: Option<u32>,
    environment: Vec<(String, String)>,
    log: Log,
}

impl Setup {
    /// With options as in CONFIG.md. Without `listen` it takes any free port of 127.0.0.1.
    pub fn new(mut options: Value) -> Self {
        if let Some(options) = options.as_object_mut() {
            options.entry("listen").or_insert_with(|| "127.0.0.1:0".into());
        }
        Self { options, app: json!({}), quiet: true, descriptors: None, environment: Vec::new(), log: Log::Read }
    }

    /// Changes one option.
    #[must_use]
    pub fn option(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.options[name] = value.into();
        self
    }

    /// What its application is told.
    #[must_use]
    pub fn app(mut self, app: Value) -> Self {
        self.app = app;
        self
    }

    /// It prints its events.
    #[must_use]
    pub fn with_events(mut self) -> Self {
        self.quiet = false;
        self
    }

    /// It starts with this limit of open files.
    #[must_use]
    pub fn descriptors(mut self, limit: u32) -> Self {
        self.descriptors = Some(limit);
        self
    }

    /// With a variable in its environment.
    #[must_use]
    pub fn environment(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Its standard error goes there.
    #[must_use]
    pub fn log(mut self, log: Log) -> Self {
        self.log = log;
        self
    }

    /// Starts it and waits until it listens.
    pub fn start(self, run: &Path) -> Outcome<Host> {
        let before = match (self.descriptors, self.log) {
            (Some(limit), _) => Some(format!("ulimit -n {limit} && exec \"$0\" \"$@\"")),
            (None, Log::Closed) => Some("exec \"$0\" \"$@\" 2>&-".to_owned()),
            (None, _) => None,
        };
        let mut command = match before {
            None => Command::new(run),
            Some(script) => {
                let mut command = Command::new("sh");
                command.arg("-c").arg(script).arg(run);
                command
            }
        };
        let (stderr, unread) = self.log.open()?;
        command.args(self.quiet.then_some("--quiet")).envs(self.environment);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(stderr).process_group(0);
        let mut child = command.spawn().map_err(|error| Failure(format!("{}: {error}", run.display())))?;
        // It holds the descriptors of standard error, and a reader that is to be gone would wait for them.
        drop(command);
        let group = Group::of(child.id())?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return fail!("the host has no pipes");
        };
        let stderr: Box<dyn Read + Send> = match child.stderr.take() {
            Some(stderr) => Box::new(stderr),
            None => Box::new(std::io::empty()),
        };
        // There may be very many messages, and no test asks for them.
        let event = |line: &str| serde_json::from_str::<Value>(line).ok().filter(|event| event["type"] != "message");
        let (events, event_reader) = Feed::of(stdout, event);
        let (log, log_reader) = Feed::of(stderr, |line| Some(line.to_owned()));
        let readers = vec![event_reader, log_reader];
        let target = Target::plain("");
        let mut host = Host { child, group, stdin: Some(stdin), events, log, readers, target, _unread: unread };
        host.tell(&json!({"options": self.options, "app": self.app}))?;
        let Some(first) = host.event(PATIENCE, |event| event["type"] == "listening" || event["type"] == "error") else {
            return fail!("the host did not start: {}", host.log_tail());
        };
        let Some(address) = first["addr"].as_str() else { return fail!("the host refused its options: {first}") };
        address.clone_into(&mut host.target.address);
        Ok(host)
    }
}

/// What comes out of a pipe, and who waits for it.
#[derive(Debug)]
struct Feed<T> {
    items: Mutex<(VecDeque<T>, bool)>,
    changed: Condvar,
}

impl<T: Send + 'static> Feed<T> {
    /// Reads lines until the pipe ends; `keep` decides what is kept of each.
    fn of(
        pipe: impl Read + Send + 'static,
        keep: impl Fn(&str) -> Option<T> + Send + 'static,
    ) -> (Arc<Self>, JoinHandle<()>) {
        let feed = Arc::new(Self { items: Mutex::default(), changed: Condvar::new() });
        let shared = Arc::clone(&feed);
        let thread = std::thread::spawn(move || {
            let mut reader = BufReader::new(pipe);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
                let kept = keep(&String::from_utf8_lossy(line.strip_suffix(b"\n").unwrap_or(&line)));
                shared.with(|(items, _)| items.extend(kept));
                line.clear();
            }
            shared.with(|(_, ended)| *ended = true);
        });
        (feed, thread)
    }

    fn with<R>(&self, change: impl FnOnce(&mut (VecDeque<T>, bool)) -> R) -> R {
        let result = change(&mut self.items.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
        result
    }

    /// Takes the first that is wanted; `None`: it did not come in time, or the pipe has ended.
    fn take(&self, within: Duration, wanted: impl Fn(&T) -> bool) -> Option<T> {
        let deadline = Instant::now() + within;
        let mut guard = self.items.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(at) = guard.0.iter().position(&wanted) {
                return guard.0.remove(at);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || guard.1 {
                return None;
            }
            guard = self.changed.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// A running host.
#[derive(Debug)]
pub struct Host {
    child: Child,
    /// Its processes.
    pub group: Group,
    stdin: Option<ChildStdin>,
    events: Arc<Feed<Value>>,
    log: Arc<Feed<String>>,
    readers: Vec<JoinHandle<()>>,
    /// A log that nobody reads.
    _unread: Option<PipeReader>,
    /// Where it listens, without TLS.
    pub target: Target,
}

impl Host {
    /// Gives it a command without waiting for the answer.
    pub fn tell(&mut self, line: &Value) -> Outcome {
        let Some(stdin) = &mut self.stdin else { return fail!("the host's input is closed") };
        writeln!(stdin, "{line}").map_err(|error| Failure(format!("the host does not read: {error}")))?;
        Ok(stdin.flush()?)
    }

    /// Takes the first event that `wanted` accepts.
    pub fn event(&self, within: Duration, wanted: impl Fn(&Value) -> bool) -> Option<Value> {
        self.events.take(within, wanted)
    }

    /// Takes every event that has come.
    pub fn events_so_far(&self) -> Vec<Value> {
        self.events.with(|(events, _)| std::mem::take(events)).into()
    }

    /// Takes every log line that has come.
    pub fn log_so_far(&self) -> Vec<String> {
        self.log.with(|(lines, _)| std::mem::take(lines)).into()
    }

    /// The end of its log, for a failure's line.
    pub fn log_tail(&self) -> String {
        let lines = self.log.with(|(lines, _)| lines.iter().rev().take(3).cloned().collect::<Vec<_>>());
        lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
    }

    /// Gives it a command and returns its answer.
    pub fn command(&mut self, command: &Value) -> Outcome<Value> {
        self.tell(command)?;
        let answer = self.event(PATIENCE, |event| {
            event["type"] == "done" && event["do"] == command["do"] || event["type"] == "stats"
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
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for the end of the process; a signal counts as 128 + its number.
    pub fn exit_code(&mut self, within: Duration) -> Outcome<i32> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)));
            }
            ensure!(Instant::now() < deadline, "the host still runs after {} ms", within.as_millis());
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.stdin = None;
        if self.is_alive() {
            let _ = self.group.signal(Signal::KILL);
            let _ = self.child.wait();
        }
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
    }
}
