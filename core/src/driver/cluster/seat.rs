//! The places of connections: asked for, granted or refused, and given back whatever happens in between.

use core::fmt;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::{Sleep, sleep};
use wsguard_proto::cluster::ops::{Request, UserFull};
use wsguard_proto::lock::lock;

use super::queue::Queue;

#[derive(Default)]
struct State {
    answer: Option<Result<(), UserFull>>,
    waker: Option<Waker>,
    /// Its time was over before the answer came: the connection is let in as in an outage.
    is_let_in: bool,
    /// Nobody has the place, or waits for it, any more.
    is_left: bool,
}

struct Seat {
    user: Arc<str>,
    queue: Arc<Queue>,
    state: Mutex<State>,
}

impl Seat {
    /// Takes the answer in. A place that nobody waits for is given back. A connection that is open by now, and for which there was
    /// none, counts all the same: otherwise another one more would be let in once the user has come down to its limit.
    fn answer(&self, mut outcome: Result<(), UserFull>) {
        let mut state = lock(&self.state);
        if state.answer.is_some() {
            return;
        }
        if outcome.is_err() && state.is_let_in && !state.is_left {
            // Under the lock: whoever leaves now says so behind it.
            self.queue.push(Request::Stay { user: Arc::clone(&self.user) });
            outcome = Ok(());
        }
        state.answer = Some(outcome);
        let (is_left, waker) = (state.is_left, state.waker.take());
        drop(state);
        if is_left && outcome.is_ok() {
            self.give_back();
        }
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The time is over: it is let in, unless an answer has come just now.
    fn let_in(&self) -> Result<(), UserFull> {
        let mut state = lock(&self.state);
        state.is_let_in = state.answer.is_none();
        state.answer.unwrap_or(Ok(()))
    }

    fn leave(&self) {
        let mut state = lock(&self.state);
        state.is_left = true;
        let was_granted = state.answer == Some(Ok(()));
        drop(state);
        if was_granted {
            self.give_back();
        }
    }

    fn give_back(&self) {
        self.queue.push(Request::Exit { user: Arc::clone(&self.user) });
    }
}

/// A place of a connection in the cluster. It is given back with this.
pub(in crate::driver) struct Entered(Arc<Seat>);

impl fmt::Debug for Entered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Entered")
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// Waits for a place.
pub(super) struct Entering {
    seat: Option<Entered>,
    patience: Duration,
    /// Where it has begun to wait.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Future for Entering {
    type Output = Result<Entered, UserFull>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let Some(Entered(seat)) = &this.seat else { return Poll::Pending };
        let answer = {
            let mut state = lock(&seat.state);
            if state.answer.is_none() {
                state.waker = Some(cx.waker().clone());
            }
            state.answer
        };
        match answer {
            Some(Err(full)) => return Poll::Ready(Err(full)),
            Some(Ok(())) => {}
            None => {
                let timer = this.timer.get_or_insert_with(|| Box::pin(sleep(this.patience)));
                if timer.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                if let Err(full) = seat.let_in() {
                    return Poll::Ready(Err(full));
                }
            }
        }
        this.seat.take().map_or(Poll::Pending, |seat| Poll::Ready(Ok(seat)))
    }
}

/// Those who wait for an answer, by their tickets.
pub(super) struct Seats {
    queue: Arc<Queue>,
    /// For how long an opening handshake waits for the cluster; then it goes on as in an outage.
    patience: Duration,
    next: AtomicU64,
    waiting: Mutex<HashMap<u64, Arc<Seat>>>,
}

impl Seats {
    pub(super) fn new(queue: Arc<Queue>, patience: Duration) -> Self {
        Self { queue, patience, next: AtomicU64::new(0), waiting: Mutex::default() }
    }

    /// Asks for a place. Where nobody is there to ask, there is one.
    pub(super) fn enter(&self, user: Arc<str>, most: u32) -> Entering {
        let state = Mutex::default();
        let seat = Arc::new(Seat { user: Arc::clone(&user), queue: Arc::clone(&self.queue), state });
        let ticket = self.next.fetch_add(1, Ordering::Relaxed);
        lock(&self.waiting).insert(ticket, Arc::clone(&seat));
        if !self.queue.push(Request::Enter { ticket, user, most }) {
            self.answered(ticket, Ok(()));
        }
        Entering { seat: Some(Entered(seat)), patience: self.patience, timer: None }
    }

