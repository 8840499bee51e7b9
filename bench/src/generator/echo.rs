//! Echo in a closed loop on every connection: warm-up, then a measured window.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use mio::{Events, Poll, Token};

use super::connection::{Connection, Traffic};
use super::opening::{Target, open_all, wait};
use super::payload::Payload;
use super::{Meter, STALL};
use crate::plan::{Message, Window};
use crate::sample::Sample;
use crate::server::Server;

pub(super) fn run(
    server: &Server,
    tls: bool,
    message: Message,
    connections: usize,
    in_flight: u32,
    window: Window,
) -> Result<Sample> {
    let mut poll = Poll::new()?;
    let transports = open_all(&Target::new(server, tls)?, &mut poll, 0, connections)?;
    let mut connections: Vec<_> = transports.into_iter().map(Connection::new).collect();
    let mut traffic = Traffic::new(Payload::new(message), in_flight);
    for connection in &mut connections {
        connection.send(&traffic)?;
    }
    let mut events = Events::with_capacity(1024);
    let started = Instant::now();
    let mut last_echo = started;
    let mut meter: Option<Meter> = None;
    loop {
        wait(&mut poll, &mut events)?;
        for event in &events {
            let Token(number) = event.token();
            let connection = &mut connections[number];
            let count = |latency, echoes| {
                if let Some(meter) = &mut meter {
                    meter.count(latency, echoes);
                }
            };
            if connection.advance(&mut traffic, count).with_context(|| format!("connection {number}"))? {
                connection.send(&traffic)?;
            }
        }
        let now = Instant::now();
        if !events.is_empty() {
            last_echo = now;
        }
        ensure!(now - last_echo < STALL, "no echo for {STALL:?}");
        match meter.take_if(|meter| meter.is_over(now)) {
            Some(meter) => return meter.close(),
            None if meter.is_none() && now - started >= window.warm_up => {
                ensure!(
                    connections.iter().all(Connection::is_proven),
                    "a connection is starved: no echo in the warm-up"
                );
                meter = Some(Meter::open(server, window)?);
            }
            None => {}
        }
    }
}

/// One echo on each connection, unmeasured.
pub(super) fn once(poll: &mut Poll, first: usize, connections: &mut [Connection], traffic: &mut Traffic) -> Result<()> {
    for connection in &mut *connections {
        connection.send(traffic)?;
    }
    let mut events = Events::with_capacity(1024);
    let mut missing = connections.len();
    let mut last_echo = Instant::now();
    while missing > 0 {
        wait(poll, &mut events)?;
        for event in &events {
            let connection = event.token().0.checked_sub(first).and_then(|number| connections.get_mut(number));
            let Some(connection) = connection.filter(|connection| !connection.is_proven()) else { continue };
            if connection.advance(traffic, |_, _| {})? {
                (missing, last_echo) = (missing - 1, Instant::now());
            }
        }
        ensure!(last_echo.elapsed() < STALL, "no echo for {STALL:?}, {missing} are missing");
    }
    Ok(())
}
