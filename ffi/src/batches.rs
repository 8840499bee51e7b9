//! Events by pull.

use core::mem::MaybeUninit;
use std::time::Duration;

use crate::events::Event;
use crate::handle;
use crate::os::{self, lock};
use crate::pointers::out;
use crate::running::{BatchHandle, ServerHandle, Taken, running};
use crate::status::Status;

exports! {
    /// Takes the next events, in the order they happened to each connection. Waits at most `timeout_ms`; 0 does not wait,
    /// a negative number waits for ever.
    ///
    /// On `WSG_OK`, `*batch` is owned by the caller and holds at least one event; it must be freed before the next call.
    /// Else it is `NULL`: `WSG_NOTHING` when the time is over, when a signal handler has run on this thread, or after
    /// `wsg_server_interrupt`; `WSG_STOPPED` when the server has stopped and every event was taken. One thread at a time:
    /// `WSG_ERR_BUSY` otherwise, and while a batch was not freed. `WSG_ERR_REENTRANT` from an inline handler; `WSG_ERR_NULL`,
    /// `WSG_ERR_HANDLE`, `WSG_ERR_FORKED`.
    ///
    /// A batch may hold messages of a connection that you close, or whose session ends, while you work on it: before each event
    /// is handled `wsg_event_is_stale` says so. `wsg_server_run` skips them.
    pub fn wsg_server_next(server: *mut ServerHandle, timeout_ms: i64,
        batch: Option<&mut MaybeUninit<*mut BatchHandle>>,
    ) -> Status {
        let place = out(batch)?;
        place.write(core::ptr::null_mut());
        let running = running(server)?;
        let mut consumer = running.consume()?;
        match consumer.wait(u64::try_from(timeout_ms).ok().map(Duration::from_millis))? {
            Taken::Events => {
                place.write(consumer.give()?);
                Ok(Status::Ok)
            }
            Taken::Nothing | Taken::Interrupted => Ok(Status::Nothing),
            Taken::Stopped => Ok(Status::Stopped),
        }
    }

    /// The events of a batch: `*count` of them, one after the other. They, and what they point at, are valid until the batch
    /// is freed, also when the server was freed before. The size of `wsg_event` never changes.
    ///
    /// Any thread. Returns `WSG_OK`, `WSG_ERR_NULL` or `WSG_ERR_HANDLE`.
    pub fn wsg_batch_events(batch: *const BatchHandle, events: Option<&mut MaybeUninit<*const Event>>,
        count: Option<&mut MaybeUninit<usize>>,
    ) -> Status {
        let (events, count) = (out(events)?, out(count)?);
        let batch = handle::find(batch)?;
        let _calm = os::calm();
        let views = lock(&batch.views);
        let seen = views.as_ref().ok_or(Status::ErrHandle)?.0.events();
        events.write(seen.as_ptr());
        count.write(seen.len());
        Ok(Status::Ok)
    }

    /// Frees a batch, so that the server can reuse its memory. Any thread. Returns `WSG_OK`, `WSG_ERR_NULL`, or
    /// `WSG_ERR_HANDLE` the second time.
    pub fn wsg_batch_free(batch: *mut BatchHandle) -> Status {
        let batch = handle::remove(batch)?;
        let _calm = os::calm();
        let views = lock(&batch.views).take();
        if let (Some(views), Some(home)) = (views, batch.home.upgrade()) {
            *lock(&home) = Some(views);
        }
        Ok(Status::Ok)
    }
}
