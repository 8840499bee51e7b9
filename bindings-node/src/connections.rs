//! Which place in the JavaScript table a connection has: small numbers, used again after a close.

use wsguard::host::{ConnectionId, ConnectionMap};

/// No place: an event that belongs to no open connection.
pub(crate) const NOBODY: u32 = u32::MAX;

#[derive(Debug, Default)]
pub(crate) struct Connections {
    places: ConnectionMap<u32>,
    free: Vec<u32>,
    /// The smallest place that was never taken.
    next: u32,
}

impl Connections {
    pub(crate) fn place(&self, conn: ConnectionId) -> u32 {
        self.places.get(conn).copied().unwrap_or(NOBODY)
    }

    /// Gives an opened connection its place.
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
        self.free.push(place);
        place
    }
}

/// The two halves of a 64-bit id, low first: JavaScript's numbers hold 53 bits.
pub(crate) fn halves(id: u64) -> [u32; 2] {
    [id as u32, (id >> 32) as u32]
}

pub(crate) fn whole(low: u32, high: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}
