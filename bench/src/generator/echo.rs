//! Echo in a closed loop on every connection: warm-up, then a measured window.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use mio::{Events, Poll, Token};

use super::connection::{Connection, Traffic};
use super::opening::{Target, open_all, wait};
use super::payload::Payload;
use super::{Meter, STALL};
use crate::plan::{Message, Window, Workload};
use crate::sample::Sample;
use crate::server::Server;

pub(super) fn run(
    server: &Server,
    workload: &Workload,
    message: Message,
    connections: usize,
    in_flight: u32,
    window: Window,
) -> Result<Sample> {
    let mut poll = Poll::new()?;
    let transports = open_all(&Target::of(server, workload)?, &mut poll, connections)?;
    let mut connections: Vec<_> = transports.into_iter().map(Connection::new).collect();
    let mut traffic = Traffic::new(Payload::new(message, workload.compressed)?, in_flight);
    for connection in &mut connections {
        connection.send(&traffic)?;
    }
    let mut events = Events::with_capacity(1024);
    let mut meter = Meter::new(server, window);
    let mut last_echo = Instant::now();
    loop {
        wait(&mut poll, &mut events)?;
        for event in &events {
            let Token(number) = event.token();
            let connection = &mut connections[number];
            let on_echo = |latency, echoes| meter.count(latency, echoes);
            if connection.advance(&mut traffic, on_echo).with_context(|| format!("connection {number}"))? {
                connection.send(&traffic)?;
            }
        }
        let now = Instant::now();
        if !events.is_empty() {
            last_echo = now;
        }
        ensure!(now - last_echo < STALL, "no echo for {STALL:?}");
        if meter.is_about_to_open(now) {
            ensure!(connections.iter().all(Connection::is_proven), "a connection is starved: no echo in the warm-up");
        }
        if let Some(sample) = meter.step(now)? {
            return Ok(sample);
        }
    }
}
