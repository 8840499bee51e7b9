//! Standard error behind a bounded queue and a thread of its own: nobody who logs ever waits for whoever reads the log, nor
//! notices that nobody can (a full disk, a closed or full pipe, a stopped consumer).
//!
//! Lines that do not fit are counted, and the count is written as soon as lines can be.

use std::cell::Cell;
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::{self, ErrorKind};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use once_cell::sync::OnceCell;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

use wsguard_proto::bucket::{Bucket, Rate};
use wsguard_proto::lock::lock;
use wsguard_proto::time::Moment;

/// Lines and bytes that may wait.
const MAX_LINES: usize = 8192;
const MAX_BYTES: usize = 1 << 20;
/// How long the end of a server, or of the thread that turned the log on, waits for lines that were said.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(200);
/// How long the thread rests when standard error takes nothing.
const RETRY_WAIT: Duration = Duration::from_millis(10);

#[derive(Debug, Default)]
struct Waiting {
    lines: VecDeque<Box<[u8]>>,
    bytes: usize,
    lost: u64,
    /// The thread works on lines it has taken.
    is_writing: bool,
    /// The last lines could not be written: nobody waits for the next.
    is_stuck: bool,
}

impl Waiting {
    fn push(&mut self, line: &[u8]) {
        if self.lines.len() >= MAX_LINES || self.bytes + line.len() > MAX_BYTES {
            self.lost += 1;
            return;
        }
        self.bytes += line.len();
        self.lines.push_back(line.into());
    }
}

/// The queue of one process. A child of `fork` has none of its parent's threads, and maybe a lock that nobody will ever
/// open: it makes a queue of its own.
#[derive(Debug)]
struct Queue {
    process: u32,
    waiting: Mutex<Waiting>,
    changed: Condvar,
    child: OnceCell<Box<Queue>>,
}

/// A queue without a thread would take lines and never write one. Hence a cell whose start may fail, and is tried again by
/// the next that needs it; the standard library has none that is stable.
static QUEUE: OnceCell<Queue> = OnceCell::new();

impl Queue {
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
    fn of_this_process() -> Option<&'static Queue> {
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

    fn push(&self, line: &[u8]) {
        lock(&self.waiting).push(line);
        self.changed.notify_all();
    }

