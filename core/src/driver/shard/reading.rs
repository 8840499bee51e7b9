//! Reading: within a turn's budget, and as far as the application has room for what comes.

use std::io::ErrorKind;
use std::sync::atomic::{Ordering, fence};
use std::task::{Context, Poll};

use super::turn::ActiveSession;
use super::{SCRATCH_BYTES, Shard};
use crate::driver::session::{Session, Unread};
use crate::driver::stats::add;
use wsguard_proto::connection::{Connection, Phase};
use wsguard_proto::time::Moment;

/// Output is written early when a turn makes more than this.
const CORK_BYTES: usize = 64 * 1024;
/// Reading less would cost more than it spares the inbox.
const LEAST_READ_BYTES: usize = 4096;

impl Shard {
    /// Runs a connection because its socket is ready, or because there is something left to do.
    pub(super) fn run_session(&mut self, slot: u32, generation: u32) {
        let Some(mut session) = self.take(slot, generation) else { return };
        let waker = session.waker.clone();
        let cx = &mut Context::from_waker(&waker);
        let now = self.state.clock.now();
        self.deflate.refill();
        if session.outbox.is_some() || session.must_flush {
            self.write(&mut session, now, cx);
        }
        self.read(&mut session, now, cx);
        self.end_turn(session, now, cx);
    }

    /// Reads what has come, within the turn's budget.
    fn read(&mut self, session: &mut ActiveSession, now: Moment, cx: &mut Context<'_>) {
        let mut budget = SCRATCH_BYTES;
        let mut scratch = core::mem::take(&mut self.scratch);
        while session.conn.phase() != Phase::Dropped {
            let room = self.room_for(session);
            if room == 0 {
                break;
            }
            if let Some(mut unread) = session.unread.take() {
                let used = self.turn(session, now, |conn, turn| conn.handle_input(unread.next(room), turn));
                session.unread = unread.rest(used);
                if session.unread.is_some() {
                    cx.waker().wake_by_ref();
                    break;
                }
                continue;
            }
            let len = match session.poll_read(cx, &mut scratch[..room]) {
                Poll::Pending => break,
                Poll::Ready(Ok(len)) if len > 0 => len,
                // Also without TLS's `close_notify`: a truncated message is not delivered in any case.
                Poll::Ready(end) if end.as_ref().err().is_none_or(|error| error.kind() == ErrorKind::UnexpectedEof) => {
                    self.turn(session, now, Connection::handle_half_close);
                    break;
                }
                Poll::Ready(_) => {
                    self.turn(session, now, Connection::handle_eof);
                    break;
                }
            };
            add(&self.mailbox().stats.bytes_in, len as u64);
            session.tally.bytes_in += len as u64;
            let used = self.turn(session, now, |conn, turn| conn.handle_input(&mut scratch[..len], turn));
            if used < len {
                session.unread = Unread::new(scratch[used..len].to_vec());
            }
            if session.out.len() > CORK_BYTES {
                self.write(session, now, cx);
            }
            budget = budget.saturating_sub(len);
            if budget == 0 || session.unread.is_some() {
                cx.waker().wake_by_ref();
                break;
            }
        }
        self.scratch = scratch;
    }

    /// How many bytes may be read of a connection at once; 0: it waits for the application.
    fn room_for(&mut self, session: &mut Session) -> usize {
        if !session.conn.is_open() {
            return SCRATCH_BYTES;
        }
        // A connection that drains is not read any more; what was received before is handled.
        let may_go_on = if session.is_draining { session.has_unhandled() } else { !session.paused };
        if !may_go_on {
            return 0;
        }
        let mut room = self.inbox_room(session);
        if room == 0 {
            self.mailbox().starved.store(true, Ordering::SeqCst);
            fence(Ordering::SeqCst);
            // The application may have made room just now, before it could see the mark.
            room = self.inbox_room(session);
        }
        session.starved = room == 0;
        if session.starved && !session.is_listed {
            session.is_listed = true;
            self.starved.push(session.id);
        }
        room
    }

    fn inbox_room(&self, session: &Session) -> usize {
        let fill = self.state.inbox.fill();
        let room = match fill.room_for_all() {
            0 => fill.room(session.share.waits(), self.shares.parts()),
            room => room,
        };
        if room == 0 { 0 } else { room.clamp(LEAST_READ_BYTES, SCRATCH_BYTES) }
    }

    /// The application has made room: read again those that had to wait.
    pub(super) fn read_the_starved(&mut self) {
        for id in core::mem::take(&mut self.starved) {
            let session = self.sessions.get_mut(id.slot() as usize).and_then(Option::as_mut);
            if let Some(session) = session.filter(|session| session.id == id) {
                (session.starved, session.is_listed) = (false, false);
                session.waker.wake_by_ref();
            }
        }
    }
}
