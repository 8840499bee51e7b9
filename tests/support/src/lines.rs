//! The lines that come out of a pipe, read by a thread of their own, and who waits for them.

use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What was kept of each line, until somebody takes it.
#[derive(Debug)]
pub struct Lines<T> {
    shared: Arc<Shared<T>>,
    reader: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

#[derive(Debug)]
struct State<T> {
    items: Vec<T>,
    ended: bool,
}

impl<T> Shared<T> {
    fn with<R>(&self, change: impl FnOnce(&mut State<T>) -> R) -> R {
        let result = change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
        result
    }
}

impl<T: Send + 'static> Lines<T> {
    /// Reads until the pipe ends; `keep` decides what is kept of each line.
    pub fn of(pipe: impl Read + Send + 'static, mut keep: impl FnMut(&str) -> Option<T> + Send + 'static) -> Self {
        let state = Mutex::new(State { items: Vec::new(), ended: false });
        let shared = Arc::new(Shared { state, changed: Condvar::new() });
        let filled = Arc::clone(&shared);
        let reader = std::thread::spawn(move || {
            let mut pipe = BufReader::new(pipe);
            let mut line = Vec::new();
            while pipe.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
                let kept = keep(&String::from_utf8_lossy(line.strip_suffix(b"\n").unwrap_or(&line)));
                filled.with(|state| state.items.extend(kept));
                line.clear();
            }
            filled.with(|state| state.ended = true);
        });
        Self { shared, reader: Some(reader) }
    }

    /// Looks at what is there now, or changes it.
    pub fn with<R>(&self, look: impl FnOnce(&mut Vec<T>) -> R) -> R {
        self.shared.with(|state| look(&mut state.items))
    }

    /// Waits until `pick` finds something; `None`: it did not come in time, or the pipe has ended.
    pub fn wait<R>(&self, within: Duration, mut pick: impl FnMut(&mut Vec<T>) -> Option<R>) -> Option<R> {
        let deadline = Instant::now() + within;
        let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(found) = pick(&mut state.items) {
                return Some(found);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || state.ended {
                return None;
            }
            state = self.shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits for the first that is wanted, and takes it.
    pub fn take(&self, within: Duration, wanted: impl Fn(&T) -> bool) -> Option<T> {
        self.wait(within, |items| items.iter().position(&wanted).map(|at| items.remove(at)))
    }

    /// Takes all that are wanted and have come so far.
    pub fn take_all(&self, mut wanted: impl FnMut(&T) -> bool) -> Vec<T> {
        self.with(|items| items.extract_if(.., |item| wanted(item)).collect())
    }

    /// Waits until `least` are wanted; how many are then.
    pub fn count(&self, within: Duration, least: usize, wanted: impl Fn(&T) -> bool) -> usize {
        let counted = |items: &[T]| items.iter().filter(|item| wanted(item)).count();
        self.wait(within, |items| (counted(items) >= least).then_some(()));
        self.with(|items| counted(items))
    }

    /// Waits for the end of the pipe.
    pub fn end(&self, within: Duration) {
        self.wait(within, |_| None::<()>);
    }
}

impl<T: Clone + Send + 'static> Lines<T> {
    /// The last `count` that are there.
    pub fn tail(&self, count: usize) -> Vec<T> {
        self.with(|items| items[items.len().saturating_sub(count)..].to_vec())
    }
}

/// Whoever wrote into the pipe must be gone by now.
impl<T> Drop for Lines<T> {
    fn drop(&mut self) {
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    #[test]
    fn lines_are_taken_counted_and_end() {
        let text = &b"one\ntwo\nskip\nthree\xff"[..];
        let lines = Lines::of(text, |line| (line != "skip").then(|| line.to_owned()));
        lines.end(SOON);
        assert_eq!(lines.tail(2), ["two", "three\u{fffd}"]);
        assert_eq!(lines.count(SOON, 1, |line| line.contains('o')), 2);
        assert_eq!(lines.take(SOON, |line| line.starts_with('t')).unwrap(), "two");
        assert_eq!(lines.take(SOON, |line| line == "four"), None);
        assert_eq!(lines.take_all(|line| line.contains('e')), ["one", "three\u{fffd}"]);
        assert_eq!(lines.tail(3), [""; 0]);
    }

    #[test]
    fn who_waits_is_woken() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let lines = Lines::of(reader, |line| Some(line.to_owned()));
        assert_eq!(lines.take(Duration::from_millis(1), |_| true), None);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| lines.take(SOON, |line| line == "here"));
            std::io::Write::write_all(&mut writer, b"there\nhere\n").unwrap();
            assert_eq!(waiting.join().unwrap().unwrap(), "here");
        });
        drop(writer);
    }
}
