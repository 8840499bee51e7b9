//! Reads the union of `wsg_event`, by the kind of the event.
#![expect(unsafe_code, reason = "a union is read by the kind that was written with it")]

use crate::events::{
    AdoptionEnded, Close, Event, EventKind, Message, Open, Pipe, Pong, Upgrade, UpgradeGone, Violation,
};
use crate::json::Known;
use crate::pointers::Str;

/// The body of an event, by its kind.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Seen<'event> {
    Upgrade(&'event Upgrade),
    Open(&'event Open),
    Payload(Str),
    Message(&'event Message),
    Close(&'event Close),
    Violation(&'event Violation),
    Pong(&'event Pong),
    UpgradeGone(&'event UpgradeGone),
    Pipe(&'event Pipe),
    AdoptionEnded(&'event AdoptionEnded),
    Drained,
    Closing,
}

/// Reads the body of an event of ours.
pub(crate) fn seen(event: &Event) -> Seen<'_> {
    // SAFETY: kind and body are set together, in `views.rs` and in `run::settle` alone, and C gets events to read only; the pointers
    // lead into the same `Views` as the event, which is borrowed, or to what `settle` holds.
    unsafe {
        match event.kind {
            EventKind::Upgrade => Seen::Upgrade(&*event.body.upgrade),
            EventKind::Open => Seen::Open(&*event.body.open),
            EventKind::Text | EventKind::Binary | EventKind::PingFrame | EventKind::PongFrame => {
                Seen::Payload(event.body.payload)
            }
            EventKind::Message => Seen::Message(&*event.body.message),
            EventKind::Close => Seen::Close(&*event.body.close),
            EventKind::Violation => Seen::Violation(&*event.body.violation),
            EventKind::Pong => Seen::Pong(&*event.body.pong),
            EventKind::UpgradeGone => Seen::UpgradeGone(&*event.body.upgrade_gone),
            EventKind::PipeReady | EventKind::PipeRoom => Seen::Pipe(&*event.body.pipe),
            EventKind::AdoptionEnded => Seen::AdoptionEnded(&*event.body.adoption_ended),
            EventKind::Drained => Seen::Drained,
            EventKind::Closing => Seen::Closing,
        }
    }
}

/// The JSON of a message of ours, which the core has checked.
pub(crate) fn known(message: &Message) -> Known {
    let text = |Str { data, len }| (data.addr(), len);
    Known::at(text(message.data), text(message.id))
}
