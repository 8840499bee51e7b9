//! What a node asks of the buckets of a user: to give them to all, to report, to take them over, to state them again.
//!
//! One at a time for each user: an answer is then known to hold what was on its way, and nothing else.

use std::sync::Arc;

use super::{AWAIT_MS, Sharing, Turn, Users, believable, next_gone, tell};
use crate::cluster::ops::{Level, Op, OpId, Ownership, Reply};
use crate::cluster::outbox::{Drawing, Waiting};

impl Users {
    /// Asks for what a user wants next, if nothing of it is under way.
    pub(super) fn advance(&mut self, name: &Arc<str>, turn: &mut Turn<'_>) {
        let Some(user) = self.table.get_mut(name) else { return };
        if user.is_busy || !user.is_synced || user.held == 0 {
            return;
        }
        if turn.now < self.backoff.at() {
            if user.wants() {
                self.wanting.insert(Arc::clone(name));
            }
            return;
        }
        if core::mem::take(&mut user.wants_share) {
            self.set_sharing(name, Sharing::Shared, turn.now);
            self.draw(name, Drawing::Share, turn);
        } else if let Some(node) = next_gone(&mut user.gone, turn.members) {
            self.draw(name, Drawing::Drop(node), turn);
        } else if let Sharing::Awaits { owner, since, op, .. } = user.sharing
            && (turn.members.is_gone(owner, op) || turn.now >= since.after_millis(AWAIT_MS))
        {
            self.draw(name, Drawing::TakeOver(owner), turn);
        } else if user.wants_report || user.wants_look {
            self.draw(name, Drawing::Report, turn);
        }
    }

    pub(super) fn draw(&mut self, name: &Arc<str>, drawing: Drawing, turn: &mut Turn<'_>) {
        let (node, now, buckets) = (turn.out.node, turn.now, Arc::clone(&self.buckets));
        let Some(state) = self.table.get_mut(name) else { return };
        let user = Arc::clone(name);
        let is_shared = state.is_shared();
        let mut reports = false;
        let op = match drawing {
            Drawing::Share => {
                // The levels hold it all.
                drop((buckets.take_unreported(name, now), buckets.take_least(name, now)));
                reports = true;
                Op::Share { node, user, levels: buckets.levels(name, now) }
            }
            Drawing::Report => {
                state.wants_report = false;
                let (used, least) = (buckets.take_unreported(name, now), buckets.take_least(name, now));
                if used.is_empty() && least.is_empty() && !state.wants_look {
                    return;
                }
                state.wants_look = false;
                reports = true;
                Op::Report { node, user, used, least }
            }
            Drawing::TakeOver(from) => {
                let mut is_gone = false;
                if let Sharing::Awaits { op, since, .. } = &mut state.sharing {
                    is_gone = turn.members.is_gone(from, *op);
                    // Should it not help, it is asked for again as late as the first time.
                    (*op, *since) = (turn.out.last(), now);
                }
                Op::TakeOver { node, user, from, is_gone, full: buckets.full(name) }
            }
            Drawing::Drop(from) => Op::TakeOver { node, user, from, is_gone: true, full: buckets.full(name) },
            Drawing::Restore => {
                if is_shared {
                    drop((buckets.take_unreported(name, now), buckets.take_least(name, now)));
                    reports = true;
                }
                let levels = buckets.levels(name, now);
                Op::Restore { node, user, connections: state.held, levels, keep_ms: self.lease_ms }
            }
        };
        state.is_busy = true;
        let is_restore = matches!(drawing, Drawing::Restore);
        let taken_from = if let Op::TakeOver { from, .. } = op { Some(from) } else { None };
        let id = turn.out.ask(op, Waiting::Draw { user: Arc::clone(name), drawing, reports }, now);
        tell(taken_from.as_slice(), name, turn);
        if is_restore {
            (state.is_synced, state.restored) = (true, id);
            self.restoring.insert(id);
            self.watch(name, now);
        }
    }

    /// The answer to an op that draws on buckets.
    pub(in crate::cluster) fn drawn(
        &mut self,
        id: OpId,
        name: &Arc<str>,
        drawing: &Drawing,
        reports: bool,
        reply: Reply,
        turn: &mut Turn<'_>,
    ) {
        self.restoring.remove(&id);
        let Some(user) = self.table.get_mut(name) else { return };
        user.is_busy = false;
        match reply {
            Reply::Levels { is_known: false, .. } => {
                if reports {
                    self.buckets.lose(name);
                }
                if user.held > 0 {
                    self.restore_later(name);
                }
            }
            Reply::Levels { ownership, levels, .. } => {
                self.backoff.succeeded();
                self.poured(name, drawing, reports, &believable(levels), &ownership, turn);
            }
            Reply::Entered { ownership, levels, others, .. } => {
                self.backoff.succeeded();
                self.doubt(name, &others, turn);
                self.poured(name, drawing, reports, &believable(levels), &ownership, turn);
            }
            _ => {
                self.backoff.failed(turn.now);
                self.undrawn(name, drawing, reports);
            }
        }
        self.queue_again(name);
        self.tidy(name, turn.now);
        self.advance(name, turn);
    }

    fn poured(
        &mut self,
        name: &Arc<str>,
        drawing: &Drawing,
        reports: bool,
        levels: &[Level],
        ownership: &Ownership,
        turn: &mut Turn<'_>,
    ) {
        let Some(user) = self.table.get(name).filter(|user| user.is_here()) else { return };
        let is_awaited = matches!(ownership, Ownership::Awaits(owner) if *owner != turn.out.node);
        // A take-over acknowledges what was noted before.
        if user.is_shared() && (reports || matches!(drawing, Drawing::TakeOver(_) | Drawing::Drop(_))) {
            self.buckets.settle(name, levels, !is_awaited, turn.now);
        } else {
            self.buckets.raise(name, levels, turn.now);
        }
        self.owned(name, ownership, turn);
    }

    fn undrawn(&mut self, name: &Arc<str>, drawing: &Drawing, reports: bool) {
        if reports {
            self.buckets.lose(name);
        }
        let Some(user) = self.table.get_mut(name) else { return };
        match drawing {
            Drawing::Share => user.wants_share = true,
            Drawing::Report => user.wants_report = true,
            Drawing::Drop(node) => user.gone.push(*node),
            // Its time is over already: it is asked again.
            Drawing::TakeOver(_) => {}
            Drawing::Restore => user.is_synced = false,
        }
        self.wanting.insert(Arc::clone(name));
    }
}
