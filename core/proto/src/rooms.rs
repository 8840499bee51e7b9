//! Who is in which room: sets of connections by name. Neither locks nor sending are its business.

use std::collections::HashMap;
use std::sync::Arc;

/// Rooms one connection may be in: peers often choose the names, so that memory has a bound.
pub const MAX_ROOMS_PER_CONNECTION: usize = 1024;

/// Members whose numbers differ in their low 8 bits alone, as a bitmap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// The high bits of the members.
    pub key: u32,
    /// Bit `n` of them: `key << 8 | n` is a member.
    pub bits: [u64; 4],
}

impl Block {
    /// Its members, in ascending order.
    pub fn members(self) -> impl Iterator<Item = u32> {
        (0..4).zip(self.bits).flat_map(move |(word, mut bits)| {
            core::iter::from_fn(move || {
                let low = (bits != 0).then(|| bits.trailing_zeros())?;
                bits &= bits - 1;
                Some((self.key << 8) | (word * 64) | low)
            })
        })
    }
}

/// The members of a block in little memory: a few by their low bits, many as a bitmap.
#[derive(Clone, Debug)]
enum Low {
    Few { len: u8, low: [u8; FEW] },
    Many(Box<[u64; 4]>),
}

const FEW: usize = 14;

impl Low {
    fn of(member: u8) -> Self {
        let mut low = [0; FEW];
        low[0] = member;
        Low::Few { len: 1, low }
    }

    fn bits(&self) -> [u64; 4] {
        match self {
            Low::Many(bits) => **bits,
            Low::Few { len, low } => {
                let mut bits = [0; 4];
                low[..usize::from(*len)].iter().for_each(|low| bits[usize::from(*low) / 64] |= 1 << (low % 64));
                bits
            }
        }
    }

    fn len(&self) -> usize {
        match self {
            Low::Few { len, .. } => usize::from(*len),
            Low::Many(bits) => bits.iter().map(|word| word.count_ones() as usize).sum(),
        }
    }

    fn insert(&mut self, member: u8) -> bool {
        match self {
            Low::Few { len, low } => {
                let end = usize::from(*len);
                if low[..end].contains(&member) {
                    return false;
                }
                if end < FEW {
                    low[end] = member;
                    *len += 1;
                    return true;
                }
                *self = Low::Many(Box::new(self.bits()));
                self.insert(member)
            }
            Low::Many(bits) => {
                let (word, bit) = (&mut bits[usize::from(member) / 64], 1 << (member % 64));
                let is_new = *word & bit == 0;
                *word |= bit;
                is_new
            }
        }
    }

    fn remove(&mut self, member: u8) -> bool {
        match self {
            Low::Few { len, low } => {
                let end = usize::from(*len);
                let Some(at) = low[..end].iter().position(|own| *own == member) else { return false };
                low[at] = low[end - 1];
                *len -= 1;
                true
            }
            Low::Many(bits) => {
                let (word, bit) = (&mut bits[usize::from(member) / 64], 1 << (member % 64));
                let was_there = *word & bit != 0;
                *word &= !bit;
                if self.len() <= FEW / 2 {
                    self.shrink();
                }
                was_there
            }
        }
    }

    fn shrink(&mut self) {
        let (mut len, mut low) = (0, [0; FEW]);
        for member in (Block { key: 0, bits: self.bits() }).members().take(FEW) {
            low[usize::from(len)] = member as u8;
            len += 1;
        }
        *self = Low::Few { len, low };
    }
}

/// A set of connections, each a number of 32 bits. Entering and leaving cost the same however many there are.
#[derive(Clone, Debug)]
pub struct Members(Set);

#[derive(Clone, Debug)]
enum Set {
    /// A single one, as most users have.
    One(u32),
    /// By their high bits, in ascending order.
    Many(Vec<(u32, Low)>),
}

impl Default for Members {
    fn default() -> Self {
        Self(Set::Many(Vec::new()))
    }
}

impl Members {
    /// Adds a member; whether it is new.
    pub fn insert(&mut self, member: u32) -> bool {
        match &mut self.0 {
            Set::One(own) if *own == member => false,
            Set::One(own) => {
                let own = *own;
                self.0 = Set::Many(vec![(own >> 8, Low::of(own as u8))]);
                self.insert(member)
            }
            Set::Many(blocks) if blocks.is_empty() => {
                self.0 = Set::One(member);
                true
            }
            Set::Many(blocks) => match blocks.binary_search_by_key(&(member >> 8), |block| block.0) {
                Ok(at) => blocks[at].1.insert(member as u8),
                Err(at) => {
                    blocks.insert(at, (member >> 8, Low::of(member as u8)));
                    true
                }
            },
        }
    }

