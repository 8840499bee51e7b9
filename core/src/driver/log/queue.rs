//! The log's own thread behind a bounded queue: nobody who logs ever waits for whoever reads the log, nor notices that nobody
//! can (a full disk, a closed or full pipe, a stopped consumer, a hook that does not return).
//!
//! What does not fit is counted, and the count is said as soon as something can be.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io;
#[cfg(test)]
use std::io::ErrorKind;
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use once_cell::sync::OnceCell;

use super::record::{LogLevel, LogRecord, LogValue};
use wsguard_proto::lock::lock;

/// Records and bytes that may wait.
const MAX_ITEMS: usize = 8192;
const MAX_BYTES: usize = 1 << 20;
/// How long the end of a server, or of the thread that turned the log on, waits for lines that were said.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(200);
/// How long the thread rests when standard error takes nothing.
pub(super) const RETRY_WAIT: Duration = Duration::from_millis(10);

/// What waits for the thread.
#[derive(Debug)]
pub(super) enum Item {
    /// A line that is written as it is.
    #[cfg_attr(not(any(feature = "stderr-log", test)), expect(dead_code, reason = "lines are for standard error"))]
    Line(Box<[u8]>),
    Record(Box<LogRecord>),
}

impl Item {
    fn bytes(&self) -> usize {
        match self {
            Item::Line(line) => line.len(),
            Item::Record(record) => record.bytes(),
        }
    }
}

/// Where the log of a process goes.
pub(super) trait Output: Send + Sync {
    /// Hands on what was said; `false`: nobody takes it now.
    fn take(&self, item: Item) -> bool;

    /// What tells that so many were lost.
    fn lost(&self, count: u64) -> Item {
        lost_record(count)
    }
}

pub(super) fn lost_record(count: u64) -> Item {
    let mut record = LogRecord::new(LogLevel::Warn, "wsguard");
    record.say("log records were lost: nobody took them in time".to_owned());
    record.push("lost", LogValue::Unsigned(count));
    Item::Record(Box::new(record))
}

static OUTPUT: OnceCell<Box<dyn Output>> = OnceCell::new();

/// Decides where the log of this process goes; `false`: that is decided.
pub(super) fn decide(output: Box<dyn Output>) -> bool {
    OUTPUT.set(output).is_ok()
}

thread_local! {
    static IS_LOG_THREAD: Cell<bool> = const { Cell::new(false) };
}

/// Whether this is the thread of the log.
pub(super) fn is_log_thread() -> bool {
    IS_LOG_THREAD.get()
}

#[derive(Debug, Default)]
struct Waiting {
    items: VecDeque<Item>,
    bytes: usize,
    lost: u64,
    /// The thread works on lines it has taken.
    is_writing: bool,
    /// The last lines could not be written: nobody waits for the next.
    is_stuck: bool,
}

impl Waiting {
    fn push(&mut self, item: Item) {
        let bytes = item.bytes();
        if self.items.len() >= MAX_ITEMS || self.bytes + bytes > MAX_BYTES {
            self.lost += 1;
            return;
        }
        self.bytes += bytes;
        self.items.push_back(item);
    }
}

/// The queue of one process. A child of `fork` has none of its parent's threads, and maybe a lock that nobody will ever
/// open: it makes a queue of its own.
#[derive(Debug)]
pub(super) struct Queue {
    process: u32,
    waiting: Mutex<Waiting>,
    changed: Condvar,
    child: OnceCell<Box<Queue>>,
}

/// A queue without a thread would take lines and never write one. Hence a cell whose start may fail, and is tried again by
/// the next that needs it; the standard library has none that is stable.
static QUEUE: OnceCell<Queue> = OnceCell::new();

impl Queue {
    /// Starts the queue of this process, unless it runs.
    pub(super) fn begin() -> io::Result<()> {
        QUEUE.get_or_try_init(Queue::start).map(drop)
    }

    /// Starts a queue with its thread.
    fn start() -> io::Result<Self> {
        let run = || {
            // The thread may be here before its queue is.
            QUEUE.wait();
            if let Some(queue) = Queue::of_this_process() {
                queue.write_for_ever();
            }
        };
        std::thread::Builder::new().name("wsguard-log".into()).spawn(run)?;
        Ok(Self::of(std::process::id()))
    }

    fn of(process: u32) -> Self {
        Self { process, waiting: Mutex::default(), changed: Condvar::new(), child: OnceCell::new() }
    }

