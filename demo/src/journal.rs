//! What the guarded servers say of their peers: the violation events that the application gets, and the log records that
//! anybody with a `tracing` subscriber gets. Both go to the page; the records also go to standard error.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;
use wsguard::ViolationEvent;

/// Entries that are kept.
const KEPT: usize = 500;
/// Lines that may wait for standard error; beyond it they are shown on the page alone.
const WAITING_LINES: usize = 1000;
/// A verdict is told within microseconds. A record may be left out, because the log is sampled: this long it is waited for.
const PATIENCE: Duration = Duration::from_millis(800);

/// One thing that was said.
#[derive(Clone, Debug)]
pub(crate) enum Entry {
    Verdict(ViolationEvent),
    /// The record of a verdict, without its line end.
    Record(String),
}

impl Entry {
    /// The user it is about; `None`: there was none yet.
    fn user(&self) -> Option<&str> {
        match self {
            Entry::Verdict(violation) => violation.user.as_deref(),
            Entry::Record(line) => line.split_once(" user=")?.1.split(' ').next().filter(|user| *user != "-"),
        }
    }
}

#[derive(Default)]
struct Entries {
    /// How many were ever said.
    total: u64,
    recent: VecDeque<Entry>,
}

pub(crate) struct Journal {
    entries: Mutex<Entries>,
    total: watch::Sender<u64>,
    stderr: SyncSender<Vec<u8>>,
}

impl Journal {
    /// Takes over the log of this process.
    pub(crate) fn start() -> io::Result<Arc<Self>> {
        let (stderr, lines) = sync_channel::<Vec<u8>>(WAITING_LINES);
        let write = move || {
            for line in lines {
                // An error here: nobody reads standard error any more.
                let _ = io::stderr().write_all(&line);
            }
        };
        std::thread::Builder::new().name("log".to_owned()).spawn(write)?;
        let journal = Arc::new(Self { entries: Mutex::default(), total: watch::Sender::new(0), stderr });
        let writer = Arc::clone(&journal);
        tracing_subscriber::fmt()
            .with_ansi(false)
            .with_max_level(tracing_subscriber::filter::LevelFilter::WARN)
            .with_writer(move || Line(Arc::clone(&writer)))
            .try_init()
            .map_err(io::Error::other)?;
        Ok(journal)
    }

    pub(crate) fn add(&self, entry: Entry) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.recent.len() == KEPT {
            entries.recent.pop_front();
        }
        entries.recent.push_back(entry);
        entries.total += 1;
        self.total.send_replace(entries.total);
    }

    /// Where it stands now.
    pub(crate) fn mark(&self) -> u64 {
        *self.total.borrow()
    }

    /// What was said after `mark` about `user`, once `least` verdicts and a record are there or some time has passed.
    pub(crate) async fn since(&self, mark: u64, user: Option<&str>, least: usize) -> Vec<Entry> {
        let mut total = self.total.subscribe();
        let both = async {
            loop {
                let found = self.about(mark, user);
                let verdicts = found.iter().filter(|entry| matches!(entry, Entry::Verdict(_))).count();
                if verdicts >= least && found.len() > verdicts {
                    return;
                }
                if total.changed().await.is_err() {
                    return;
                }
            }
        };
        let _ = timeout(PATIENCE, both).await;
        self.about(mark, user)
    }

    fn about(&self, mark: u64, user: Option<&str>) -> Vec<Entry> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = usize::try_from(entries.total - mark).unwrap_or(usize::MAX).min(entries.recent.len());
        let fresh = entries.recent.iter().skip(entries.recent.len() - fresh);
        fresh.filter(|entry| entry.user() == user).cloned().collect()
    }
}

/// A line of the log, written in one piece.
struct Line(Arc<Journal>);

impl Write for Line {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // Full: nobody reads standard error. A server that waited for that would stop.
        let _ = self.0.stderr.try_send(line.to_vec());
        let text = String::from_utf8_lossy(line);
        if text.contains(" wsguard::verdict: ") {
            self.0.add(Entry::Record(text.trim_end().to_owned()));
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_names_its_user() {
        let record = |user| Entry::Record(format!("WARN wsguard::verdict: code=x ip=127.0.0.1 user={user} event=-"));
        assert_eq!(record("intruder-1").user(), Some("intruder-1"));
        assert_eq!(record("-").user(), None);
    }
}
