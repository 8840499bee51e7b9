//! Batches of events.

use super::*;
use wsguard_proto::contract::{JsonLimits, Scratch};
use wsguard_proto::handshake::Offers;

fn contract(events: &str) -> Arc<Contract> {
    Arc::new(Contract::compile(&serde_json::from_str(events).unwrap(), JsonLimits::default()).unwrap())
}

#[test]
fn messages_of_several_contracts_keep_their_names() {
    let (mut own, mut batch, conn) = (EventBatch::of_shard(0), EventBatch::new(), ConnectionId::from_u64(1));
    let contracts = [contract(r#"{"b": {}, "c": {}}"#), contract(r#"{"a": {}, "b": {}}"#)];
    let mut scratch = Scratch::new();
    for (which, event) in [(0, "b"), (1, "b"), (0, "c"), (1, "a"), (0, "x"), (1, "b")] {
        let text = format!(r#"{{"event":"{event}","data":{which}}}"#);
        let envelope = contracts[which].read(&text, &mut scratch).unwrap();
        own.push_message(conn, &Message::Event { envelope: &envelope, text: &text }, &contracts[which]);
    }
    let state = super::super::state::idle(r#""threads": 1"#);
    batch.swap(&mut own, &state.inbox);
    drop(contracts);
    let told = |batch: &EventBatch| {
        let told = batch.iter().map(|event| match event {
            Event::Message(message) => format!("{}{}", message.event, message.data.as_str()),
            other => format!("{other:?}"),
        });
        told.collect::<Vec<_>>()
    };
    assert_eq!(told(&batch), ["b0", "b1", "c0", "a1", "x0", "b1"], "also when nobody else has the contracts");
    assert_eq!((batch.contracts.len(), own.contracts.len()), (2, 0));
    batch.clear();
    assert!(batch.contracts.is_empty());
}

#[test]
fn an_empty_batch_stands_for_nothing_whatever_it_keeps() {
    let mut batch = EventBatch::new();
    let conn = ConnectionId::from_u64(1);
    for _ in 0..1000 {
        batch.push_message(conn, &Message::Binary(&[7; 1000]), &contract("{}"));
    }
    let least = 1000 * (1000 + size_of::<Record>());
    assert!((least..least * 13 / 10).contains(&batch.bytes()), "{} of {least}", batch.bytes());
    batch.clear();
    assert_eq!(batch.bytes(), 0);
    batch.push_message(conn, &Message::Text("hello"), &contract("{}"));
    assert!(batch.bytes() < 10_000, "what is kept is not counted again: {}", batch.bytes());
}

#[test]
fn every_event_shows_although_the_buffers_have_room() {
    let mut batch = EventBatch::new();
    let conn = ConnectionId::from_u64(1);
    for _ in 0..1000 {
        let before = (batch.used(), batch.bytes());
        batch.push_drained(conn);
        assert!(batch.used() > before.0 && batch.bytes() >= before.1 && batch.bytes() >= batch.used());
    }
}

#[test]
fn messages_are_told_apart_from_what_is_none() {
    let mut batch = EventBatch::new();
    let conn = ConnectionId::from_u64(1);
    batch.push_message(conn, &Message::Binary(&[7; 1000]), &contract("{}"));
    assert_eq!(batch.others, 0);
    batch.push_close(conn, &Ending::ours(1000, "bye", None));
    batch.push_drained(conn);
    assert_eq!(batch.others, 2 * size_of::<Record>() + 3);
    batch.clear();
    assert_eq!(batch.others, 0);
}

#[test]
fn boxes_are_counted_with_all_they_own() {
    let mut batch = EventBatch::new();
    let long = "x".repeat(8000);
    let request = UpgradeRequest {
        method: "GET".into(),
        path: "/".into(),
        route: None,
        params: Params::default(),
        query: None,
        headers: vec![("cookie".into(), long.clone())],
        raw_headers: Vec::new(),
        ip: None,
        token: None,
        peer_certificate: None,
        reported: false,
    };
    let (ticket, _answered) =
        Arc::new(super::super::tickets::Tickets::default()).issue(1, None, Offers::default(), true).unwrap();
    let (id, permit) = (HandshakeId::default(), ticket.permit());
    let identity = Some(GrantedIdentity { claims: Some(long.as_str().into()), ..GrantedIdentity::default() });
    let (local, port, adopted) = Default::default();
    let upgrade = Upgrade { id, ticket: ticket.id(), request, identity, local, port, adopted, _permit: permit };
    assert!(!format!("{upgrade:?}").contains("xxx"), "none of it is shown");
    batch.push_upgrade(upgrade);
    assert!((16_000..28_000).contains(&batch.bytes()), "{}", batch.bytes());
    let blank = crate::binding::blank_open(ConnectionId::from_u64(1));
    batch.push_open(Open { path: long.as_str().into(), ..blank.clone() });
    assert!(batch.bytes() > 24_000, "{}", batch.bytes());
    let text = || Some(long.as_str().into());
    let pairs = || Pairs::from([("a".into(), long.as_str().into())]);
    let open = Open { query: text(), headers: pairs(), cookies: pairs(), origin: text(), claims: text(), ..blank };
    assert!(!format!("{open:?}").contains("xxx"), "none of it is shown");
    batch.push_open(open);
    assert!(batch.bytes() > 64_000, "{}", batch.bytes());
    assert_eq!(batch.upgrades, 1);
}
