//! The cluster's thread: between the queue of requests, the node that decides, and Redis.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::time::{sleep_until, timeout};
use wsguard_proto::cluster::backoff::Backoff;
use wsguard_proto::cluster::node::Node;
use wsguard_proto::cluster::ops::{Effect, OpId};
use wsguard_proto::cluster::url::Host;
use wsguard_proto::time::Moment;

use super::Shared;
use super::connect::{Connected, Target};
use super::dice::dice;
use super::refusal::Refusal;
use super::session::{Outcome, Session};
use crate::driver::caught::{caught, said};
use crate::driver::clock::Clock;

/// Outcomes that are taken in before the node is asked what it wants.
const MAX_OUTCOMES: usize = 1024;
/// For a change of connections while others go on, and for the last words of a node.
const PATIENCE: Duration = Duration::from_secs(1);

type Connecting = Pin<Box<dyn Future<Output = Result<Connected, Refusal>> + Send>>;

/// Where Redis is with us.
enum Link {
    Up(Box<Session>),
    Trying(Connecting),
    /// The next try.
    Down(Moment),
}

pub(super) struct Worker {
    shared: Arc<Shared>,
    target: Arc<Target>,
    clock: Clock,
    node: Node,
    /// Tells the server what to do.
    act: Box<dyn Fn(Effect) + Send>,
    effects: Vec<Effect>,
    link: Link,
    backoff: Backoff,
    /// Masters of a Cluster, as they were known last.
    masters: Vec<Host>,
    turn: usize,
    /// Hears of the first try.
    first: Option<Sender<Result<(), Refusal>>>,
    /// What was said last of why Redis cannot be reached.
    told: Option<String>,
    was_up: bool,
}

/// What woke the thread.
enum Woken {
    Outcome(Result<Outcome, String>),
    Connected(Result<Connected, Refusal>),
    Asked,
}

impl Worker {
    pub(super) fn new(
        shared: Arc<Shared>,
        target: Arc<Target>,
        clock: Clock,
        node: Node,
        act: Box<dyn Fn(Effect) + Send>,
        first: Sender<Result<(), Refusal>>,
    ) -> Self {
        Self {
            shared,
            target,
            clock,
            node,
            act,
            effects: Vec::new(),
            link: Link::Down(Moment::START),
            backoff: Backoff::new(dice()),
            masters: Vec::new(),
            turn: dice() as usize % 64,
            first: Some(first),
            told: None,
            was_up: false,
        }
    }

    /// Works until the queue is closed.
    pub(super) async fn run(mut self) {
        while !self.shared.queue.is_over() {
            self.try_again();
            self.take_requests();
            self.tend().await;
            self.ask_node();
            self.tell();
            let woken = self.wait().await;
            self.take(woken);
            self.take_more();
            self.tell();
        }
        self.leave().await;
    }

    /// Begins to connect when it is time.
    fn try_again(&mut self) {
        if matches!(self.link, Link::Down(at) if at <= self.clock.now()) {
            let (target, masters, turn) = (Arc::clone(&self.target), self.masters.clone(), self.turn);
            self.turn = self.turn.wrapping_add(1);
            self.link = Link::Trying(Box::pin(async move { target.connect(&masters, turn).await }));
        }
    }

    /// While Redis does not keep up, requests wait where they are counted.
    fn take_requests(&mut self) {
        if matches!(&self.link, Link::Up(session) if !session.has_room()) {
            return;
        }
        let now = self.clock.now();
        for request in self.shared.queue.take() {
            self.node.request(request, now, &mut self.effects);
        }
    }

    /// Has the node's ops carried out.
    fn ask_node(&mut self) {
        let now = self.clock.now();
        let mut ops = Vec::new();
        match &mut self.link {
            Link::Up(session) if session.has_room() => {
                self.node.poll(now, &mut ops, &mut self.effects);
                let at = Instant::now();
                for (id, op) in ops {
                    session.carry(id, op, at);
                }
                session.flush();
            }
            // What is on its way comes first.
            Link::Up(_) => {}
            // The node asks for nothing; its timers go on.
            _ => self.node.poll(now, &mut ops, &mut self.effects),
        }
    }

    /// Looks after the connections.
    async fn tend(&mut self) {
        if !matches!(self.link, Link::Up(_)) {
            return;
        }
        if self.node.deaf(self.clock.now()) {
            self.lost("messages do not arrive, although it answers");
            // It answers: there is nothing to wait for.
            self.link = Link::Down(Moment::START);
            return;
        }
        let Link::Up(session) = &mut self.link else { return };
        let late = |_| Err(Refusal::away("no answer within 1000 ms"));
        let mut outcome = session.tend(Instant::now()).map_err(Refusal::Away);
        if outcome.is_ok() && session.has_to_renew() {
            outcome = timeout(PATIENCE, session.renew()).await.unwrap_or_else(late);
        }
        if let Err(why) = outcome {
            self.lost(&why.to_string());
        }
    }

    /// Waits for anything to happen.
    async fn wait(&mut self) -> Woken {
        // The node was asked just now.
        let soon = tokio::time::Instant::now() + Duration::from_millis(1);
        let mut until = self.clock.instant(self.node.next()).max(soon);
        match &self.link {
            Link::Up(session) => {
                if !session.has_room() {
                    // The node waits as well; what is on its way wakes the thread.
                    until = until.max(tokio::time::Instant::now() + PATIENCE);
                }
                until = session.deadline().map_or(until, |deadline| until.min(deadline.into()));
            }
            Link::Down(at) => until = until.min(self.clock.instant(*at)),
            Link::Trying(_) => {}
        }
        let (link, queue) = (&mut self.link, &self.shared.queue);
        tokio::select! {
            biased;
            woken = core::future::poll_fn(|cx| poll_link(link, cx)) => woken,
            () = queue.woken() => Woken::Asked,
            () = sleep_until(until) => Woken::Asked,
        }
    }

