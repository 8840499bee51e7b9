//! The core's log in Python's `logging`: records wait in a bounded queue for a Python thread, because a shard's thread
//! must never wait for the interpreter.

use core::fmt::Write as _;
use std::collections::VecDeque;
use std::sync::{Condvar, LazyLock, Mutex, PoisonError};

use pyo3::prelude::*;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt as _};

use crate::bell::lock;

/// Records beyond this are counted instead of kept.
const MAX_RECORDS: usize = 4096;

/// `(level, logger, text)`, with the numbers of Python's `logging`.
type Record = (u8, String, String);

#[derive(Debug, Default)]
struct Waiting {
    records: VecDeque<Record>,
    lost: u64,
    is_over: bool,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
}

static QUEUE: LazyLock<Queue> = LazyLock::new(Queue::default);

/// The core's log as one line of `key=value`.
#[derive(Default)]
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn core::fmt::Debug) {
        if !self.0.is_empty() {
            self.0.push(' ');
        }
        let _ = match field.name() {
            "message" => write!(self.0, "{value:?}"),
            name => write!(self.0, "{name}={value:?}"),
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
        let mut waiting = lock(&QUEUE.waiting);
        if waiting.records.len() < MAX_RECORDS {
            waiting.records.push_back((level, target.replace("::", "."), line.0));
        } else {
            waiting.lost += 1;
        }
        drop(waiting);
        QUEUE.arrived.notify_one();
    }
}

/// Sends the core's log to the queue; `False`: it goes elsewhere already.
#[pyfunction]
pub(crate) fn log_to_queue() -> bool {
    let subscriber = tracing_subscriber::registry().with(LevelFilter::INFO).with(ToQueue);
    tracing::subscriber::set_global_default(subscriber).is_ok()
}

/// Sends the core's log to standard error, unless it goes elsewhere already.
#[pyfunction]
pub(crate) fn log_to_stderr() {
    wsguard::host::log_to_stderr();
}

/// Waits for records; `None` at the end.
#[pyfunction]
pub(crate) fn wait_for_records(py: Python<'_>) -> Option<Vec<Record>> {
    py.detach(|| {
        let mut waiting = lock(&QUEUE.waiting);
        while waiting.records.is_empty() && !waiting.is_over {
            waiting = QUEUE.arrived.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        if waiting.records.is_empty() {
            return None;
        }
        let mut records: Vec<Record> = waiting.records.drain(..).collect();
        let lost = std::mem::take(&mut waiting.lost);
        if lost > 0 {
            records.push((30, "wsguard".to_owned(), format!("{lost} log records were lost: the log is too slow")));
        }
        Some(records)
    })
}

/// Ends the wait, when what came before was taken.
#[pyfunction]
pub(crate) fn end_of_records() {
    lock(&QUEUE.waiting).is_over = true;
    QUEUE.arrived.notify_all();
}
