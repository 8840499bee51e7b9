//! Clients that come and go, over and over, so many at a time: opening handshakes here, `offences` elsewhere.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use mio::{Events, Poll, Token};

use super::opening::{Opening, Target, wait};
use super::{Meter, STALL};
use crate::plan::{Window, Workload};
use crate::sample::Sample;
use crate::server::Server;

/// Connect, upgrade, close.
pub(super) fn handshakes(server: &Server, workload: &Workload, concurrent: usize, window: Window) -> Result<Sample> {
    let target = Target::of(server, workload)?;
    let head = target.request_head();
    let start = |number, poll: &Poll, token| Opening::start(&target, number, poll, token);
    over_and_over(server, concurrent, window, start, |opening| opening.advance(&head))
}

/// Keeps `concurrent` clients on their way. `start` begins the visit with a number; `advance` goes on after an event,
/// and says whether the visit is over.
pub(super) fn over_and_over<Visit>(
    server: &Server,
    concurrent: usize,
    window: Window,
    start: impl Fn(usize, &Poll, Token) -> Result<Visit>,
    advance: impl Fn(&mut Visit) -> Result<bool>,
) -> Result<Sample> {
    let start = |number, poll: &Poll, token| Ok((start(number, poll, token)?, Instant::now()));
    let mut poll = Poll::new()?;
    let mut visits = (0..concurrent).map(|number| start(number, &poll, Token(number))).collect::<Result<Vec<_>>>()?;
    let mut number = concurrent;
    let mut events = Events::with_capacity(1024);
    let mut meter = Meter::new(server, window);
    let mut last_end = Instant::now();
    loop {
        wait(&mut poll, &mut events)?;
        for event in &events {
            let (visit, since) = &mut visits[event.token().0];
            if advance(visit).with_context(|| format!("one of the first {number} clients"))? {
                last_end = Instant::now();
                meter.count(last_end - *since, 1);
                // The old connection is closed as it is replaced.
                visits[event.token().0] = start(number, &poll, event.token())?;
                number += 1;
            }
        }
        let now = Instant::now();
        ensure!(now - last_end < STALL, "no client was answered for {STALL:?}");
        if let Some(sample) = meter.step(now)? {
            return Ok(sample);
        }
    }
}
