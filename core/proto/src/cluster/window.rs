//! Each message once: which numbers of which node were heard already.

use std::collections::HashMap;

use super::ops::NodeId;
use crate::time::Moment;

/// How far a message may come behind a later one of its node: over the shards of a Redis Cluster they overtake one another.
const WORDS: usize = 64;
const NUMBERS: u64 = WORDS as u64 * 64;
/// No message comes so far behind: the later one was made up, and it is the one to forget. Otherwise nothing of its node is new again.
const FAR: u64 = 1 << 20;

/// Nodes that are remembered. Whoever makes up more displaces the ones that were silent for longest.
const MAX_NODES: usize = 2048;

struct Window {
    highest: u64,
    seen: [u64; WORDS],
    last: Moment,
}

/// What was heard of all nodes.
#[derive(Default)]
pub(super) struct Windows(HashMap<NodeId, Box<Window>>);

impl Windows {
    /// Whether this message is the first of its number.
    pub(super) fn is_new(&mut self, from: NodeId, number: u64, now: Moment) -> bool {
        if !self.0.contains_key(&from) && self.0.len() >= MAX_NODES {
            self.forget_one();
        }
        let fresh = || Box::new(Window { highest: number, seen: [0; WORDS], last: now });
        let window = self.0.entry(from).or_insert_with(fresh);
        window.last = now;
        window.note(number)
    }

    fn forget_one(&mut self) {
        let oldest = self.0.iter().min_by_key(|(_, window)| window.last).map(|(node, _)| *node);
        oldest.map(|node| self.0.remove(&node));
    }
}

impl Window {
    fn note(&mut self, number: u64) -> bool {
        if number > self.highest {
            // At most one round: further on everything is cleared.
            let ahead = (number - self.highest).min(NUMBERS);
            (0..ahead).for_each(|back| self.clear(number - back));
            self.highest = number;
        } else if self.highest - number >= FAR {
            (self.highest, self.seen) = (number, [0; WORDS]);
        } else if self.highest - number >= NUMBERS {
            return false;
        }
        let (word, bit) = place(number);
        let is_new = self.seen[word] & bit == 0;
        self.seen[word] |= bit;
        is_new
    }

    fn clear(&mut self, number: u64) {
        let (word, bit) = place(number);
        self.seen[word] &= !bit;
    }
}

fn place(number: u64) -> (usize, u64) {
    ((number / 64) as usize % WORDS, 1 << (number % 64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    #[test]
    fn made_up_nodes_displace_the_silent_ones_only() {
        let mut windows = Windows::default();
        let node = |number: u64| NodeId(u128::from(number).to_be_bytes());
        for number in 1..10_000 {
            assert!(windows.is_new(node(number), 1, Moment::from_millis(number)));
            assert_eq!(windows.is_new(node(0), 1, Moment::from_millis(number)), number == 1);
        }
        assert_eq!(windows.0.len(), MAX_NODES);
        assert!(windows.is_new(node(5), u64::MAX, Moment::NEVER));
        assert!(windows.is_new(node(5), 0, Moment::NEVER) || !windows.is_new(node(5), u64::MAX, Moment::NEVER));
    }

    proptest! {
        #[test]
        fn each_number_is_new_once(jumps in prop::collection::vec((0u64..6000, 0u64..5000), 1..200)) {
            let mut windows = Windows::default();
            let (mut heard, mut highest) = (HashSet::new(), 10_000);
            for (ahead, back) in jumps {
                let number = (highest + ahead).saturating_sub(back);
                let is_new = windows.is_new(NodeId([0; 16]), number, Moment::START);
                let in_reach = number > highest || heard.is_empty() || highest - number < NUMBERS;
                prop_assert_eq!(is_new, in_reach && !heard.contains(&number), "{}", number);
                highest = if heard.is_empty() { number } else { highest.max(number) };
                heard.insert(number);
            }
        }
    }
}