    /// Takes what waits, or waits for it.
    fn take(&self, lines: &mut VecDeque<Box<[u8]>>) -> u64 {
        let mut waiting = lock(&self.waiting);
        waiting.is_writing = false;
        self.changed.notify_all();
        while waiting.lines.is_empty() {
            waiting = self.changed.wait(waiting).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
        waiting.is_writing = true;
        waiting.bytes = 0;
        core::mem::swap(&mut waiting.lines, lines);
        core::mem::take(&mut waiting.lost)
    }

    fn write_for_ever(&self) {
        let mut lines = VecDeque::new();
        loop {
            let mut lost = self.take(&mut lines);
            if lost > 0 && write_whole(lost_line(lost).as_bytes()).is_ok() {
                lost = 0;
            }
            let mut is_stuck = false;
            for line in lines.drain(..) {
                // Once standard error takes nothing, it does not get better within one handful of lines.
                if is_stuck || write_whole(&line).is_err() {
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
        while (!waiting.lines.is_empty() || waiting.is_writing) && !waiting.is_stuck {
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

fn lost_line(lost: u64) -> String {
    let mut line = String::new();
    let _ = SystemTime.format_time(&mut Writer::new(&mut line));
    let _ = writeln!(line, "  WARN wsguard: lost={lost} log lines were lost: standard error did not take them in time");
    line
}

/// Writes to standard error without the lock of `std::io::Stderr`, which others of this process may wait for.
fn write_some(bytes: &[u8]) -> io::Result<usize> {
    #[cfg(target_os = "linux")]
    return rustix::io::write(rustix::stdio::stderr(), bytes).map_err(Into::into);
    #[cfg(not(target_os = "linux"))]
    return io::Write::write(&mut io::stderr(), bytes);
}

/// Writes a line, however long the reader takes. An error: there is no reader, or no room for what it keeps.
fn write_whole(mut line: &[u8]) -> io::Result<()> {
    while !line.is_empty() {
        match write_some(line) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => line = &line[written..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // A pipe that does not block, and is full. Meanwhile the queue fills, and then it drops.
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(RETRY_WAIT),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// One record on its way to the queue.
#[derive(Debug)]
struct Line;

impl io::Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(queue) = Queue::of_this_process() {
            queue.push(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Waits for the last lines where a thread ends, which for the thread of `main` is the end of the process.
struct FlushAtExit;

impl Drop for FlushAtExit {
    fn drop(&mut self) {
        flush();
    }
}

thread_local! {
    static FLUSH_AT_EXIT: Cell<Option<FlushAtExit>> = const { Cell::new(None) };
    /// This thread's panics are caught: they must not make it wait for standard error either.
    static IS_GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Sends the log to standard error in the plain one-line form, unless a `tracing` subscriber is set already.
///
/// A thread of its own writes, from a queue of at most 1 MiB: nobody who logs waits for standard error, whether it is a
/// full disk, a closed pipe or one that nobody reads. Lines that do not fit are dropped and counted, and a line with the
/// count follows (`lost=…`). The end of a server, and that of the thread that calls this, waits for lines already said,
/// at most 200 ms. A child of `fork` gets a thread of its own. Where the thread cannot be started, one line says so on
/// standard error, nothing else is logged, and a later call tries again.
///
/// Panics that the server catches (in a handler of [`Server::run`](crate::Server::run), in an
/// [`Inline`](crate::Inline) handler) are written the same way, in place of the panic hook that was set before; a hook
/// that is set later is called instead.
pub fn log_to_stderr() {
    #[cfg(unix)]
    occupy_standard_descriptors();
    if tracing::dispatcher::has_been_set() {
        return;
    }
    if let Err(error) = QUEUE.get_or_try_init(Queue::start) {
        let _ = write_some(format!("wsguard: cannot start the thread of the log: {error}\n").as_bytes());
        return;
    }
    let subscriber =
        tracing_subscriber::fmt().with_ansi(false).log_internal_errors(false).with_writer(|| Line).finish();
    if tracing::subscriber::set_global_default(subscriber).is_err() {
        return;
    }
    FLUSH_AT_EXIT.set(Some(FlushAtExit));
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| if IS_GUARDED.get() { write_panic(panic) } else { before(panic) }));
}

/// Where standard error is closed, the next socket would be given its number, and a peer would read the log.
#[cfg(unix)]
fn occupy_standard_descriptors() {
    use std::os::fd::{AsRawFd as _, IntoRawFd as _};
    while let Ok(nowhere) = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")
        && nowhere.as_raw_fd() <= 2
    {
        // Stays open for the life of the process, as the standard descriptors do.
        let _ = nowhere.into_raw_fd();
    }
}

/// Waits a moment for what was said to be written.
pub(in crate::driver) fn flush() {
    if let Some(queue) = Queue::in_use() {
        queue.flush();
    }
}

/// Whether this thread's panics are caught, from now on; what it was before.
pub(in crate::driver) fn guard_panics(is_guarded: bool) -> bool {
    IS_GUARDED.replace(is_guarded)
}

/// What was written of panics lately: a peer may know how to bring one about.
#[derive(Debug)]
struct Panics {
    since: Instant,
    bucket: Bucket,
    suppressed: u64,
}

static PANICS: Mutex<Option<Panics>> = Mutex::new(None);

impl Panics {
    /// How many were suppressed before this one; `None`: this one is, too.
    fn pass(&mut self, now: Moment) -> Option<u64> {
        if self.bucket.try_pour(&Rate::new(1.0, 20.0), 1, now).is_err() {
            self.suppressed += 1;
            return None;
        }
        Some(core::mem::take(&mut self.suppressed))
    }
}

/// Not by `tracing`: the panic may be its subscriber's.
fn write_panic(panic: &std::panic::PanicHookInfo<'_>) {
    // Who panics at the same moment need not wait, and a child of `fork` must not.
    let Ok(mut panics) = PANICS.try_lock() else { return };
    let new = || Panics { since: Instant::now(), bucket: Bucket::default(), suppressed: 0 };
    let panics = panics.get_or_insert_with(new);
    let elapsed = u64::try_from(panics.since.elapsed().as_nanos()).unwrap_or(u64::MAX);
    let Some(suppressed) = panics.pass(Moment::from_nanos(elapsed)) else { return };
    let mut line = String::new();
    let _ = SystemTime.format_time(&mut Writer::new(&mut line));
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("-");
    let _ = writeln!(line, " ERROR wsguard: thread={name} suppressed={suppressed} {}", harmless(&panic.to_string()));
    let trace = std::backtrace::Backtrace::capture();
    if trace.status() == std::backtrace::BacktraceStatus::Captured {
        let _ = writeln!(line, "{trace}");
    }
    let _ = io::Write::write(&mut Line, line.as_bytes());
}

/// What a panic says on one line: it may carry what a peer sent, which must not end the line, steer a terminal, or look like
/// a record of a verdict.
fn harmless(text: &str) -> String {
    let one_line: String = text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
    one_line.replace("wsguard::", "wsguard:\\:")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_with_a_peers_words_is_one_line_and_no_record() {
        let text = "bad \r\n\u{1b}[31m WARN wsguard::verdict: code=bad_frame ip=192.0.2.1 ";
        assert_eq!(harmless(text), "bad    [31m WARN wsguard:\\:verdict: code=bad_frame ip=192.0.2.1 ");
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        let mut waiting = Waiting::default();
        for _ in 0..=MAX_LINES {
            waiting.push(b"x");
        }
        assert_eq!((waiting.lines.len(), waiting.lost), (MAX_LINES, 1));
        let mut waiting = Waiting::default();
        waiting.push(&vec![b'x'; MAX_BYTES]);
        waiting.push(b"y");
        waiting.push(&vec![b'x'; MAX_BYTES + 1]);
        assert_eq!((waiting.lines.len(), waiting.bytes, waiting.lost), (1, MAX_BYTES, 2));
    }

    #[test]
    fn panics_are_sampled() {
        let mut panics = Panics { since: Instant::now(), bucket: Bucket::default(), suppressed: 0 };
        let now = Moment::from_millis(1);
        assert_eq!((0..100).filter(|_| panics.pass(now).is_some()).count(), 20);
        assert_eq!(panics.pass(now.after_millis(1000)), Some(80));
    }

    #[test]
    fn a_queue_that_could_not_be_started_is_started_by_the_next_that_needs_it() {
        let parent = Queue::of(1);
        let no_thread = || Err(ErrorKind::WouldBlock.into());
        assert_eq!(parent.of_process(2, no_thread).unwrap_err().kind(), ErrorKind::WouldBlock);
        let child = parent.of_process(2, || Ok(Queue::of(2))).unwrap();
        child.push(b"line");
        let again = parent.of_process(2, no_thread).unwrap();
        assert_eq!((again.process, lock(&again.waiting).lines.len()), (2, 1));
        assert_eq!(parent.of_process(1, no_thread).unwrap().process, 1);
    }

    #[test]
    fn a_queue_that_nobody_writes_from_costs_a_flush_its_patience_and_no_more() {
        let queue = Queue::of(0);
        queue.push(b"line");
        let began = Instant::now();
        queue.flush();
        assert!(began.elapsed() >= FLUSH_TIMEOUT);
        lock(&queue.waiting).is_stuck = true;
        queue.flush();
    }
}
