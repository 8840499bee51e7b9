//! Closing what is open and banned, a few connections at a time.

use super::Shard;
use crate::driver::commands::Command;
use crate::driver::ids::ConnectionId;
use wsguard_proto::bans::{Ban, Bans};
use wsguard_proto::connection::Report;
use wsguard_proto::lock::lock;
use wsguard_proto::time::Moment;
use wsguard_proto::verdict::Code;

/// Connections that are looked at before sockets and other commands have their turn.
const SESSIONS_PER_STEP: usize = 1024;

/// How far a walk over the connections is.
#[derive(Debug, Default)]
pub(super) struct Walk {
    next: usize,
    /// There was one more ban since it began.
    again: bool,
    /// Bans of the application before it began: they count although they may be lifted by now.
    stated: Box<Bans>,
    /// Those since.
    later: Box<Bans>,
}

impl Walk {
    /// As many as there may be of all bans: one more is looked up in the server's own, like those that are automatic.
    fn note(bans: &mut Bans, ban: Option<Box<Ban>>, now: Moment) {
        if let Some(ban) = ban {
            let _ = bans.ban(Ban { until: Moment::NEVER, ..*ban }, now);
        }
    }
}

impl Shard {
    /// Looks for connections that are banned. One walk is enough for all bans that come meanwhile, and one more after it: a crowd
    /// that is banned address by address takes no more of the shard than a step at a time.
    pub(super) fn close_banned(&mut self, ban: Option<Box<Ban>>, now: Moment) {
        if let Some(walk) = &mut self.banning {
            walk.again = true;
            return Walk::note(&mut walk.later, ban, now);
        }
        let mut walk = Walk::default();
        Walk::note(&mut walk.stated, ban, now);
        self.banning = Some(walk);
        self.go_on_banning(now);
    }

    /// Looks at the next connections.
    pub(super) fn go_on_banning(&mut self, now: Moment) {
        let Some(mut walk) = self.banning.take() else { return };
        let end = self.sessions.len();
        let to = end.min(walk.next + SESSIONS_PER_STEP);
        let report = Report { code: Code::Banned, event: None, detail: "the address or the user is banned" };
        for id in self.banned_among(walk.next..to, &walk.stated, now) {
            self.shielded(|shard| shard.act_on(id, now, |conn, turn| conn.violate(&report, turn)));
        }
        walk.next = to;
        let next = match walk.again {
            _ if to < end => walk,
            true => Walk { stated: walk.later, ..Walk::default() },
            false => return,
        };
        self.banning = Some(next);
        self.mailbox().post(|buffer| buffer.commands.push(Command::GoOnBanning));
    }

    fn banned_among(&self, slots: core::ops::Range<usize>, stated: &Bans, now: Moment) -> Vec<ConnectionId> {
        let bans = lock(&self.state.bans);
        let sessions = self.sessions.get(slots).unwrap_or_default().iter().flatten();
        let banned = sessions.filter(|session| {
            let user = session.seat.user().map(|user| &**user);
            [&*bans, stated].iter().any(|bans| bans.find(session.ip, user, now).is_some())
        });
        banned.map(|session| session.id).collect()
    }
}
