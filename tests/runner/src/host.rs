//! One test host process: its start, its events and its log, and its end. A host never outlives its scenario: it is
//! killed on drop with its whole process group, and a runner that dies closes its standard input, which ends it too.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::failure::{Failure, Outcome, fail};
use crate::matcher::matches;

/// Lines that a thread reads from a pipe, and who waits for them.
#[derive(Debug)]
struct Feed<T> {
    state: Mutex<FeedState<T>>,
    changed: Condvar,
}

/// The key under which every event carries its place in the host's output.
pub(crate) const PLACE: &str = "#";

#[derive(Debug)]
struct FeedState<T> {
    items: Vec<T>,
    ended: bool,
}

impl<T: Send + 'static> Feed<T> {
    fn of(
        pipe: impl std::io::Read + Send + 'static,
        mut read: impl FnMut(&str) -> T + Send + 'static,
    ) -> (Arc<Self>, JoinHandle<()>) {
        let feed = Arc::new(Self {
            state: Mutex::new(FeedState { items: Vec::new(), ended: false }),
            changed: Condvar::new(),
        });
        let shared = feed.clone();
        let thread = std::thread::spawn(move || {
            let mut lines = BufReader::new(pipe);
            let mut line = Vec::new();
            while lines.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
                let item = read(String::from_utf8_lossy(&line).trim_end_matches('\n'));
                shared.with(|state| state.items.push(item));
                line.clear();
            }
            shared.with(|state| state.ended = true);
        });
        (feed, thread)
    }

    fn with<R>(&self, change: impl FnOnce(&mut FeedState<T>) -> R) -> R {
        let result = change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
        result
    }

    /// Waits until `pick` finds something, the feed ends, or the deadline passes.
    fn wait<R>(&self, deadline: Instant, mut pick: impl FnMut(&mut Vec<T>) -> Option<R>) -> Option<R> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(found) = pick(&mut state.items) {
                return Some(found);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || state.ended {
                return None;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// A running host.
#[derive(Debug)]
pub(crate) struct Host {
    child: Child,
    stdin: Option<ChildStdin>,
    events: Arc<Feed<Value>>,
    log: Arc<Feed<String>>,
    readers: Vec<JoinHandle<()>>,
}

/// How the host answered its options.
#[derive(Debug)]
pub(crate) enum Started {
    Listening(String),
    Refused(Value),
}

const PATIENCE: Duration = Duration::from_secs(10);

impl Host {
    /// Starts `run` and hands it the first line.
    pub(crate) fn start(run: &Path, first_line: &Value) -> Outcome<(Self, Started)> {
        let mut child = Command::new(run)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(|error| format!("{}: {error}", run.display()))?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(stdin), Some(stdout), Some(stderr)) = pipes else { return fail!("the host has no pipes") };
        let mut place = 0;
        let (events, reader) = Feed::of(stdout, move |line| {
            let mut event: Value =
                serde_json::from_str(line).unwrap_or_else(|_| serde_json::json!({"type": "not json", "line": line}));
            place += 1;
            if let Some(event) = event.as_object_mut() {
                event.insert(PLACE.into(), place.into());
            }
            event
        });
        let (log, log_reader) = Feed::of(stderr, str::to_owned);
        let mut host = Self { child, stdin: Some(stdin), events, log, readers: vec![reader, log_reader] };
        host.tell(first_line)?;
        let first = host.events.wait(Instant::now() + PATIENCE, |events| {
            let index = events.iter().position(|event| event["type"] == "listening" || event["type"] == "error")?;
            Some(events.remove(index))
        });
        match first {
            Some(line) if line["type"] == "error" => Ok((host, Started::Refused(line))),
            Some(line) => match line["addr"].as_str().map(str::to_owned) {
                Some(address) => Ok((host, Started::Listening(address))),
                None => fail!("the host named no address: {line}"),
            },
            None => fail!("the host did not start; its log ends: {:?}", host.log_tail()),
        }
    }

    /// Writes one line to the host.
    pub(crate) fn tell(&mut self, line: &Value) -> Outcome {
        let Some(stdin) = &mut self.stdin else { return fail!("the host's input is closed") };
        writeln!(stdin, "{line}").map_err(|error| Failure(format!("the host does not read: {error}")))?;
        Ok(stdin.flush()?)
    }

    /// Ends the host's input: it drains and exits.
    pub(crate) fn end_input(&mut self) {
        self.stdin = None;
    }

    pub(crate) fn signal_terminate(&self) -> Outcome {
        self.signal(rustix::process::Signal::TERM)
    }

    fn signal(&self, signal: rustix::process::Signal) -> Outcome {
        let Some(group) = rustix::process::Pid::from_raw(self.child.id().cast_signed()) else {
            return fail!("no process");
        };
        rustix::process::kill_process_group(group, signal).map_err(|error| Failure(error.to_string()))
    }

    /// Waits for the first event that matches, takes it and returns it.
    pub(crate) fn take_event(&self, wanted: &Value, within: Duration) -> Outcome<Value> {
        let found = self.events.wait(Instant::now() + within, |events| {
            let index = events.iter().position(|event| matches(wanted, Some(event)))?;
            Some(events.remove(index))
        });
        found.map_or_else(|| fail!("expected the event {wanted}, came: {}", self.shown_events()), Ok)
    }

    /// Takes every matching event that has come so far.
    pub(crate) fn take_events(&self, wanted: &Value) -> Vec<Value> {
        self.events.with(|state| {
            let (taken, kept) =
                std::mem::take(&mut state.items).into_iter().partition(|event| matches(wanted, Some(event)));
            state.items = kept;
            taken
        })
    }

    /// Waits until at least `count` events match; returns how many do then.
    pub(crate) fn count_events(&self, wanted: &Value, count: usize, within: Duration) -> usize {
        let counted = |events: &Vec<Value>| events.iter().filter(|event| matches(wanted, Some(event))).count();
        self.events.wait(Instant::now() + within, |events| (counted(events) >= count).then_some(()));
        self.events.with(|state| counted(&state.items))
    }

    /// Events nobody has taken, as one line.
    pub(crate) fn shown_events(&self) -> String {
        let events = self.events.with(|state| {
            let skipped = state.items.len().saturating_sub(6);
            let shown = state.items.iter().skip(skipped).map(ToString::to_string).collect::<Vec<_>>();
            if skipped > 0 { format!("({skipped} more) {}", shown.join(" ")) } else { shown.join(" ") }
        });
        if events.is_empty() { "nothing".into() } else { events }
    }

    /// Waits until `count` log lines satisfy `wanted`; returns how many do.
    pub(crate) fn count_log(&self, wanted: impl Fn(&str) -> bool, count: usize, within: Duration) -> usize {
        let counted = |lines: &Vec<String>| lines.iter().filter(|line| wanted(line)).count();
        self.log.wait(Instant::now() + within, |lines| (counted(lines) >= count).then_some(()));
        self.log.with(|state| counted(&state.items))
    }

    /// The last log lines.
    pub(crate) fn log_tail(&self) -> Vec<String> {
        self.log.with(|state| state.items.iter().rev().take(4).rev().cloned().collect())
    }

    /// Whether an event, as the host wrote it, contains `text`.
    pub(crate) fn event_contains(&self, text: &str) -> bool {
        self.events.with(|state| state.items.iter().any(|event| event.to_string().contains(text)))
    }

    /// Waits for the end of the process and of its output. A signal counts as 128 + its number, as in a shell.
    pub(crate) fn exit_code(&mut self, within: Duration) -> Outcome<i32> {
        let deadline = Instant::now() + within;
        // The end of standard output is what is waited for; the process is gone a moment later.
        self.events.wait(deadline, |_| None::<()>);
        loop {
            if let Some(status) = self.child.try_wait()? {
                self.log.wait(deadline, |_| None::<()>);
                return Ok(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)));
            }
            if Instant::now() >= deadline {
                return fail!("the host is still running after {} ms", within.as_millis());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Resident memory of the host and its children, in KiB.
    pub(crate) fn resident_kib(&self) -> u64 {
        resident_kib(self.child.id())
    }
}

fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let own = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok())
        .unwrap_or(0);
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    own + children.split_whitespace().filter_map(|child| child.parse().ok()).map(resident_kib).sum::<u64>()
}

impl Drop for Host {
    fn drop(&mut self) {
        self.stdin = None;
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.signal(rustix::process::Signal::KILL);
            let _ = self.child.wait();
        }
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
    }
}
