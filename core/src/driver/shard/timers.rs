//! When connections have something to do although nothing comes: one tokio timer for the whole shard.

use std::cmp::Reverse;
use std::task::Poll;

use super::{Shard, with_shard};
use crate::driver::session::Session;
use wsguard_proto::connection::Connection;
use wsguard_proto::time::Moment;

/// Timers that are kept for each connection, and beside those, before stale ones are removed.
const MOST_TIMERS_EACH: usize = 4;
const MOST_STALE_TIMERS: usize = 1024;
/// Timers that are run before sockets and commands have their turn: a hundred thousand pings may be due at once.
const TIMERS_PER_TURN: usize = 256;
/// How often a connection that is not read is looked at: whether there is room for it that nobody told of, whether its peer
/// is still there. Where there are thousands of connections less often: so many looks a millisecond at most.
const LOOK_MS: u64 = 250;
const LOOKS_PER_MS: u64 = 16;

/// An entry of the timers: when, and for which slot and generation.
pub(super) type Timer = Reverse<(Moment, u32, u32)>;

impl Shard {
    /// Makes sure that the timers wake the session in time. Deadlines mostly move away, and then this does nothing.
    pub(super) fn arm(&mut self, session: &mut Session, now: Moment) {
        let mut deadline = session.conn.next_deadline(&session.policy).min(session.drain_at);
        if session.is_held_back() {
            deadline = deadline.min(now.after_millis(LOOK_MS.max(self.slots.open() as u64 / LOOKS_PER_MS)));
        }
        if deadline >= session.timer_at {
            return;
        }
        session.timer_at = deadline;
        self.push_timer(deadline, session.id.slot(), session.id.generation());
        self.wake_timers_for(deadline);
    }

    fn push_timer(&mut self, at: Moment, slot: u32, generation: u32) {
        if self.timers.len() > MOST_TIMERS_EACH * self.slots.open() + MOST_STALE_TIMERS {
            self.forget_stale_timers();
        }
        self.timers.push(Reverse((at, slot, generation)));
    }

    /// Lets go of timers whose connection has ended or has an earlier one: a session's end may be a year away.
    fn forget_stale_timers(&mut self) {
        let sessions = &self.sessions;
        self.timers.retain(|Reverse((at, slot, generation))| {
            let session = sessions.get(*slot as usize).and_then(Option::as_ref);
            session.is_some_and(|session| session.id.generation() == *generation && session.timer_at == *at)
        });
    }

    /// Makes sure that the timers look again at `deadline`.
    pub(super) fn wake_timers_for(&self, deadline: Moment) {
        if deadline < self.timer_wakes_at
            && let Some(task) = &self.timer_task
        {
            task.wake_by_ref();
        }
    }

    /// Runs sessions whose time has come, not too many at once; returns when the next one is due.
    pub(super) fn run_timers(&mut self) -> Moment {
        let now = self.state.clock.now();
        if self.free_buffers_at <= now {
            self.free_buffers();
        }
        if self.drain_until.is_some() {
            self.carry_out_answers();
        }
        // What was delayed is delivered now, and answered.
        self.deflate.refill();
        for _ in 0..TIMERS_PER_TURN {
            match self.timers.peek().copied() {
                None => return self.free_buffers_at,
                Some(Reverse((at, ..))) if at > now => return at.min(self.free_buffers_at),
                Some(Reverse((at, slot, generation))) => {
                    self.timers.pop();
                    self.shielded(|shard| shard.run_timer(at, slot, generation, now));
                }
            }
        }
        now
    }

    fn run_timer(&mut self, at: Moment, slot: u32, generation: u32, now: Moment) {
        let Some(mut session) = self.take(slot, generation) else { return };
        if session.timer_at != at {
            return self.put_back(session);
        }
        session.timer_at = Moment::NEVER;
        // A peer that is not read for reasons of ours is not silent, and the rest of its message waits with us. But one that takes
        // nothing either is gone, or wants the application to wait for it while its messages fill the inbox.
        if session.is_held_back() {
            match session.outbox {
                None => session.conn.excuse(now),
                Some(_) => session.conn.excuse_message(now),
            }
        }
        if session.starved {
            session.waker.wake_by_ref();
        }
        if session.paused && session.stream.is_broken() {
            self.turn(&mut session, now, Connection::handle_eof);
        }
        if session.conn.next_deadline(&session.policy) <= now {
            self.turn(&mut session, now, Connection::handle_deadline);
        }
        if session.drain_at <= now {
            self.drain_session(&mut session, now);
        }
        self.end_turn_elsewhere(session, now);
    }
}

/// Keeps the timers.
pub(in crate::driver) async fn run_timers() {
    let clock = with_shard(|shard| Some(shard.state.clock));
    let Some(clock) = clock else { return };
    let mut sleep = Box::pin(tokio::time::sleep(std::time::Duration::from_secs(3600)));
    std::future::poll_fn(move |cx| {
        let next = with_shard(|shard| {
            shard.timer_task = Some(cx.waker().clone());
            let next = shard.run_timers();
            // An hour at most, so that the far end of time needs no special case.
            shard.timer_wakes_at = next.min(shard.state.clock.now().after_millis(3_600_000));
            Some(shard.timer_wakes_at)
        });
        let Some(next) = next else { return Poll::Ready(()) };
        sleep.as_mut().reset(clock.instant(next));
        if sleep.as_mut().poll(cx).is_ready() {
            // More are due: after everybody else.
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::state::idle;
    fn shard() -> Shard {
        Shard::new(idle(r#""threads": 1"#), 0)
    }

    #[test]
    fn a_crowd_of_timers_lets_others_have_their_turn() {
        let mut shard = shard();
        (1..=1000).for_each(|generation| shard.push_timer(Moment::START, 0, generation));
        for left in [744, 488, 232] {
            assert!(shard.run_timers() <= shard.state.clock.now(), "more are due");
            assert_eq!(shard.timers.len(), left);
        }
        assert_eq!((shard.run_timers(), shard.timers.len()), (Moment::NEVER, 0));
    }

    #[test]
    fn timers_of_connections_that_are_gone_do_not_pile_up() {
        let mut shard = shard();
        // Sessions that would have lasted a year.
        for generation in 1..100_000 {
            shard.push_timer(Moment::from_millis(31_536_000_000), 0, generation);
            assert!(shard.timers.len() <= MOST_STALE_TIMERS + 1);
        }
    }
}
