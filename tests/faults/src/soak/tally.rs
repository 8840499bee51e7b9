//! What all the threads of one server's life count together.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// How many things that went wrong are told in words; all are counted.
const NOTES: usize = 12;

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn now(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counts of one server.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Attackers are to end.
    pub(crate) attackers_stop: AtomicBool,
    /// Honest clients are to leave.
    pub(crate) honest_stop: AtomicBool,
    /// Echoes that came back to honest clients.
    pub(crate) echoes: Count,
    /// Messages in rooms that came to honest clients.
    pub(crate) said: Count,
    /// Honest handshakes that were answered 101.
    pub(crate) handshakes: Count,
    /// Honest handshakes that were not.
    pub(crate) refused: Count,
    /// Messages that honest clients did not get; a connection that was broken counts at least once.
    pub(crate) lost: Count,
    /// Messages that came too late or twice.
    pub(crate) disorder: Count,
    /// Messages with bytes of somebody else.
    pub(crate) foreign: Count,
    /// Attacks that were answered in a way that is never right.
    pub(crate) let_through: Count,
    attacks: Mutex<BTreeMap<&'static str, u64>>,
    commands: Mutex<BTreeMap<&'static str, u64>>,
    notes: Mutex<Vec<String>>,
}

fn count_one(counts: &Mutex<BTreeMap<&'static str, u64>>, name: &'static str) {
    *counts.lock().unwrap_or_else(PoisonError::into_inner).entry(name).or_default() += 1;
}

fn listed(counts: &Mutex<BTreeMap<&'static str, u64>>) -> BTreeMap<&'static str, u64> {
    counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

impl Tally {
    pub(crate) fn attack(&self, name: &'static str) {
        count_one(&self.attacks, name);
    }

    pub(crate) fn command(&self, name: &'static str) {
        count_one(&self.commands, name);
    }

    /// Attacks by kind.
    pub(crate) fn attacks(&self) -> BTreeMap<&'static str, u64> {
        listed(&self.attacks)
    }

    /// The application's commands by kind.
    pub(crate) fn commands(&self) -> BTreeMap<&'static str, u64> {
        listed(&self.commands)
    }

    /// Says in words what went wrong.
    pub(crate) fn note(&self, what: impl Display) {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        if notes.len() < NOTES {
            notes.push(what.to_string());
        }
    }

    pub(crate) fn notes(&self) -> Vec<String> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Everybody is to end, attackers and honest clients.
    pub(crate) fn stop_all(&self) {
        self.attackers_stop.store(true, Ordering::Relaxed);
        self.honest_stop.store(true, Ordering::Relaxed);
    }
}
