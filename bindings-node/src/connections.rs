//! Which place in the JavaScript table a connection has: small numbers, used again after a close.
//!
//! Where nobody listens to opens and closes, the open of a connection is deferred: JavaScript learns of it with its first
//! other event. A connection that is closed before that costs JavaScript nothing.

use wsguard::binding::{ConnectionId, ConnectionMap, Open};

/// In place of a place: the event belongs to no connection that JavaScript knows.
pub(crate) const NO_PLACE: u32 = u32::MAX;

#[derive(Debug, Default)]
pub(crate) struct Connections {
    places: ConnectionMap<u32>,
    /// The opens that JavaScript has not been told of.
    deferred: ConnectionMap<Box<Open>>,
    free: Vec<u32>,
    /// Places of closed connections whose close JavaScript may not have handled.
    freed: Vec<u32>,
    /// The smallest place that was never taken.
    next: u32,
}

impl Connections {
    pub(crate) fn place(&self, conn: ConnectionId) -> u32 {
        self.places.get(conn).copied().unwrap_or(NO_PLACE)
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
        let Some(place) = self.places.remove(conn) else { return NO_PLACE };
        self.freed.push(place);
        place
    }

    /// JavaScript has handled every close that it was told of: their places are free.
    pub(crate) fn caught_up(&mut self) {
        self.free.append(&mut self.freed);
    }

    /// Keeps an open from JavaScript.
    pub(crate) fn defer_open(&mut self, open: &Open) {
        self.deferred.insert(open.conn, Box::new(open.clone()));
    }

    /// Returns true if the open of this connection is deferred.
    pub(crate) fn is_deferred(&self, conn: ConnectionId) -> bool {
        self.deferred.get(conn).is_some()
    }

    /// Removes and returns the deferred open of a connection.
    pub(crate) fn take_deferred(&mut self, conn: ConnectionId) -> Option<Box<Open>> {
        self.deferred.remove(conn)
    }

    /// Removes and returns the deferred opens of a user.
    pub(crate) fn take_deferred_of(&mut self, user: &str) -> Vec<Open> {
        let opens = self.deferred.values().filter(|open| open.user.as_deref() == Some(user));
        let found: Vec<ConnectionId> = opens.map(|open| open.conn).collect();
        found.into_iter().filter_map(|conn| self.deferred.remove(conn)).map(|open| *open).collect()
    }

    /// Removes and returns every deferred open.
    pub(crate) fn take_all_deferred(&mut self) -> ConnectionMap<Box<Open>> {
        core::mem::take(&mut self.deferred)
    }
}

/// The two words of a 64-bit id, low word first: JavaScript's numbers hold 53 bits.
pub(crate) fn split_u64(id: u64) -> [u32; 2] {
    [id as u32, (id >> 32) as u32]
}

/// The id of two words.
pub(crate) fn join_u64(low: u32, high: u32) -> u64 {
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
        assert_eq!([conn(0), conn(1), conn(2), conn(3)].map(|conn| connections.place(conn)), [NO_PLACE, 1, 2, 0]);
    }

    #[test]
    fn the_deferred_opens_of_a_user_are_taken() {
        let mut connections = Connections::default();
        for (slot, user) in [Some("alice"), None, Some("bob"), Some("alice")].into_iter().enumerate() {
            let mut open = opened(conn(slot as u64));
            open.user = user.map(Into::into);
            connections.defer_open(&open);
        }
        let found: Vec<ConnectionId> = connections.take_deferred_of("alice").iter().map(|open| open.conn).collect();
        assert_eq!(found, [conn(0), conn(3)]);
        assert!(
            connections.is_deferred(conn(1)) && connections.is_deferred(conn(2)) && !connections.is_deferred(conn(0))
        );
    }

    #[test]
    fn a_connection_with_a_deferred_open_has_no_place_and_is_taken_once() {
        let mut connections = Connections::default();
        connections.defer_open(&opened(conn(0)));
        connections.defer_open(&opened(conn(1)));
        connections.defer_open(&opened(conn(2)));
        assert_eq!((connections.place(conn(0)), connections.is_deferred(conn(0))), (NO_PLACE, true));
        assert!(connections.take_deferred(conn(0)).is_some() && connections.take_deferred(conn(0)).is_none());
        assert_eq!((connections.open(conn(0)), connections.is_deferred(conn(0))), (0, false));
        let rest: Vec<ConnectionId> = connections.take_all_deferred().values().map(|open| open.conn).collect();
        assert_eq!(rest, [conn(1), conn(2)]);
        assert!(!connections.is_deferred(conn(1)) && connections.take_all_deferred().values().next().is_none());
    }
}