    /// Removes a member; whether it was one.
    pub fn remove(&mut self, member: u32) -> bool {
        match &mut self.0 {
            Set::One(own) => {
                let was_there = *own == member;
                if was_there {
                    self.0 = Set::Many(Vec::new());
                }
                was_there
            }
            Set::Many(blocks) => {
                let Ok(at) = blocks.binary_search_by_key(&(member >> 8), |block| block.0) else { return false };
                let was_there = blocks[at].1.remove(member as u8);
                if blocks[at].1.len() == 0 {
                    blocks.remove(at);
                    if blocks.len() * 4 < blocks.capacity() {
                        blocks.shrink_to(blocks.len() * 2);
                    }
                }
                was_there
            }
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        match &self.0 {
            Set::One(_) => 1,
            Set::Many(blocks) => blocks.iter().map(|(_, low)| low.len()).sum(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        matches!(&self.0, Set::Many(blocks) if blocks.is_empty())
    }

    /// All of them, in ascending order of their keys.
    pub fn blocks(&self) -> impl Iterator<Item = Block> {
        let (one, many) = match &self.0 {
            Set::One(member) => (Some(*member), &[][..]),
            Set::Many(blocks) => (None, &blocks[..]),
        };
        let one = one.map(|member| Block { key: member >> 8, bits: Low::of(member as u8).bits() });
        one.into_iter().chain(many.iter().map(|(key, low)| Block { key: *key, bits: low.bits() }))
    }
}

/// Sets of connections by name; a set without members is forgotten.
#[derive(Debug, Default)]
pub struct Groups {
    members: HashMap<Arc<str>, Members>,
}

impl Groups {
    /// Adds a member; `None` when it was one already. The name that is returned is shared by all members.
    pub fn enter(&mut self, name: &str, member: u32) -> Option<Arc<str>> {
        if let Some((shared, _)) = self.members.get_key_value(name) {
            let shared = Arc::clone(shared);
            return self.members.get_mut(name)?.insert(member).then_some(shared);
        }
        let shared: Arc<str> = Arc::from(name);
        self.enter_shared(&shared, member);
        Some(shared)
    }

    /// As [`enter`](Self::enter), with a name that is shared already.
    pub fn enter_shared(&mut self, name: &Arc<str>, member: u32) -> bool {
        self.members.entry(Arc::clone(name)).or_default().insert(member)
    }

    /// Removes a member; whether it was one.
    pub fn leave(&mut self, name: &str, member: u32) -> bool {
        let Some(members) = self.members.get_mut(name) else { return false };
        let was_there = members.remove(member);
        if members.is_empty() {
            self.members.remove(name);
            if self.members.len() * 8 < self.members.capacity() {
                self.members.shrink_to(self.members.len() * 2);
            }
        }
        was_there
    }

    /// The members of one set; `None`: there are none.
    pub fn get(&self, name: &str) -> Option<&Members> {
        self.members.get(name)
    }

    /// Sets with at least one member.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there is no set at all.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn all(members: &Members) -> Vec<u32> {
        members.blocks().flat_map(Block::members).collect()
    }

    proptest! {
        #[test]
        fn a_set_is_a_set(acts in prop::collection::vec((any::<bool>(), 0u32..3, 0u32..40, 0u32..7), 0..600)) {
            let (mut set, mut model) = (Members::default(), BTreeSet::new());
            for (enters, shard, block, low) in acts {
                let member = shard << 24 | (block % 4) << 8 | (low * 37 + block);
                if enters {
                    prop_assert_eq!(set.insert(member), model.insert(member));
                } else {
                    prop_assert_eq!(set.remove(member), model.remove(&member));
                }
                prop_assert_eq!((set.len(), set.is_empty()), (model.len(), model.is_empty()));
            }
            prop_assert_eq!(all(&set), model.into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_large_set_takes_little_and_an_empty_one_nothing() {
        let mut set = Members::default();
        assert!((0..100_000).all(|member| set.insert(member)) && !set.insert(77));
        let Set::Many(blocks) = &set.0 else { panic!("one of many") };
        let bytes = blocks.capacity() * size_of::<(u32, Low)>() + blocks.len() * 32;
        assert!(bytes < 100_000, "less than a byte for each: {bytes}");
        assert!((1..100_000).all(|member| set.remove(member)) && !set.remove(77));
        let Set::Many(blocks) = &set.0 else { panic!("it was many") };
        assert_eq!((blocks.len(), blocks.capacity() < 16, all(&set)), (1, true, vec![0]));
        assert!(set.remove(0) && set.is_empty());
    }

    #[test]
    fn enter_and_leave() {
        let mut rooms = Groups::default();
        let name = rooms.enter("a", 2).unwrap();
        assert!(Arc::ptr_eq(&name, &rooms.enter("a", 1).unwrap()), "the name is shared");
        assert!(rooms.enter("a", 2).is_none() && !rooms.enter_shared(&name, 1));
        assert_eq!(rooms.get("a").map(all), Some(vec![1, 2]));
        assert!(rooms.leave("a", 2) && !rooms.leave("a", 2) && !rooms.leave("b", 1));
        assert!(rooms.leave("a", 1));
        assert!(rooms.is_empty() && rooms.get("a").is_none());
    }

    #[test]
    fn entries_are_small() {
        assert!(size_of::<Members>() <= 24 && size_of::<(u32, Low)>() <= 24);
    }
}
