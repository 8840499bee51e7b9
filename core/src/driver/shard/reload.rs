//! Taking over a new set of policies: for whoever comes at once, for the connections that are open a few at a time.

use std::sync::Arc;

use super::Shard;
use crate::driver::commands::Command;
use wsguard_proto::config::{Policy, PolicySet};
use wsguard_proto::connection::{Connection, PolicyChange, Report};
use wsguard_proto::limits::{RateKey, Seat};
use wsguard_proto::time::Moment;
use wsguard_proto::verdict::Code;

/// Connections that are looked at before sockets and other commands have their turn.
const SESSIONS_PER_STEP: usize = 256;

impl Shard {
    /// Takes over `set`.
    pub(super) fn reload(&mut self, set: Arc<PolicySet>, now: Moment) {
        self.set = set;
        // One that has not ended begins anew, with the step that it has ordered.
        if self.reloading_at.replace(0).is_none() {
            self.go_on_reloading(now);
        }
    }

    /// Looks at the next connections.
    pub(super) fn go_on_reloading(&mut self, now: Moment) {
        let Some(from) = self.reloading_at else { return };
        let end = self.sessions.len();
        let to = end.min(from + SESSIONS_PER_STEP);
        for slot in from..to {
            self.shielded(|shard| shard.follow(slot, now));
        }
        self.reloading_at = (to < end).then_some(to);
        if self.reloading_at.is_some() {
            self.mailbox().post(|buffer| buffer.commands.push(Command::GoOnReloading));
        }
    }

    /// Gives a connection the policy that its path has now, or closes it.
    fn follow(&mut self, slot: usize, now: Moment) {
        let Some(mut session) = self.take_any(slot) else { return };
        // Let in by a later set, whose own word is still on its way: it does not go back to this one.
        if session.let_in.admitted.generation > self.set.generation {
            return self.end_turn_elsewhere(session, now);
        }
        let (admitted, seat) = (&session.let_in.admitted, &session.seat);
        if self.set.top.deny_ips.denies(session.ip) {
            let report =
                Report { code: Code::Banned, event: None, detail: "a reload has put its address into deny_ips" };
            self.turn(&mut session, now, |conn: &mut Connection, turn| conn.violate(&report, turn));
            return self.end_turn_elsewhere(session, now);
        }
        match self.set.readmit(admitted, &session.policy, seat.user().map(|user| &**user), session.conn.roles()) {
            Ok((resolved, roles)) => {
                let before = core::mem::replace(&mut session.policy, resolved.policy);
                let session = &mut *session.session;
                session.slot.bound(session.policy.max_outbox_bytes);
                let own = Some((&*before, session.conn.rate_key()));
                let rate_key = rate_key(&session.seat, &session.policy, own, now);
                let change = PolicyChange { before: &before, after: &session.policy, rate_key, roles };
                session.conn.change_policy(change, now);
            }
            Err(gone) => {
                let report = Report { code: Code::SessionRevoked, event: None, detail: gone.detail() };
                self.turn(&mut session, now, |conn: &mut Connection, turn| conn.violate(&report, turn));
            }
        }
        self.end_turn_elsewhere(session, now);
    }
}

/// The bucket of a connection by `policy`; `None` where `rate_limit` is off. One of its own stays its own: `before` is the policy
/// that it had until now, and the bucket by that.
pub(in crate::driver) fn rate_key(
    seat: &Seat,
    policy: &Policy,
    before: Option<(&Policy, Option<&Arc<RateKey>>)>,
    now: Moment,
) -> Option<Arc<RateKey>> {
    let rules = policy.rate_limit.as_ref()?;
    let shared = |policy: &Policy| {
        let rules = policy.rate_limit.as_ref()?;
        seat.rate_key(rules, &policy.scope, now)
    };
    let own = || {
        let (before, key) = before?;
        if before.rate_limit.is_some() && shared(before).is_none() { key.cloned() } else { None }
    };
    Some(seat.rate_key(rules, &policy.scope, now).or_else(own).unwrap_or_default())
}
