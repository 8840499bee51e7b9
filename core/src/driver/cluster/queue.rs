//! What shards and applications ask of the cluster, on its way to the cluster's thread: nobody waits to hand it over.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;
use wsguard_proto::cluster::ops::Request;
use wsguard_proto::lock::lock;

/// Bytes of messages that wait; beyond them messages are dropped. What concerns users, bans and revocations is not: as much of
/// it waits as there are connections and calls.
const MAX_BYTES: usize = 32 * 1024 * 1024;
/// What a message takes besides its payload.
const OVERHEAD: usize = 128;

#[derive(Default)]
struct Waiting {
    requests: VecDeque<Request>,
    bytes: usize,
    is_over: bool,
}

/// Requests in their order.
#[derive(Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    wake: Notify,
    dropped: AtomicU64,
}

fn size(request: &Request) -> usize {
    match request {
        Request::Publish(message) => message.payload.len() + OVERHEAD * (1 + message.to.len()),
        _ => 0,
    }
}

impl Queue {
    /// Hands a request over. `false`: it was dropped, since too much waits, or since nobody takes any more.
    pub(super) fn push(&self, request: Request) -> bool {
        let size = size(&request);
        let mut waiting = lock(&self.waiting);
        if waiting.is_over || (size > 0 && waiting.bytes + size > MAX_BYTES) {
            drop(waiting);
            if size > 0 {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
            return false;
        }
        waiting.bytes += size;
        let is_first = waiting.requests.is_empty();
        waiting.requests.push_back(request);
        drop(waiting);
        if is_first {
            self.wake();
        }
        true
    }

    /// The thread looks at what changed.
    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Waits until [`wake`](Self::wake) was called since the last time.
    pub(super) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Takes what waits.
    pub(super) fn take(&self) -> VecDeque<Request> {
        let mut waiting = lock(&self.waiting);
        waiting.bytes = 0;
        core::mem::take(&mut waiting.requests)
    }

    /// Nothing is taken from now on: the thread is to end.
    pub(super) fn stop(&self) {
        lock(&self.waiting).is_over = true;
        self.wake();
    }

    /// Takes what waits, and nothing from now on.
    pub(super) fn close(&self) -> VecDeque<Request> {
        self.stop();
        self.take()
    }

    /// Whether nothing is taken any more.
    pub(super) fn is_over(&self) -> bool {
        lock(&self.waiting).is_over
    }

    /// Messages that were dropped here.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use wsguard_proto::cluster::ops::{Kind, Message, Topic};

    fn message(len: usize) -> Request {
        let payload = vec![0; len].into();
        Request::Publish(Message { to: vec![Topic::All], kind: Kind::Text, plain: false, payload })
    }

    #[test]
    fn messages_beyond_the_limit_are_dropped_and_counted_and_nothing_else_is() {
        let queue = Queue::default();
        assert!(queue.push(message(MAX_BYTES / 2)));
        assert!(!queue.push(message(MAX_BYTES / 2)));
        assert!(queue.push(Request::Exit { user: Arc::from("u") }));
        assert_eq!((queue.dropped(), queue.take().len()), (1, 2));
        assert!(queue.push(message(MAX_BYTES / 2)), "what was taken takes no room");
        assert_eq!(queue.close().len(), 1);
        assert!(!queue.push(Request::Exit { user: Arc::from("u") }) && !queue.push(message(1)));
        assert_eq!(queue.dropped(), 2);
    }
}
