//! Opening handshakes, over and over: connect, upgrade, close.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use mio::{Events, Poll, Token};

use super::opening::{Opening, Target, request_head, wait};
use super::{Meter, STALL};
use crate::plan::Window;
use crate::sample::Sample;
use crate::server::Server;

pub(super) fn run(server: &Server, tls: bool, concurrent: usize, window: Window) -> Result<Sample> {
    let target = Target::new(server, tls)?;
    let head = request_head(target.address);
    let mut poll = Poll::new()?;
    let mut slots = Vec::with_capacity(concurrent);
    for number in 0..concurrent {
        slots.push(Opening::start(&target, number, &poll, Token(number))?);
    }
    let mut number = concurrent;
    let mut events = Events::with_capacity(1024);
    let started = Instant::now();
    let mut last_opened = started;
    let mut meter: Option<Meter> = None;
    loop {
        wait(&mut poll, &mut events)?;
        for event in &events {
            let slot = &mut slots[event.token().0];
            if slot.advance(&head).with_context(|| format!("handshake {number}"))? {
                last_opened = Instant::now();
                if let Some(meter) = &mut meter {
                    meter.count(last_opened - slot.since, 1);
                }
                // The old connection is closed as it is replaced.
                *slot = Opening::start(&target, number, &poll, event.token())?;
                number += 1;
            }
        }
        let now = Instant::now();
        ensure!(now - last_opened < STALL, "no handshake was answered for {STALL:?}");
        match meter.take_if(|meter| meter.is_over(now)) {
            Some(meter) => return meter.close(),
            None if meter.is_none() && now - started >= window.warm_up => meter = Some(Meter::open(server, window)?),
            None => {}
        }
    }
}
