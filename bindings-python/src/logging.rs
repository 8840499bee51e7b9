//! The core's log in Python's `logging`: records wait in a bounded queue for a Python thread, because a shard's thread
//! must never wait for the interpreter.

use core::fmt::Write as _;
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, PoisonError};

use pyo3::prelude::*;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt as _};

use crate::fork;
use crate::lock::lock;

/// How many records may wait; more are counted and dropped.
const MAX_RECORDS: usize = 4096;

/// `(level, logger, text, fields)`, with the numbers of Python's `logging`.
type Record = (u8, String, String, Vec<(&'static str, String)>);

#[derive(Debug)]
struct Waiting {
    records: VecDeque<Record>,
    lost: u64,
    is_over: bool,
}

#[derive(Debug)]
struct Queue {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
}

impl Queue {
    const fn new() -> Self {
        let waiting = Waiting { records: VecDeque::new(), lost: 0, is_over: false };
        Self { waiting: Mutex::new(waiting), arrived: Condvar::new() }
    }
}

/// A queue for each generation of children: another thread may have held the lock of the parent's queue at the fork.
static QUEUES: [Queue; 16] = [const { Queue::new() }; 16];

fn queue() -> &'static Queue {
    let last = QUEUES.len() - 1;
    &QUEUES[usize::try_from(fork::depth()).map_or(last, |depth| depth.min(last))]
}

/// A record as one line of `key=value`, and its fields.
#[derive(Default)]
struct Line {
    text: String,
    fields: Vec<(&'static str, String)>,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn core::fmt::Debug) {
        if !self.text.is_empty() {
            self.text.push(' ');
        }
        let _ = match field.name() {
            "message" => write!(self.text, "{value:?}"),
            name => {
                let _ = write!(self.text, "{name}=");
                let start = self.text.len();
                let written = write!(self.text, "{value:?}");
                let value = &self.text[start..];
                let bare = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
                self.fields.push((name, bare.to_owned()));
                written
            }
        };
    }
}

struct ToQueue;

impl<S: Subscriber> Layer<S> for ToQueue {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let target = event.metadata().target();
        if target != "wsguard" && !target.starts_with("wsguard::") {
            return;
        }
        let level = match *event.metadata().level() {
            Level::ERROR => 40,
            Level::WARN => 30,
            Level::INFO => 20,
            _ => 10,
        };
        let mut line = Line::default();
        event.record(&mut line);
        let queue = queue();
        let mut waiting = lock(&queue.waiting);
        if waiting.records.len() < MAX_RECORDS {
            waiting.records.push_back((level, target.replace("::", "."), line.text, line.fields));
        } else {
            waiting.lost += 1;
        }
        drop(waiting);
        queue.arrived.notify_one();
    }
}

/// Sends the core's log to the queue. `False`: it goes elsewhere already.
#[pyfunction]
pub(crate) fn log_to_queue() -> bool {
    let subscriber = tracing_subscriber::registry().with(LevelFilter::INFO).with(ToQueue);
    tracing::subscriber::set_global_default(subscriber).is_ok()
}

/// Sends the core's log to standard error, unless it goes elsewhere already.
#[pyfunction]
pub(crate) fn log_to_stderr() {
    wsguard::binding::log_to_stderr();
}

/// Waits for records; `None` after [`end_of_records`].
#[pyfunction]
pub(crate) fn wait_for_records(py: Python<'_>) -> Option<Vec<Record>> {
    let queue = queue();
    py.detach(|| {
        let mut waiting = lock(&queue.waiting);
        while waiting.records.is_empty() && !waiting.is_over {
            waiting = queue.arrived.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        if waiting.records.is_empty() {
            return None;
        }
        let mut records: Vec<Record> = waiting.records.drain(..).collect();
        let lost = std::mem::take(&mut waiting.lost);
        if lost > 0 {
            let text = format!("{lost} log records were lost: the log is too slow");
            records.push((30, "wsguard".to_owned(), text, vec![("lost", lost.to_string())]));
        }
        Some(records)
    })
}

/// Ends the wait for records, once those that wait are taken.
#[pyfunction]
pub(crate) fn end_of_records() {
    let queue = queue();
    lock(&queue.waiting).is_over = true;
    queue.arrived.notify_all();
}
