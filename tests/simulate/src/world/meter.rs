//! What Redis is asked for.

use std::collections::BTreeMap;

use wsguard_proto::cluster::ops::Op;
use wsguard_proto::cluster::store::Store;

use super::{SECOND, Time};

/// Commands and bytes, by kind.
#[derive(Debug, Default)]
pub struct Meter {
    began: Option<Time>,
    took: Time,
    kinds: BTreeMap<&'static str, (u64, u64)>,
    /// Messages that nodes heard, and their bytes.
    heard: (u64, u64),
    /// Messages that users sent and that passed.
    pub passed: u64,
    /// Of those, how many were for a room.
    pub published: u64,
}

impl Meter {
    pub(super) fn begin(&mut self, now: Time) {
        *self = Self { began: Some(now), ..Self::default() };
    }

    pub(super) fn end(&mut self, now: Time) {
        self.took = now - self.began.take().unwrap_or(now);
    }

    pub(super) fn asked(&mut self, op: &Op, store: &Store) {
        if self.began.is_none() {
            return;
        }
        for command in store.commands(op) {
            // "*n", then each word with "$n" and two line ends.
            let bytes: usize = 4 + command.words().map(|word| word.len() + 8).sum::<usize>();
            let name = command.script.map_or(command.name, |script| script.name);
            let kind = self.kinds.entry(name).or_default();
            kind.0 += 1;
            kind.1 += bytes as u64;
        }
    }

    pub(super) fn heard(&mut self, bytes: usize) {
        if self.began.is_some() {
            self.heard.0 += 1;
            self.heard.1 += bytes as u64;
        }
    }

    pub(super) fn pass(&mut self, is_published: bool) {
        if self.began.is_some() {
            self.passed += 1;
            self.published += u64::from(is_published);
        }
    }

    /// As lines.
    pub fn tell(&self) {
        let seconds = (self.took / SECOND).max(1);
        let all = self.kinds.values().fold((0, 0), |sum, kind| (sum.0 + kind.0, sum.1 + kind.1));
        println!(
            "Redis, for {} messages a second of users, {} of them to a room: {} commands and {} KiB a second in; {} messages and {} \
             KiB a second out to nodes",
            self.passed / seconds,
            self.published / seconds,
            all.0 / seconds,
            all.1 / seconds / 1024,
            self.heard.0 / seconds,
            self.heard.1 / seconds / 1024
        );
        for (name, (commands, bytes)) in &self.kinds {
            println!(
                "  {name:<12} {:>9.1} a second, {:>4} bytes each",
                *commands as f64 / seconds as f64,
                bytes / (*commands).max(1)
            );
        }
    }
}