    /// Takes in what has come already.
    fn take_more(&mut self) {
        for _ in 0..MAX_OUTCOMES {
            let mut cx = Context::from_waker(std::task::Waker::noop());
            let Link::Up(session) = &mut self.link else { return };
            match session.poll_outcome(&mut cx, Instant::now()) {
                Poll::Ready(outcome) => self.take(Woken::Outcome(outcome)),
                Poll::Pending => return,
            }
        }
    }

    fn take(&mut self, woken: Woken) {
        let now = self.clock.now();
        match woken {
            Woken::Outcome(Ok(Outcome::Reply(id, reply))) => self.node.reply(id, reply, now, &mut self.effects),
            Woken::Outcome(Ok(Outcome::Heard(topic, bytes))) => {
                self.node.heard(&topic, &bytes, now, &mut self.effects);
            }
            Woken::Outcome(Ok(Outcome::Overheard)) => self.node.overheard(now),
            Woken::Outcome(Err(why)) => self.lost(&why),
            Woken::Connected(Ok(connected)) => {
                let session = Session::new(Arc::clone(&self.target), connected);
                self.masters = session.masters();
                self.link = Link::Up(Box::new(session));
                self.node.connected(now);
            }
            Woken::Connected(Err(why)) => self.refused(&why),
            Woken::Asked => {}
        }
    }

    fn try_later(&mut self) {
        self.backoff.failed(self.clock.now());
        self.link = Link::Down(self.backoff.at());
    }

    fn refused(&mut self, why: &Refusal) {
        self.try_later();
        match (self.first.take(), why) {
            // The start fails, and says so.
            (Some(first), Refusal::Wrong(_)) => drop(first.send(Err(why.clone()))),
            (first, _) => {
                self.complain(&why.to_string());
                if let Some(first) = first {
                    let _ = first.send(Err(why.clone()));
                }
            }
        }
    }

    fn lost(&mut self, why: &str) {
        self.try_later();
        self.node.disconnected(self.clock.now(), &mut self.effects);
        self.complain(why);
    }

    /// Says why Redis cannot be reached, each reason once.
    fn complain(&mut self, why: &str) {
        let url = &self.target.url;
        if self.told.as_deref() == Some(why) {
            said(|| tracing::debug!(target: "wsguard", "cluster: {url} cannot be reached: {why}"));
            return;
        }
        let what = if self.was_up && self.told.is_none() { "was lost" } else { "cannot be reached" };
        let meanwhile = if self.target.closes { "lets nobody in (`on_outage`)" } else { "goes on alone" };
        said(
            || tracing::warn!(target: "wsguard", "cluster: {url} {what}: {why}; this node {meanwhile}, and tries again"),
        );
        self.told = Some(why.to_owned());
    }

    /// Carries out effects.
    fn tell(&mut self) {
        for effect in core::mem::take(&mut self.effects) {
            match effect {
                Effect::Entered { ticket, outcome } => self.shared.seats.answered(ticket, outcome),
                effect => {
                    if let Effect::Reachable(is_reachable) = effect {
                        self.reachable(is_reachable);
                    }
                    let _ = caught(|| (self.act)(effect));
                }
            }
        }
        let (shared, now) = (&self.shared, self.clock.now());
        shared.lag_ns.store(nanos(self.node.lag(now)), Ordering::Relaxed);
        shared.dropped.store(self.node.dropped(), Ordering::Relaxed);
    }

    fn reachable(&mut self, is_reachable: bool) {
        self.shared.is_reachable.store(is_reachable, Ordering::Release);
        if !is_reachable {
            return;
        }
        self.backoff.succeeded();
        let (url, what) = (&self.target.url, if self.was_up { "is back" } else { "connected" });
        said(|| tracing::info!(target: "wsguard", "cluster: {url} {what}"));
        (self.told, self.was_up) = (None, true);
        if let Some(first) = self.first.take() {
            let _ = first.send(Ok(()));
        }
    }

    /// Gives back what this node holds, and goes.
    async fn leave(mut self) {
        let now = self.clock.now();
        for request in self.shared.queue.close() {
            self.node.request(request, now, &mut self.effects);
        }
        let mut ops = Vec::new();
        if let Link::Up(session) = &mut self.link {
            self.node.poll(now, &mut ops, &mut self.effects);
            let last = self.node.stop(now).into_iter().map(|op| (OpId(u64::MAX), op));
            for (id, op) in ops.into_iter().chain(last) {
                session.carry(id, op, Instant::now());
            }
            session.flush();
            let answers = async {
                while !session.is_idle() {
                    if core::future::poll_fn(|cx| session.poll_outcome(cx, Instant::now())).await.is_err() {
                        return;
                    }
                }
            };
            let _ = timeout(PATIENCE, answers).await;
        }
        self.tell();
    }
}

fn poll_link(link: &mut Link, cx: &mut Context<'_>) -> Poll<Woken> {
    match link {
        Link::Up(session) => session.poll_outcome(cx, Instant::now()).map(Woken::Outcome),
        Link::Trying(connecting) => connecting.as_mut().poll(cx).map(Woken::Connected),
        Link::Down(_) => Poll::Pending,
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
