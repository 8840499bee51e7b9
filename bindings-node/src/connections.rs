//! Which place in the JavaScript table a connection has: small numbers, used again after a close.
//!
//! Where nobody listens to opens and closes, a connection gets a place only when there is something to tell of it. Until
//! then JavaScript does not know it, and one that is thrown out before its first message costs it nothing.

use wsguard::host::{ConnectionId, ConnectionMap, Open};

/// No place: an event that belongs to no connection that JavaScript knows.
pub(crate) const NOBODY: u32 = u32::MAX;

#[derive(Debug)]
enum Known {
    Place(u32),
    Withheld(Box<Open>),
}

#[derive(Debug, Default)]
pub(crate) struct Connections {
    known: ConnectionMap<Known>,
    withheld: usize,
    free: Vec<u32>,
    /// Places of closes that JavaScript may not have come to.
    freed: Vec<u32>,
    /// The smallest place that was never taken.
    next: u32,
}

impl Connections {
    pub(crate) fn place(&self, conn: ConnectionId) -> u32 {
        match self.known.get(conn) {
            Some(Known::Place(place)) => *place,
            Some(Known::Withheld(_)) | None => NOBODY,
        }
    }

    /// Gives a connection its place.
    pub(crate) fn open(&mut self, conn: ConnectionId) -> u32 {
        let place = self.free.pop().unwrap_or_else(|| {
            self.next += 1;
            self.next - 1
        });
        self.known.insert(conn, Known::Place(place));
        place
    }

    /// Takes the place of a closed connection back.
    pub(crate) fn close(&mut self, conn: ConnectionId) -> u32 {
        let Some(Known::Place(place)) = self.known.remove(conn) else { return NOBODY };
        self.freed.push(place);
        place
    }

    /// JavaScript has come to every close that it was told of.
    pub(crate) fn caught_up(&mut self) {
        self.free.append(&mut self.freed);
    }

    /// Keeps an opened connection from JavaScript.
    pub(crate) fn withhold(&mut self, open: &Open) {
        self.known.insert(open.conn, Known::Withheld(Box::new(open.clone())));
        self.withheld += 1;
    }

    pub(crate) fn is_withheld(&self, conn: ConnectionId) -> bool {
        self.withheld > 0 && matches!(self.known.get(conn), Some(Known::Withheld(_)))
    }

    /// The opening of a connection that was withheld, and is so no longer.
    pub(crate) fn unveil(&mut self, conn: ConnectionId) -> Option<Box<Open>> {
        if !self.is_withheld(conn) {
            return None;
        }
        let Some(Known::Withheld(open)) = self.known.remove(conn) else { return None };
        self.withheld -= 1;
        Some(open)
    }

    /// The connections that JavaScript does not know.
    pub(crate) fn withheld(&self) -> Vec<ConnectionId> {
        if self.withheld == 0 {
            return Vec::new();
        }
        let conn = |known: &Known| match known {
            Known::Withheld(open) => Some(open.conn),
            Known::Place(_) => None,
        };
        self.known.values().filter_map(conn).collect()
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
        Open { conn, ticket: None, ip: None, user: None, path: "/".into(), subprotocol: None }
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
    fn a_withheld_connection_has_no_place_and_is_unveiled_once() {
        let mut connections = Connections::default();
        connections.withhold(&opened(conn(0)));
        connections.withhold(&opened(conn(1)));
        assert_eq!(connections.place(conn(0)), NOBODY);
        assert_eq!(connections.withheld(), [conn(0), conn(1)]);
        assert!(connections.unveil(conn(0)).is_some() && connections.unveil(conn(0)).is_none());
        assert_eq!((connections.open(conn(0)), connections.withheld()), (0, vec![conn(1)]));
        assert!(connections.unveil(conn(1)).is_some());
        assert_eq!(connections.withheld(), []);
    }
}
