//! Closing what is open and banned, a few connections at a time.

use super::Shard;
use crate::driver::commands::Command;
use crate::driver::ids::ConnectionId;
use wsguard_proto::connection::Report;
use wsguard_proto::lock::lock;
use wsguard_proto::time::Moment;
use wsguard_proto::verdict::Code;

/// Connections that are looked at before sockets and other commands have their turn.
const SESSIONS_PER_STEP: usize = 1024;

/// How far a walk over the connections is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Walk {
    next: usize,
    /// There was one more ban since it began.
    again: bool,
}

impl Shard {
    /// Looks for connections that are banned. One walk is enough for all bans that come meanwhile, and one more after it: a crowd
    /// that is banned address by address takes no more of the shard than a step at a time.
    pub(super) fn close_banned(&mut self, now: Moment) {
        match &mut self.banning {
            Some(walk) => walk.again = true,
            None => {
                self.banning = Some(Walk { next: 0, again: false });
                self.go_on_banning(now);
            }
        }
    }

    /// Looks at the next connections.
    pub(super) fn go_on_banning(&mut self, now: Moment) {
        let Some(Walk { next, again }) = self.banning else { return };
        let end = self.sessions.len();
        let to = end.min(next + SESSIONS_PER_STEP);
        let report = Report { code: Code::Banned, event: None, detail: "the address or the user is banned" };
        for id in self.banned_among(next..to, now) {
            self.shielded(|shard| shard.act_on(id, now, |conn, turn| conn.violate(&report, turn)));
        }
        self.banning = match again {
            _ if to < end => Some(Walk { next: to, again }),
            true => Some(Walk { next: 0, again: false }),
            false => None,
        };
        if self.banning.is_some() {
            self.mailbox().post(|buffer| buffer.commands.push(Command::GoOnBanning));
        }
    }

    fn banned_among(&self, slots: core::ops::Range<usize>, now: Moment) -> Vec<ConnectionId> {
        let bans = lock(&self.state.bans);
        let sessions = self.sessions.get(slots).unwrap_or_default().iter().flatten();
        let banned = sessions.filter(|session| {
            let user = session.seat.user().map(|user| &**user);
            bans.find(session.ip, user, now).is_some()
        });
        banned.map(|session| session.id).collect()
    }
}
