//! Which place in the JavaScript table a connection has: small numbers, used again after a close.
//!
//! Where nobody listens to opens and closes, a connection gets a place only when there is something to tell of it. Until
//! then JavaScript does not know it, and one that is thrown out before its first message costs it nothing.

use wsguard::binding::{ConnectionId, ConnectionMap, Open};

/// No place: an event that belongs to no connection that JavaScript knows.
pub(crate) const NOBODY: u32 = u32::MAX;

#[derive(Debug, Default)]
pub(crate) struct Connections {
    places: ConnectionMap<u32>,
    /// Those that JavaScript does not know.
    withheld: ConnectionMap<Box<Open>>,
    free: Vec<u32>,
    /// Places of closes that JavaScript may not have come to.
    freed: Vec<u32>,
    /// The smallest place that was never taken.
    next: u32,
}

impl Connections {
    pub(crate) fn place(&self, conn: ConnectionId) -> u32 {
        self.places.get(conn).copied().unwrap_or(NOBODY)
    }

    /// Gives a connection its place.
    pub(crate) fn open(&mut self, conn: ConnectionId) -> u32 {
        let place = self.free.pop().unwrap_or_else(|| {
            self.next += 1;
            self.next - 1
        });
        self.places.insert(conn, place);
        place
    }

    /// Takes the place of a closed connection back.
    pub(crate) fn close(&mut self, conn: ConnectionId) -> u32 {
        let Some(place) = self.places.remove(conn) else { return NOBODY };
        self.freed.push(place);
        place
    }

    /// JavaScript has come to every close that it was told of.
    pub(crate) fn caught_up(&mut self) {
        self.free.append(&mut self.freed);
    }

    /// Keeps an opened connection from JavaScript.
    pub(crate) fn withhold(&mut self, open: &Open) {
        self.withheld.insert(open.conn, Box::new(open.clone()));
    }

    pub(crate) fn is_withheld(&self, conn: ConnectionId) -> bool {
        self.withheld.get(conn).is_some()
    }

    /// The opening of a connection that was withheld, and is so no longer.
    pub(crate) fn unveil(&mut self, conn: ConnectionId) -> Option<Box<Open>> {
        self.withheld.remove(conn)
    }

    /// Those of a user that were withheld, and are so no longer.
    pub(crate) fn unveil_user(&mut self, user: &str) -> Vec<Open> {
        let opens = self.withheld.values().filter(|open| open.user.as_deref() == Some(user));
        let found: Vec<ConnectionId> = opens.map(|open| open.conn).collect();
        found.into_iter().filter_map(|conn| self.withheld.remove(conn)).map(|open| *open).collect()
    }

    /// All that were withheld, and are so no longer.
    pub(crate) fn unveil_all(&mut self) -> ConnectionMap<Box<Open>> {
        core::mem::take(&mut self.withheld)
    }
}

/// The two halves of a 64-bit id, low first: JavaScript's numbers hold 53 bits.
pub(crate) fn halves(id: u64) -> [u32; 2] {
    [id as u32, (id >> 32) as u32]
}

pub(crate) fn whole(low: u32, high: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conn(slot: u64) -> ConnectionId {
        ConnectionId::from_u64(1 << 32 | slot)
    }

    fn opened(conn: ConnectionId) -> Open {
        wsguard::binding::blank_open(conn)
    }

    #[test]
    fn a_place_is_used_again_when_javascript_has_heard_of_the_close() {
        let mut connections = Connections::default();
        assert_eq!([connections.open(conn(0)), connections.open(conn(1))], [0, 1]);
        assert_eq!(connections.close(conn(0)), 0);
        assert_eq!(connections.open(conn(2)), 2, "0 may still stand for the closed one");
        connections.caught_up();
        assert_eq!(connections.open(conn(3)), 0);
        assert_eq!([conn(0), conn(1), conn(2), conn(3)].map(|conn| connections.place(conn)), [NOBODY, 1, 2, 0]);
    }

    #[test]
    fn those_of_a_user_are_unveiled() {
        let mut connections = Connections::default();
        for (slot, user) in [Some("alice"), None, Some("bob"), Some("alice")].into_iter().enumerate() {
            let mut open = opened(conn(slot as u64));
            open.user = user.map(Into::into);
            connections.withhold(&open);
        }
        let found: Vec<ConnectionId> = connections.unveil_user("alice").iter().map(|open| open.conn).collect();
        assert_eq!(found, [conn(0), conn(3)]);
        assert!(
            connections.is_withheld(conn(1)) && connections.is_withheld(conn(2)) && !connections.is_withheld(conn(0))
        );
    }

    #[test]
    fn a_withheld_connection_has_no_place_and_is_unveiled_once() {
        let mut connections = Connections::default();
        connections.withhold(&opened(conn(0)));
        connections.withhold(&opened(conn(1)));
        connections.withhold(&opened(conn(2)));
        assert_eq!((connections.place(conn(0)), connections.is_withheld(conn(0))), (NOBODY, true));
        assert!(connections.unveil(conn(0)).is_some() && connections.unveil(conn(0)).is_none());
        assert_eq!((connections.open(conn(0)), connections.is_withheld(conn(0))), (0, false));
        let rest: Vec<ConnectionId> = connections.unveil_all().values().map(|open| open.conn).collect();
        assert_eq!(rest, [conn(1), conn(2)]);
        assert!(!connections.is_withheld(conn(1)) && connections.unveil_all().values().next().is_none());
    }
}