    /// The queue of this process; `None`: the log was never turned on, or this process cannot start a thread now.
    pub(super) fn of_this_process() -> Option<&'static Queue> {
        QUEUE.get()?.of_process(std::process::id(), Queue::start).ok()
    }

    /// The queue of `process`, which is this one's or that of a child, started where there is none yet.
    fn of_process(&self, process: u32, start: impl Fn() -> io::Result<Self>) -> io::Result<&Self> {
        let mut queue = self;
        while queue.process != process {
            queue = queue.child.get_or_try_init(|| start().map(Box::new))?;
        }
        Ok(queue)
    }

    /// The same, if this process has said anything.
    fn in_use() -> Option<&'static Queue> {
        let process = std::process::id();
        let mut queue = QUEUE.get()?;
        while queue.process != process {
            queue = queue.child.get()?;
        }
        Some(queue)
    }

    pub(super) fn push(&self, item: Item) {
        lock(&self.waiting).push(item);
        self.changed.notify_all();
    }

    /// Takes what waits, or waits for it.
    fn take(&self, items: &mut VecDeque<Item>) -> u64 {
        let mut waiting = lock(&self.waiting);
        waiting.is_writing = false;
        self.changed.notify_all();
        while waiting.items.is_empty() {
            waiting = self.changed.wait(waiting).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
        waiting.is_writing = true;
        waiting.bytes = 0;
        core::mem::swap(&mut waiting.items, items);
        core::mem::take(&mut waiting.lost)
    }

    fn write_for_ever(&self) {
        IS_LOG_THREAD.set(true);
        let mut items = VecDeque::new();
        loop {
            let mut lost = self.take(&mut items);
            // Nothing is said before it is decided where to.
            let Some(output) = OUTPUT.get() else {
                items.clear();
                continue;
            };
            if lost > 0 && output.take(output.lost(lost)) {
                lost = 0;
            }
            let mut is_stuck = false;
            for item in items.drain(..) {
                // Once standard error takes nothing, it does not get better within one handful of lines.
                if is_stuck || !output.take(item) {
                    is_stuck = true;
                    lost += 1;
                }
            }
            let mut waiting = lock(&self.waiting);
            waiting.lost += lost;
            waiting.is_stuck = is_stuck;
            drop(waiting);
            if is_stuck {
                std::thread::sleep(RETRY_WAIT);
            }
        }
    }

    /// Waits until all that was said is written, if that is soon.
    fn flush(&self) {
        let deadline = Instant::now() + FLUSH_TIMEOUT;
        let mut waiting = lock(&self.waiting);
        while (!waiting.items.is_empty() || waiting.is_writing) && !waiting.is_stuck {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            waiting = match self.changed.wait_timeout(waiting, left) {
                Ok((waiting, _)) => waiting,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }
}

/// Writes to standard error without the lock of `std::io::Stderr`, which others of this process may wait for.
pub(super) fn write_some(bytes: &[u8]) -> io::Result<usize> {
    #[cfg(target_os = "linux")]
    return rustix::io::write(rustix::stdio::stderr(), bytes).map_err(Into::into);
    #[cfg(not(target_os = "linux"))]
    return io::Write::write(&mut io::stderr(), bytes);
}

/// Waits a moment for what was said to be handed on.
pub(in crate::driver) fn flush() {
    // The thread of the log, in a hook, would wait for itself.
    if let Some(queue) = Queue::in_use()
        && !is_log_thread()
    {
        queue.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(line: &[u8]) -> Item {
        Item::Line(line.into())
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        let mut waiting = Waiting::default();
        for _ in 0..=MAX_ITEMS {
            waiting.push(item(b"x"));
        }
        assert_eq!((waiting.items.len(), waiting.lost), (MAX_ITEMS, 1));
        let mut waiting = Waiting::default();
        waiting.push(item(&vec![b'x'; MAX_BYTES]));
        waiting.push(item(b"y"));
        waiting.push(item(&vec![b'x'; MAX_BYTES + 1]));
        assert_eq!((waiting.items.len(), waiting.bytes, waiting.lost), (1, MAX_BYTES, 2));
        // A record counts with all that it holds.
        let mut record = LogRecord::new(LogLevel::Info, "wsguard");
        record.say("x".repeat(MAX_BYTES));
        let mut waiting = Waiting::default();
        waiting.push(Item::Record(Box::new(record)));
        assert_eq!((waiting.items.len(), waiting.lost), (0, 1));
    }

    #[test]
    fn a_queue_that_could_not_be_started_is_started_by_the_next_that_needs_it() {
        let parent = Queue::of(1);
        let no_thread = || Err(ErrorKind::WouldBlock.into());
        assert_eq!(parent.of_process(2, no_thread).unwrap_err().kind(), ErrorKind::WouldBlock);
        let child = parent.of_process(2, || Ok(Queue::of(2))).unwrap();
        child.push(item(b"line"));
        let again = parent.of_process(2, no_thread).unwrap();
        assert_eq!((again.process, lock(&again.waiting).items.len()), (2, 1));
        assert_eq!(parent.of_process(1, no_thread).unwrap().process, 1);
    }

    #[test]
    fn a_queue_that_nobody_writes_from_costs_a_flush_its_patience_and_no_more() {
        let queue = Queue::of(0);
        queue.push(item(b"line"));
        let began = Instant::now();
        queue.flush();
        assert!(began.elapsed() >= FLUSH_TIMEOUT);
        lock(&queue.waiting).is_stuck = true;
        queue.flush();
    }
}
