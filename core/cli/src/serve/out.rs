//! The thread that writes lines: a flood of them, or a terminal that stands still, never holds the server.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::time::Duration;

use tokio::sync::Notify;

use crate::outcome::Failure;
use crate::terminal::Patient;

/// How many lines may wait for the terminal; more are counted and left out.
const MAX_WAITING: usize = 1024;

/// How long the end waits for a reader that stands still: whoever ends the process has waited enough.
const PATIENCE: Duration = Duration::from_secs(1);

/// Where lines go. Dropping it writes what waits, as far as somebody reads it.
pub(super) struct Out {
    lines: Option<mpsc::SyncSender<String>>,
    lost: Arc<AtomicU64>,
    /// Told once nobody reads the lines any more.
    pub(super) is_closed: Arc<Notify>,
    /// Why they cannot be written any more.
    failure: Arc<OnceLock<io::Error>>,
    /// Ends with the thread.
    writing: mpsc::Receiver<()>,
}

impl Out {
    /// `left_out` is the line that says how many were.
    ///
    /// # Errors
    /// There is no thread to have.
    pub(super) fn start(left_out: impl Fn(u64) -> String + Send + 'static) -> io::Result<Self> {
        Self::to(Patient(io::stdout()), left_out)
    }

    fn to(
        mut out: impl io::Write + Send + 'static,
        left_out: impl Fn(u64) -> String + Send + 'static,
    ) -> io::Result<Self> {
        let (lines, waiting) = mpsc::sync_channel(MAX_WAITING);
        let (lost, is_closed) = (Arc::<AtomicU64>::default(), Arc::<Notify>::default());
        let failure = Arc::<OnceLock<io::Error>>::default();
        let (ends, writing) = mpsc::channel();
        std::thread::Builder::new().name("wsguard-lines".into()).spawn({
            let (lost, is_closed, failure) = (Arc::clone(&lost), Arc::clone(&is_closed), Arc::clone(&failure));
            move || {
                let _ends: mpsc::Sender<()> = ends;
                if let Err(error) = write_all(&waiting, &lost, left_out, &mut out) {
                    let _ = failure.set(error);
                    is_closed.notify_one();
                }
            }
        })?;
        Ok(Self { lines: Some(lines), lost, is_closed, failure, writing })
    }

    /// # Errors
    /// Lines could not be written, for another reason than that nobody reads them any more.
    pub(super) fn outcome(&self) -> Result<(), Failure> {
        match self.failure.get() {
            Some(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(Failure::new(format!("standard output: {error}")))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn say(&self, line: String) {
        let sent = self.lines.as_ref().map(|lines| lines.try_send(line));
        if matches!(sent, Some(Err(mpsc::TrySendError::Full(_)))) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Out {
    fn drop(&mut self) {
        self.lines = None;
        // It has ended, or hangs in a write that may never return: no join, which would hang as well.
        let _ = self.writing.recv_timeout(PATIENCE);
    }
}

fn write_all(
    waiting: &mpsc::Receiver<String>,
    lost: &AtomicU64,
    left_out: impl Fn(u64) -> String,
    to: &mut impl io::Write,
) -> io::Result<()> {
    while let Ok(line) = waiting.recv() {
        writeln!(to, "{line}")?;
        let lost = lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            writeln!(to, "{}", left_out(lost))?;
        }
        to.flush()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A terminal that stands still.
    struct Still(mpsc::Receiver<()>);

    impl io::Write for Still {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_stands_still_does_not_hold_the_end() {
        let (hold, held) = mpsc::channel();
        let out = Out::to(Still(held), |_| String::new()).unwrap();
        out.say("a".to_owned());
        let (ended, end) = mpsc::channel();
        std::thread::spawn(move || {
            drop(out);
            let _ = ended.send(());
        });
        assert!(end.recv_timeout(Duration::from_secs(20)).is_ok());
        drop(hold);
    }

    /// A terminal that fails.
    struct Failing(io::ErrorKind);

    impl io::Write for Failing {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_full_disk_is_a_failure_and_a_reader_that_has_left_is_none() {
        for (kind, fails) in [(io::ErrorKind::StorageFull, true), (io::ErrorKind::BrokenPipe, false)] {
            let out = Out::to(Failing(kind), |_| String::new()).unwrap();
            assert!(out.outcome().is_ok());
            out.say("a".to_owned());
            // The thread has ended.
            assert!(out.writing.recv_timeout(Duration::from_secs(20)).is_err());
            assert_eq!(out.outcome().is_err(), fails, "{kind}");
        }
    }

    #[test]
    fn what_was_left_out_is_counted() {
        let (lines, waiting) = mpsc::sync_channel(2);
        lines.send("a".to_owned()).unwrap();
        lines.send("b".to_owned()).unwrap();
        drop(lines);
        let mut written = Vec::new();
        write_all(&waiting, &AtomicU64::new(7), |lost| format!("{lost} left out"), &mut written).unwrap();
        let written = String::from_utf8(written).unwrap();
        let lines: Vec<&str> = written.lines().collect();
        assert_eq!(lines, ["a", "7 left out", "b"]);
    }
}
