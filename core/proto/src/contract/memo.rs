//! What has been found out about one message: answers that more than one way asks for, and which parts of a value the
//! schema has evaluated.

use std::collections::HashMap;

/// Answers in one page: 4096 of two bits.
const PAGE: usize = 4096;

/// Which items or members of one value have been evaluated, for `unevaluatedItems` and `unevaluatedProperties`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Evaluated {
    #[default]
    Nothing,
    /// A bit for each.
    Some(Vec<u64>),
    All,
}

impl Evaluated {
    pub(super) fn mark(&mut self, ordinal: usize, count: usize) {
        if *self == Self::Nothing {
            *self = Self::Some(vec![0; count.div_ceil(64)]);
        }
        if let Self::Some(words) = self
            && let Some(word) = words.get_mut(ordinal / 64)
        {
            *word |= 1 << (ordinal % 64);
        }
    }

    pub(super) fn add(&mut self, other: Self) {
        match (&mut *self, other) {
            (Self::All, _) | (_, Self::Nothing) => {}
            (Self::Some(words), Self::Some(others)) => {
                words.iter_mut().zip(others).for_each(|(word, other)| *word |= other);
            }
            (_, other) => *self = other,
        }
    }

    pub(super) fn holds(&self, ordinal: usize) -> bool {
        match self {
            Self::Nothing => false,
            Self::Some(words) => words.get(ordinal / 64).is_some_and(|word| word >> (ordinal % 64) & 1 == 1),
            Self::All => true,
        }
    }

    /// What copying or adding it costs, in steps.
    pub(super) fn size(&self) -> u64 {
        match self {
            Self::Some(words) => words.len() as u64,
            _ => 0,
        }
    }
}

/// Answers by node and value. Memory is taken in pages, where answers are.
#[derive(Debug)]
pub(super) struct Memo {
    values: usize,
    pages: Vec<Option<Box<[u64; PAGE / 32]>>>,
    evaluated: HashMap<(u32, u32), Evaluated>,
}

impl Memo {
    pub(super) fn new(slots: u32, values: usize) -> Self {
        let pages = (slots as usize * values).div_ceil(PAGE);
        Self { values, pages: vec![None; pages], evaluated: HashMap::new() }
    }

    fn place(&self, slot: u32, value: u32) -> (usize, usize, u32) {
        let index = slot as usize * self.values + value as usize;
        (index / PAGE, index % PAGE / 32, (index % 32 * 2) as u32)
    }

    pub(super) fn answer(&self, slot: u32, value: u32) -> Option<bool> {
        let (page, word, shift) = self.place(slot, value);
        let page = self.pages.get(page)?.as_ref()?;
        match page.get(word)? >> shift & 3 {
            1 => Some(false),
            2 => Some(true),
            _ => None,
        }
    }

    pub(super) fn keep(&mut self, slot: u32, value: u32, answer: bool) {
        let (page, word, shift) = self.place(slot, value);
        if let Some(page) = self.pages.get_mut(page)
            && let Some(word) = page.get_or_insert_with(|| Box::new([0; PAGE / 32])).get_mut(word)
        {
            *word |= if answer { 2 } else { 1 } << shift;
        }
    }

    /// What of a value is evaluated when it fits.
    pub(super) fn evaluated(&self, slot: u32, value: u32) -> Option<&Evaluated> {
        self.evaluated.get(&(slot, value))
    }

    pub(super) fn keep_evaluated(&mut self, slot: u32, value: u32, evaluated: Evaluated) {
        self.evaluated.insert((slot, value), evaluated);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_kept_apart() {
        let mut memo = Memo::new(3, 5000);
        let answer = |slot: u32, value: u32| (slot + value) % 3;
        for (slot, value) in (0..3).flat_map(|slot| (0..5000).map(move |value| (slot, value))) {
            assert_eq!(memo.answer(slot, value), None);
            if answer(slot, value) > 0 {
                memo.keep(slot, value, answer(slot, value) == 1);
            }
        }
        for (slot, value) in (0..3).flat_map(|slot| (0..5000).map(move |value| (slot, value))) {
            assert_eq!(memo.answer(slot, value), [None, Some(true), Some(false)][answer(slot, value) as usize]);
        }
    }

    #[test]
    fn evaluated_parts_add_up() {
        let mut some = Evaluated::default();
        assert!(!some.holds(0));
        some.mark(70, 100);
        some.mark(3, 100);
        let mut other = Evaluated::default();
        other.mark(4, 100);
        some.add(other);
        some.add(Evaluated::Nothing);
        assert_eq!((0..100).filter(|ordinal| some.holds(*ordinal)).collect::<Vec<_>>(), [3, 4, 70]);
        some.add(Evaluated::All);
        assert!(some.holds(99));
        some.mark(1, 100);
        assert_eq!(some, Evaluated::All);
    }
}
