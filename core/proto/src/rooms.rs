//! Room membership of one shard: who is in which room. Sending is not its business.

use std::collections::HashMap;
use std::sync::Arc;

/// Rooms one connection may be in: peers often choose the names, so that memory has a bound.
pub const MAX_ROOMS_PER_CONNECTION: usize = 1024;

/// The rooms of one shard. A member is the connection's slot.
#[derive(Debug, Default)]
pub struct Rooms {
    members: HashMap<Arc<str>, Vec<u32>>,
}

impl Rooms {
    /// Adds a member; `None` when it was one already. The name that is returned is shared by all members.
    pub fn join(&mut self, room: &str, member: u32) -> Option<Arc<str>> {
        let name = match self.members.get_key_value(room) {
            Some((name, _)) => Arc::clone(name),
            None => Arc::from(room),
        };
        let members = self.members.entry(Arc::clone(&name)).or_default();
        let at = members.binary_search(&member).err()?;
        members.insert(at, member);
        Some(name)
    }

    /// Removes a member; whether it was one. A room without members is forgotten.
    pub fn leave(&mut self, room: &str, member: u32) -> bool {
        let Some(members) = self.members.get_mut(room) else { return false };
        let Ok(at) = members.binary_search(&member) else { return false };
        members.remove(at);
        if members.is_empty() {
            self.members.remove(room);
        }
        true
    }

    /// The members of a room, in ascending order.
    pub fn members(&self, room: &str) -> &[u32] {
        self.members.get(room).map_or(&[], Vec::as_slice)
    }

    /// Rooms with at least one member.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there is no room at all.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn join_and_leave() {
        let mut rooms = Rooms::default();
        assert!(rooms.join("a", 2).is_some());
        assert!(rooms.join("a", 1).is_some());
        assert!(rooms.join("a", 2).is_none());
        assert_eq!(rooms.members("a"), [1, 2]);
        assert!(rooms.leave("a", 2));
        assert!(!rooms.leave("a", 2));
        assert!(!rooms.leave("b", 1));
        assert!(rooms.leave("a", 1));
        assert!(rooms.is_empty());
        assert_eq!(rooms.members("a"), [0u32; 0]);
    }
}
