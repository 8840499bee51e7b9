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
    /// Takes the next events, in the order in which they happened to each connection. It waits at most `timeout_ms`
    /// milliseconds; 0: it does not wait; negative: it waits for ever.
    ///
    /// On `WSG_OK`, `*batch` holds at least one event. You own it and must free it with `wsg_batch_free` before the
    /// next call. Otherwise `*batch` is `NULL`.
    ///
    /// One thread at a time, and no inline handler. Returns `WSG_OK`; `WSG_NOTHING` when the time is
    /// over, when a signal handler has run on this thread, and after `wsg_server_interrupt`; `WSG_STOPPED` when the
    /// server has stopped and every event was taken; `WSG_ERR_BUSY` while another thread is in this function or in
    /// `wsg_server_run`, and while a batch was not freed; `WSG_ERR_REENTRANT`, `WSG_ERR_NULL`, `WSG_ERR_HANDLE` or
    /// `WSG_ERR_FORKED`.
    ///
    /// A batch may hold messages of a connection that you close, or whose session ends, while you handle the batch: ask
    /// `wsg_event_is_stale` before each event. `wsg_server_run` does that by itself.
    pub fn wsg_server_next(server: *mut ServerHandle, timeout_ms: i64,
        batch: Option<&mut MaybeUninit<*mut BatchHandle>>,
    ) -> Status {
        let place = out(batch)?;
        place.write(core::ptr::null_mut());
        let running = running(server)?;
        let mut consumer = running.consume()?;
        match consumer.wait(u64::try_from(timeout_ms).ok().map(Duration::from_millis))? {
            Taken::Events => {
                place.write(consumer.into_batch()?);
                Ok(Status::Ok)
            }
            Taken::Nothing | Taken::Interrupted => Ok(Status::Nothing),
            Taken::Stopped => Ok(Status::Stopped),
        }
    }

    /// Writes a pointer to the first event of a batch to `*events`, and their number to `*count`. The events follow one
    /// another; the size of `wsg_event` never changes. The events, and what they point at, are valid until the batch is
    /// freed, even after the server was freed.
    ///
    /// Any thread. Returns `WSG_OK`, `WSG_ERR_NULL` or `WSG_ERR_HANDLE`; on an error nothing is written.
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

    /// Frees a batch, so that the server can use its memory again. Any thread.
    ///
    /// Returns `WSG_OK`, `WSG_ERR_NULL`, or `WSG_ERR_HANDLE` the second time.
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
