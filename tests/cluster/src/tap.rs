//! What stands between a node and Redis: it can cut the connection, hold everything back, delay it, or swallow the
//! messages of subscriptions and nothing else.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use wsguard_test_support::outcome::Outcome;

use crate::resp;

/// What becomes of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// They pass.
    Pass,
    /// They pass so much later.
    Delay(Duration),
    /// They wait, in both directions: to both ends the other is silent.
    Hold,
    /// There is no connection: open ones end, new ones end at once.
    Cut,
}

#[derive(Debug)]
struct Shared {
    redis: SocketAddr,
    manner: Mutex<Manner>,
    changed: Condvar,
    ended: AtomicBool,
    open: Mutex<Vec<Arc<Line>>>,
    /// Connections that were accepted.
    accepted: AtomicU64,
    /// Bytes towards Redis.
    asked: AtomicU64,
}

/// One connection through it.
#[derive(Debug)]
struct Line {
    node: TcpStream,
    redis: TcpStream,
    /// Messages of its subscriptions are swallowed.
    deaf: AtomicBool,
}

impl Line {
    fn end(&self) {
        let _ = self.node.shutdown(Shutdown::Both);
        let _ = self.redis.shutdown(Shutdown::Both);
    }
}

/// A TCP proxy on a port of its own.
#[derive(Debug)]
pub(crate) struct Tap {
    pub(crate) port: u16,
    shared: Arc<Shared>,
    listener: Option<JoinHandle<()>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Tap {
    /// In front of the server at a port of 127.0.0.1.
    pub(crate) fn before(port: u16) -> Outcome<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let own = listener.local_addr()?.port();
        let shared = Arc::new(Shared {
            redis: ([127, 0, 0, 1], port).into(),
            manner: Mutex::new(Manner::Pass),
            changed: Condvar::new(),
            ended: AtomicBool::new(false),
            open: Mutex::default(),
            accepted: AtomicU64::new(0),
            asked: AtomicU64::new(0),
        });
        let accepting = Arc::clone(&shared);
        let listener = std::thread::spawn(move || accepting.accept(&listener));
        Ok(Self { port: own, shared, listener: Some(listener) })
    }

    /// From now on.
    pub(crate) fn set(&self, manner: Manner) {
        *lock(&self.shared.manner) = manner;
        self.shared.changed.notify_all();
        if manner == Manner::Cut {
            self.end_all();
        }
    }

    /// Connections that are open now deliver no message of a subscription any more; all else passes, and so does all of later ones.
    pub(crate) fn deafen(&self) {
        for line in lock(&self.shared.open).iter() {
            line.deaf.store(true, Ordering::Release);
        }
    }

    /// Bytes that the node has sent towards Redis.
    pub(crate) fn asked(&self) -> u64 {
        self.shared.asked.load(Ordering::Acquire)
    }

    /// Connections that the node has made.
    pub(crate) fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::Acquire)
    }

    fn end_all(&self) {
        lock(&self.shared.open).drain(..).for_each(|line| line.end());
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Release);
        self.set(Manner::Cut);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(listener) = self.listener.take() {
            let _ = listener.join();
        }
        self.end_all();
    }
}

impl Shared {
    fn accept(self: Arc<Self>, listener: &TcpListener) {
        for node in listener.incoming() {
            if self.ended.load(Ordering::Acquire) {
                return;
            }
            let Ok(node) = node else { continue };
            self.accepted.fetch_add(1, Ordering::AcqRel);
            if *lock(&self.manner) == Manner::Cut {
                continue;
            }
            let Ok(redis) = TcpStream::connect(self.redis) else { continue };
            let _ = (node.set_nodelay(true), redis.set_nodelay(true));
            let line = Arc::new(Line { node, redis, deaf: AtomicBool::new(false) });
            lock(&self.open).push(Arc::clone(&line));
            if *lock(&self.manner) == Manner::Cut {
                line.end();
            }
            let (shared, asking) = (Arc::clone(&self), Arc::clone(&line));
            std::thread::spawn(move || shared.copy_questions(&asking));
            let shared = Arc::clone(&self);
            std::thread::spawn(move || shared.copy_answers(&line));
        }
    }

    fn copy_questions(&self, line: &Line) {
        let mut chunk = vec![0; 64 * 1024];
        while let Ok(length @ 1..) = (&line.node).read(&mut chunk) {
            self.asked.fetch_add(length as u64, Ordering::AcqRel);
            if !self.passes(Instant::now()) || (&line.redis).write_all(&chunk[..length]).is_err() {
                break;
            }
        }
        self.over(line);
    }

    fn copy_answers(&self, line: &Line) {
        let mut chunk = vec![0; 64 * 1024];
        let mut bytes = Vec::new();
        while let Ok(length @ 1..) = (&line.redis).read(&mut chunk) {
            bytes.extend_from_slice(&chunk[..length]);
            if !self.passes(Instant::now()) {
                break;
            }
            let mut pass = Vec::new();
            while let Some((end, is_message)) = resp::first(&bytes) {
                let reply = bytes.drain(..end);
                if !(is_message && line.deaf.load(Ordering::Acquire)) {
                    pass.extend(reply);
                }
            }
            if (&line.node).write_all(&pass).is_err() {
                break;
            }
        }
        self.over(line);
    }

    /// Waits as long as bytes that came then have to; `false`: they never pass.
    fn passes(&self, came: Instant) -> bool {
        let mut manner = lock(&self.manner);
        loop {
            let left = match *manner {
                Manner::Pass => return true,
                Manner::Cut => return false,
                Manner::Hold => None,
                Manner::Delay(by) => match (came + by).checked_duration_since(Instant::now()) {
                    None | Some(Duration::ZERO) => return true,
                    left => left,
                },
            };
            let woken = self.changed.wait_timeout(manner, left.unwrap_or(Duration::from_secs(1)));
            manner = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn over(&self, line: &Line) {
        line.end();
        lock(&self.open).retain(|open| !std::ptr::eq(&raw const **open, line));
    }
}
