//! The log as records: a `tracing` subscriber that puts each into the queue, for the thread of the log to hand on.

use std::sync::atomic::{AtomicBool, Ordering};

use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use super::queue::{Item, Output, Queue, decide, is_log_thread, write_some};
use super::record::{LogLevel, LogRecord};
use crate::driver::caught::caught;

/// Takes records up to a level.
pub(super) struct Tap {
    level: LogLevel,
    only_ours: bool,
}

impl Tap {
    pub(super) fn new(level: LogLevel, only_ours: bool) -> Self {
        Self { level, only_ours }
    }
}

fn is_ours(target: &str) -> bool {
    target.strip_prefix("wsguard").is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

impl Subscriber for Tap {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        !metadata.is_span()
            && LogLevel::of(*metadata.level()) <= self.level
            && (!self.only_ours || is_ours(metadata.target()))
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level.filter())
    }

    fn event(&self, event: &Event<'_>) {
        // What a hook makes us log would make it log for ever.
        if is_log_thread() {
            return;
        }
        if let Some(queue) = Queue::of_this_process() {
            queue.push(Item::Record(Box::new(LogRecord::of(event))));
        }
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// A function of the application that takes records.
struct Hook {
    call: Box<dyn Fn(&LogRecord) + Send + Sync>,
    /// It has panicked.
    is_cut_off: AtomicBool,
}

impl Hook {
    fn new(call: Box<dyn Fn(&LogRecord) + Send + Sync>) -> Self {
        Self { call, is_cut_off: AtomicBool::new(false) }
    }

    fn call(&self, record: &LogRecord) {
        if self.is_cut_off.load(Ordering::Relaxed) || caught(|| (self.call)(record)).is_some() {
            return;
        }
        self.is_cut_off.store(true, Ordering::Relaxed);
        let _ = write_some(b"wsguard: the log hook panicked: it is given no more records\n");
    }
}

impl Output for Hook {
    fn take(&self, item: Item) -> bool {
        if let Item::Record(record) = item {
            self.call(&record);
        }
        true
    }
}

/// Gives every record of wsguard's log up to `level` to `hook`, until the process ends. `false`: the log goes elsewhere
/// already (a `tracing` subscriber is set), or the thread of the log cannot be started.
///
/// The hook runs on the log's own thread, one record after the other, never on a thread of a server: it may block, and use a
/// server as it likes. Meanwhile up to 8192 records and 1 MiB wait; what does not fit is dropped and counted, and a record with
/// the field `lost` follows. What the hook itself makes the library log is dropped. A hook that panics is cut off: it is not
/// called any more, and standard error is told. The end of a server waits for records already made, at most 200 ms. A child of
/// `fork` has a thread of its own.
pub fn log_to(level: LogLevel, hook: impl Fn(&LogRecord) + Send + Sync + 'static) -> bool {
    if tracing::dispatcher::has_been_set() || Queue::begin().is_err() {
        return false;
    }
    decide(Box::new(Hook::new(Box::new(hook))))
        && tracing::subscriber::set_global_default(Tap::new(level, true)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hook_that_panics_is_cut_off() {
        use std::sync::Arc;
        use std::sync::atomic::AtomicUsize;
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&calls);
        let hook = Hook::new(Box::new(move |_| {
            assert!(counted.fetch_add(1, Ordering::Relaxed) < 1, "the second record is too much");
        }));
        for _ in 0..4 {
            hook.call(&LogRecord::new(LogLevel::Info, "wsguard"));
        }
        assert_eq!(calls.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn a_name_that_only_begins_like_ours_is_not() {
        assert!(is_ours("wsguard") && is_ours("wsguard::verdict"));
        assert!(!is_ours("wsguard_proto") && !is_ours("wsguardian") && !is_ours("app"));
    }
}
