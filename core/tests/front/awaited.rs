//! Events in a task, on any runtime.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake};
use std::thread::Thread;

use super::*;

/// A runtime of ten lines: nothing here is tokio's.
struct Unpark(Thread, AtomicUsize);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.1.fetch_add(1, Ordering::AcqRel);
        self.0.unpark();
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let waker = Arc::new(Unpark(std::thread::current(), AtomicUsize::new(0))).into();
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park_timeout(TIMEOUT),
        }
    }
}

/// Echoes until the server has stopped; how many messages came.
async fn echo(mut server: Server) -> usize {
    let (handle, mut messages) = (server.handle(), 0);
    while let Some(event) = server.recv().await {
        if let Event::Text(conn, text) = event {
            messages += 1;
            handle.conn(conn).send(text).unwrap();
        }
    }
    messages
}

#[test]
fn a_task_hears_every_event_on_a_runtime_of_its_own() {
    let mut server = Server::start(raw()).unwrap();
    let handle = server.handle();
    let (mut client, _) = connect(&mut server);
    let application = std::thread::spawn(move || block_on(echo(server)));
    for round in 0..200 {
        say(&mut client, &round.to_string());
        assert_eq!(hear(&mut client), round.to_string());
    }
    handle.stop();
    assert_eq!(application.join().unwrap(), 200);
}

#[test]
fn a_task_of_tokio_hears_them_and_may_give_up_waiting() {
    let mut server = Server::start(raw()).unwrap();
    let handle = server.handle();
    let (mut client, _) = connect(&mut server);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async move {
        // A wait that is given up loses nothing.
        assert!(tokio::time::timeout(Duration::from_millis(1), server.recv()).await.is_err());
        let task = tokio::spawn(echo(server));
        let peer = std::thread::spawn(move || {
            say(&mut client, "hello");
            assert_eq!(hear(&mut client), "hello");
            handle.stop();
        });
        assert_eq!(task.await.unwrap(), 1);
        peer.join().unwrap();
    });
}

#[test]
fn a_task_that_always_has_events_lets_others_have_their_turn() {
    const MESSAGES: usize = 1000;
    let mut server = Server::start(Options { rate_limit: None, ..raw() }).unwrap();
    let (mut client, _) = connect(&mut server);
    (0..MESSAGES).for_each(|_| say(&mut client, "x"));
    while server.handle().stats().messages_in < MESSAGES as u64 {
        std::thread::yield_now();
    }
    let wakes = Arc::new(Unpark(std::thread::current(), AtomicUsize::new(0)));
    let waker = Arc::clone(&wakes).into();
    let (mut heard, mut yields) = (0, 0);
    while heard < MESSAGES {
        match pin!(server.recv()).poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(event) => heard += usize::from(matches!(event, Some(Event::Text(..)))),
            Poll::Pending => yields += 1,
        }
    }
    assert!((MESSAGES / 128..=MESSAGES / 128 + 2).contains(&yields), "{yields} turns were given away");
    assert!(wakes.1.load(Ordering::Acquire) >= yields, "who gives its turn away is woken again");
}
