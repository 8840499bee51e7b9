//! A line from time to time while tests run, so that a person (or the log of a CI) sees that they do.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often a line comes: a run of twelve minutes has some forty of them.
pub const EVERY: Duration = Duration::from_secs(20);

/// Prints a line every so often, until it is dropped.
#[derive(Debug)]
pub struct Progress {
    /// Its end ends the thread at once.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Progress {
    /// Prints every 20 seconds what `line` says; it is given the time since this call.
    pub fn start(line: impl Fn(Duration) -> String + Send + 'static) -> Self {
        Self::tell(EVERY, line, |line| println!("{line}"))
    }

    fn tell(
        every: Duration,
        line: impl Fn(Duration) -> String + Send + 'static,
        print: impl Fn(String) + Send + 'static,
    ) -> Self {
        let began = Instant::now();
        let (stop, stopped) = channel();
        let thread = std::thread::spawn(move || {
            while stopped.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                print(line(began.elapsed()));
            }
        });
        Self { stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A time as a person says it: `45 s`, `3 min 05 s`.
pub fn spent(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..60 => format!("{seconds} s"),
        seconds => format!("{} min {:02} s", seconds / 60, seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_until_the_end() {
        let (tell, told) = channel();
        let progress =
            Progress::tell(Duration::from_millis(1), |_| "at work".into(), move |line| drop(tell.send(line)));
        assert_eq!(told.recv().as_deref(), Ok("at work"));
        assert_eq!(told.recv().as_deref(), Ok("at work"));
        drop(progress);
        assert_eq!(told.iter().find(|line| line != "at work"), None, "nothing is told after the end");
    }

    #[test]
    fn times_read_well() {
        assert_eq!(
            [0, 59, 60, 725].map(|s| spent(Duration::from_secs(s))),
            ["0 s", "59 s", "1 min 00 s", "12 min 05 s"]
        );
    }
}
