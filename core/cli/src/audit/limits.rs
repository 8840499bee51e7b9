//! What an audit may cost its server: connections, bytes, seconds, and the rate of connections.

use std::sync::Mutex;
use std::time::{Duration, Instant};

/// What may be spent at most; said before the first connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Budget {
    pub(crate) connections: u32,
    /// Bytes in both directions.
    pub(crate) bytes: u64,
    pub(crate) seconds: u64,
}

impl std::ops::Add for Budget {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            connections: self.connections + other.connections,
            bytes: self.bytes + other.bytes,
            seconds: self.seconds + other.seconds,
        }
    }
}

/// Counts what is spent, and holds new connections to their rate. Shared by the threads of an audit.
pub(crate) struct Purse {
    left: Mutex<Budget>,
    until: Instant,
    next: Mutex<Instant>,
    apart: Duration,
}

impl Purse {
    pub(crate) fn new(budget: Budget, connections_per_second: f64) -> Self {
        let now = Instant::now();
        Self {
            left: Mutex::new(budget),
            until: now + Duration::from_secs(budget.seconds),
            next: Mutex::new(now),
            apart: Duration::from_secs_f64(1.0 / connections_per_second),
        }
    }

    /// Waits for the turn of a connection, and counts it.
    pub(crate) fn connection(&self, apart: Option<Duration>) -> Result<(), &'static str> {
        let at = {
            let mut next = locked(&self.next);
            let at = (*next).max(Instant::now());
            *next = at + apart.unwrap_or(self.apart);
            at
        };
        if at >= self.until {
            return Err("the seconds of the plan are spent");
        }
        std::thread::sleep(at.saturating_duration_since(Instant::now()));
        let mut left = locked(&self.left);
        left.connections = left.connections.checked_sub(1).ok_or("the connections of the plan are spent")?;
        Ok(())
    }

    /// Counts bytes; false when there are no more.
    pub(crate) fn bytes(&self, count: usize) -> bool {
        let mut left = locked(&self.left);
        let enough = left.bytes >= count as u64;
        left.bytes = left.bytes.saturating_sub(count as u64);
        enough && Instant::now() < self.until
    }

    /// What is left of a duration before the end of the plan.
    pub(crate) fn within(&self, wanted: Duration) -> Duration {
        wanted.min(self.until.saturating_duration_since(Instant::now()))
    }
}

/// A panic elsewhere leaves numbers behind, which are still numbers.
fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_spent_is_gone() {
        let purse = Purse::new(Budget { connections: 2, bytes: 10, seconds: 60 }, 1000.0);
        assert!(purse.connection(None).is_ok() && purse.connection(None).is_ok());
        assert!(purse.connection(None).is_err());
        assert!(purse.bytes(10) && !purse.bytes(1));
        let over = Purse::new(Budget { connections: 2, bytes: 10, seconds: 0 }, 1000.0);
        assert!(over.connection(None).is_err() && !over.bytes(1));
        assert_eq!(over.within(Duration::from_secs(5)), Duration::ZERO);
    }

    #[test]
    fn connections_keep_their_distance() {
        let purse = Purse::new(Budget { connections: 10, bytes: 0, seconds: 60 }, 100.0);
        let began = Instant::now();
        for _ in 0..4 {
            purse.connection(None).unwrap();
        }
        assert!(began.elapsed() >= Duration::from_millis(30));
    }
}