    /// The cluster has answered.
    pub(super) fn answered(&self, ticket: u64, outcome: Result<(), UserFull>) {
        let seat = lock(&self.waiting).remove(&ticket);
        if let Some(seat) = seat {
            seat.answer(outcome);
        }
    }

    /// Nobody will answer any more.
    pub(super) fn close(&self) {
        let waiting = core::mem::take(&mut *lock(&self.waiting));
        for seat in waiting.into_values() {
            seat.answer(Ok(()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exits(queue: &Queue) -> usize {
        said(queue).matches('-').count()
    }

    /// What was asked for: `?` a place, `+` that a connection counts, `-` that it is gone.
    fn said(queue: &Queue) -> String {
        let letter = |request: &Request| match request {
            Request::Enter { .. } => '?',
            Request::Stay { .. } => '+',
            Request::Exit { .. } => '-',
            other => panic!("{other:?}"),
        };
        queue.take().iter().map(letter).collect()
    }

    fn run<T>(act: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(act)
    }

    #[test]
    fn a_place_is_given_back_once_whenever_the_answer_comes() {
        let queue = Arc::new(Queue::default());
        let seats = Seats::new(Arc::clone(&queue), Duration::from_millis(5));
        run(async {
            // In time.
            let entering = seats.enter("u".into(), 1);
            seats.answered(0, Ok(()));
            drop(entering.await.unwrap());
            assert_eq!(exits(&queue), 1);
            // While nobody waits any more.
            drop(seats.enter("u".into(), 1));
            assert_eq!(exits(&queue), 0);
            seats.answered(1, Ok(()));
            assert_eq!(exits(&queue), 1);
            // After its time, while the connection is open.
            let entered = seats.enter("u".into(), 1).await.unwrap();
            seats.answered(2, Ok(()));
            seats.answered(2, Ok(()));
            assert_eq!(exits(&queue), 0);
            drop(entered);
            assert_eq!(exits(&queue), 1);
            // After its time, and when it is closed.
            drop(seats.enter("u".into(), 1).await.unwrap());
            seats.answered(3, Ok(()));
            assert_eq!(exits(&queue), 1);
        });
    }

    #[test]
    fn what_was_refused_is_not_given_back() {
        let queue = Arc::new(Queue::default());
        let seats = Seats::new(Arc::clone(&queue), Duration::from_millis(5));
        run(async {
            let entering = seats.enter("u".into(), 1);
            seats.answered(0, Err(UserFull { open: 7 }));
            assert_eq!(entering.await.unwrap_err(), UserFull { open: 7 });
            drop(seats.enter("u".into(), 1));
            seats.answered(1, Err(UserFull { open: 7 }));
            assert_eq!(said(&queue), "??");
            // Where the cluster has ended everybody is let in, and nothing is asked.
            let entering = seats.enter("u".into(), 1);
            queue.close();
            seats.close();
            drop(entering.await.unwrap());
            drop(seats.enter("u".into(), 1).await.unwrap());
            assert_eq!(exits(&queue), 0);
        });
    }

    #[test]
    fn whoever_was_let_in_before_it_was_refused_counts_until_it_leaves() {
        let queue = Arc::new(Queue::default());
        let seats = Seats::new(Arc::clone(&queue), Duration::from_millis(5));
        run(async {
            let entered = seats.enter("u".into(), 1).await.unwrap();
            seats.answered(0, Err(UserFull { open: 7 }));
            assert_eq!(said(&queue), "?+");
            drop(entered);
            assert_eq!(said(&queue), "-");
            // It has left before it was refused: there is nothing to count.
            drop(seats.enter("u".into(), 1).await.unwrap());
            seats.answered(1, Err(UserFull { open: 7 }));
            assert_eq!(said(&queue), "?");
        });
    }
}
