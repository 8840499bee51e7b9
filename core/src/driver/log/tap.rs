//! The log as records: a `tracing` subscriber that puts each into the queue, for the thread of the log to hand on.

use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use super::queue::{Hook, Item, OUTPUT, Output, Queue, is_log_thread};
use super::record::{LogLevel, LogRecord};

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
    OUTPUT.set(Output::Hook(Hook::new(Box::new(hook)))).is_ok()
        && tracing::subscriber::set_global_default(Tap::new(level, true)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_only_begins_like_ours_is_not() {
        assert!(is_ours("wsguard") && is_ours("wsguard::verdict"));
        assert!(!is_ours("wsguard_proto") && !is_ours("wsguardian") && !is_ours("app"));
    }
}
