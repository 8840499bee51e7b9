//! Which connections have something to do, and the one task that lets them do it.
//!
//! A task per connection costs more memory than an idle connection's whole state, and more cache lines per message than
//! the message: what a connection needs of the runtime is only a waker.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use super::with_shard;
use wsguard_proto::lock::lock;

/// Connections that have their turn before accepting, commands and timers have theirs.
const TURNS_PER_ROUND: usize = 256;

/// The connections of one shard that were woken.
#[derive(Debug, Default)]
pub(super) struct RunQueue(Mutex<Woken>);

#[derive(Debug, Default)]
struct Woken {
    connections: Vec<Arc<SessionWaker>>,
    /// The task that runs them, while it sleeps.
    runner: Option<Waker>,
    /// The shard is gone: a waker that were kept now would keep this, and this it.
    is_closed: bool,
}

impl RunQueue {
    fn push(&self, woken: Arc<SessionWaker>) {
        let mut queue = lock(&self.0);
        if queue.is_closed {
            return;
        }
        queue.connections.push(woken);
        let runner = queue.runner.take();
        drop(queue);
        if let Some(runner) = runner {
            runner.wake();
        }
    }

    /// Lets go of every waker and takes no more.
    pub(super) fn close(&self) {
        *lock(&self.0) = Woken { is_closed: true, ..Woken::default() };
    }

    fn has_more(&self) -> bool {
        !lock(&self.0).connections.is_empty()
    }

    fn poll_take(&self, into: &mut Vec<Arc<SessionWaker>>, cx: &mut Context<'_>) -> Poll<()> {
        let mut queue = lock(&self.0);
        if queue.connections.is_empty() {
            queue.runner = Some(cx.waker().clone());
            return Poll::Pending;
        }
        core::mem::swap(&mut queue.connections, into);
        Poll::Ready(())
    }
}

/// What wakes one connection: made once, when it opens.
#[derive(Debug)]
pub(super) struct SessionWaker {
    queue: Arc<RunQueue>,
    slot: u32,
    generation: u32,
    is_queued: AtomicBool,
}

impl SessionWaker {
    pub(super) fn waker(queue: &Arc<RunQueue>, slot: u32, generation: u32) -> Waker {
        Arc::new(Self { queue: Arc::clone(queue), slot, generation, is_queued: AtomicBool::new(false) }).into()
    }
}

impl Wake for SessionWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.is_queued.swap(true, Ordering::AcqRel) {
            self.queue.push(Arc::clone(self));
        }
    }
}

/// Runs the connections of this thread's shard as they are woken.
pub(in crate::driver) async fn run_connections() {
    let Some(queue) = with_shard(|shard| Some(Arc::clone(&shard.run_queue))) else { return };
    let mut woken = Vec::new();
    loop {
        std::future::poll_fn(|cx| queue.poll_take(&mut woken, cx)).await;
        let mut rounds = woken.chunks(TURNS_PER_ROUND).peekable();
        while let Some(round) = rounds.next() {
            with_shard(|shard| {
                for connection in round {
                    connection.is_queued.store(false, Ordering::Release);
                    let (slot, generation) = (connection.slot, connection.generation);
                    shard.shielded(|shard| shard.run_session(slot, generation));
                }
            });
            if rounds.peek().is_some() {
                tokio::task::yield_now().await;
            }
        }
        woken.clear();
        if queue.has_more() {
            // Whoever could not finish comes again after the sockets of all others were looked at.
            tokio::task::yield_now().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_queued_once_until_it_runs() {
        let queue = Arc::new(RunQueue::default());
        let waker = SessionWaker::waker(&queue, 3, 1);
        waker.wake_by_ref();
        waker.wake_by_ref();
        let mut woken = Vec::new();
        let cx = &mut Context::from_waker(Waker::noop());
        assert!(queue.poll_take(&mut woken, cx).is_ready());
        assert_eq!(woken.iter().map(|connection| connection.slot).collect::<Vec<_>>(), [3]);
        assert!(queue.poll_take(&mut Vec::new(), cx).is_pending());
    }

    #[test]
    fn nothing_is_kept_once_the_shard_is_gone() {
        let queue = Arc::new(RunQueue::default());
        let (early, late) = (SessionWaker::waker(&queue, 1, 1), SessionWaker::waker(&queue, 2, 1));
        early.wake_by_ref();
        queue.close();
        late.wake_by_ref();
        drop((early, late));
        assert_eq!(Arc::strong_count(&queue), 1);
    }
}
