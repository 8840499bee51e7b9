//! Standard error as the place of the log, in one of two forms, and the panics that a server catches.

use std::cell::Cell;
use std::fmt::Write as _;
use std::io::{self, ErrorKind};
use std::sync::Mutex;
use std::time::Instant;

use super::queue::{Item, Output, Queue, RETRY_WAIT, decide, flush, lost_record, write_some};
use super::record::{LogLevel, LogRecord, LogValue, now_unix_us, push_time};
use super::tap::Tap;
use wsguard_proto::bucket::{Bucket, Rate};
use wsguard_proto::time::Moment;

/// The form of the log on standard error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum LogFormat {
    /// `2026-01-01T00:00:00.000000Z  WARN wsguard::verdict: code=origin_denied ip=203.0.113.7 …`: for people and fail2ban.
    #[default]
    Plain,
    /// One JSON object in each line: [`LogRecord::to_json`].
    Json,
}

impl Output for LogFormat {
    fn take(&self, item: Item) -> bool {
        match item {
            Item::Line(line) => write_whole(&line).is_ok(),
            Item::Record(record) => write_whole((record.to_json() + "\n").as_bytes()).is_ok(),
        }
    }

    fn lost(&self, count: u64) -> Item {
        match self {
            LogFormat::Plain => lost_line(count),
            LogFormat::Json => lost_record(count),
        }
    }
}

fn lost_line(lost: u64) -> Item {
    let mut line = String::new();
    push_time(&mut line, now_unix_us());
    let _ = writeln!(line, "  WARN wsguard: lost={lost} log lines were lost: standard error did not take them in time");
    Item::Line(line.into_bytes().into())
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
            queue.push(Item::Line(bytes.into()));
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
    log_to_stderr_as(LogFormat::Plain);
}

/// As [`log_to_stderr`], in this form. In JSON each record is an object with `time` (RFC 3339, UTC), `level`, `target`, `message`
/// where there is one, and its fields: numbers and booleans as such, `null` where the plain form has `-`.
pub fn log_to_stderr_as(format: LogFormat) {
    #[cfg(unix)]
    occupy_standard_descriptors();
    if tracing::dispatcher::has_been_set() {
        return;
    }
    if let Err(error) = Queue::begin() {
        let _ = write_some(format!("wsguard: cannot start the thread of the log: {error}\n").as_bytes());
        return;
    }
    if !decide(Box::new(format)) || !subscribe(format) {
        return;
    }
    FLUSH_AT_EXIT.set(Some(FlushAtExit));
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(
        move |panic| if IS_GUARDED.get() { write_panic(panic, format) } else { before(panic) },
    ));
}

/// Hears of every event; `false`: another subscriber does.
fn subscribe(format: LogFormat) -> bool {
    let plain = || tracing_subscriber::fmt().with_ansi(false).log_internal_errors(false).with_writer(|| Line).finish();
    let set = match format {
        LogFormat::Plain => tracing::subscriber::set_global_default(plain()),
        LogFormat::Json => tracing::subscriber::set_global_default(Tap::new(LogLevel::Info, false)),
    };
    set.is_ok()
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
fn write_panic(panic: &std::panic::PanicHookInfo<'_>, format: LogFormat) {
    // Who panics at the same moment need not wait, and a child of `fork` must not.
    let Ok(mut panics) = PANICS.try_lock() else { return };
    let new = || Panics { since: Instant::now(), bucket: Bucket::default(), suppressed: 0 };
    let panics = panics.get_or_insert_with(new);
    let elapsed = u64::try_from(panics.since.elapsed().as_nanos()).unwrap_or(u64::MAX);
    let Some(suppressed) = panics.pass(Moment::from_nanos(elapsed)) else { return };
    let thread = std::thread::current();
    let (name, text) = (thread.name().unwrap_or("-"), harmless(&panic.to_string()));
    let trace = std::backtrace::Backtrace::capture();
    let has_trace = trace.status() == std::backtrace::BacktraceStatus::Captured;
    let Some(queue) = Queue::of_this_process() else { return };
    if format == LogFormat::Plain {
        let mut line = String::new();
        push_time(&mut line, now_unix_us());
        let _ = writeln!(line, " ERROR wsguard: thread={name} suppressed={suppressed} {text}");
        if has_trace {
            let _ = writeln!(line, "{trace}");
        }
        return queue.push(Item::Line(line.into_bytes().into()));
    }
    let mut record = LogRecord::new(LogLevel::Error, "wsguard");
    record.say(text);
    record.push("thread", LogValue::Text(name.to_owned()));
    record.push("suppressed", LogValue::Unsigned(suppressed));
    if has_trace {
        record.push("backtrace", LogValue::Text(trace.to_string()));
    }
    queue.push(Item::Record(Box::new(record)));
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
    fn panics_are_sampled() {
        let mut panics = Panics { since: Instant::now(), bucket: Bucket::default(), suppressed: 0 };
        let now = Moment::from_millis(1);
        assert_eq!((0..100).filter(|_| panics.pass(now).is_some()).count(), 20);
        assert_eq!(panics.pass(now.after_millis(1000)), Some(80));
    }
}
