//! Messages that the application sends in fragments.

use super::*;
use wsguard::binding::{Code, DataOpcode, Fragment, Handled, Inline, InlineMessage, Replies};

const BEGIN: Fragment = Fragment { opcode: DataOpcode::Binary, fin: false };
const GO_ON: Fragment = Fragment { opcode: DataOpcode::Continuation, fin: false };
const END: Fragment = Fragment { opcode: DataOpcode::Continuation, fin: true };

fn frames(client: &mut TcpStream, count: usize) -> Vec<(u8, Vec<u8>)> {
    (0..count).map(|_| next_frame(client)).collect()
}

#[test]
fn whole_messages_wait_for_the_last_fragment_and_pings_do_not() {
    let mut server = start("");
    let handle = server.handle();
    let mut client = connect(&handle);
    let conn = opened(&mut server);
    handle.join(conn, "room").unwrap();
    handle.send_fragment(conn, BEGIN, b"a").unwrap();
    handle.send_text(conn, "behind").unwrap();
    handle.broadcast_text(To::Room("room"), "broadcast", &[]).unwrap();
    handle.send_ping(conn, b"p").unwrap();
    handle.send_fragment(conn, GO_ON, b"").unwrap();
    client.write_all(b"\x89\x80\0\0\0\0").unwrap();
    assert_eq!(frames(&mut client, 3).iter().map(|(first, _)| *first).collect::<Vec<_>>(), [2, 0x89, 0]);
    assert_eq!(next_frame(&mut client), (0x8a, Vec::new()));
    assert!(handle.buffered_bytes(conn) >= 8, "what waits is unsent");
    handle.send_fragment(conn, END, b"z").unwrap();
    let expected = [(0x80, b"z".to_vec()), (0x81, b"behind".to_vec()), (0x81, b"broadcast".to_vec())];
    assert_eq!(frames(&mut client, 3), expected);
    assert!(handle.metrics().contains("wsguard_messages_sent_total 3\n"));
    handle.send_text(conn, "and on").unwrap();
    assert_eq!(next_frame(&mut client), (0x81, b"and on".to_vec()));
}

#[test]
fn a_fragment_out_of_order_is_an_error_that_says_so() {
    let mut server = start("");
    let handle = server.handle();
    let mut client = connect(&handle);
    let conn = opened(&mut server);
    let refused = |fragment| handle.send_fragment(conn, fragment, b"x").unwrap_err().to_string();
    assert!(refused(END).contains("no message to go on with"));
    handle.send_fragment(conn, BEGIN, b"x").unwrap();
    assert!(refused(BEGIN).contains("no last fragment yet"));
    handle.send_fragment(conn, END, b"x").unwrap();
    assert!(refused(GO_ON).contains("no message to go on with"));
    assert_eq!(frames(&mut client, 2), [(2, b"x".to_vec()), (0x80, b"x".to_vec())]);
    assert!(handle.send_fragment(conn, BEGIN, &vec![0; 2 << 20]).unwrap_err().to_string().contains("max_outbox_bytes"));
    handle.send_fragment(conn, BEGIN, b"y").unwrap();
    // Whoever has the slot next has begun nothing.
    drop(client);
    assert!(tell(&mut server, 1)[0].starts_with("close 1006"));
    let mut client = connect(&handle);
    let next = opened(&mut server);
    assert_eq!(next.slot(), conn.slot());
    handle.send_fragment(next, BEGIN, b"z").unwrap();
    assert_eq!(next_frame(&mut client), (2, b"z".to_vec()));
    assert_eq!(handle.send_fragment(conn, END, b"").unwrap_err().code(), "connection_closed");
}

#[test]
fn fragments_are_for_raw() {
    let options = r#"{"origins": ["https://a.example"], "auth": "none", "events": {"say": {}}}"#;
    let mut server = Builder::new().without_listener().start(Options::from_json(options).unwrap()).unwrap();
    let handle = server.handle();
    let _client = connect(&handle);
    let conn = opened(&mut server);
    let error = handle.send_fragment(conn, BEGIN, b"").unwrap_err();
    assert!(error.to_string().contains("protocol raw"), "{error}");
}

/// Threads that cork fragments hand them over in an order of their own: the peer is not told what it could not read.
#[test]
fn threads_that_mix_their_fragments_lose_the_connection() {
    let mut server = start("");
    let handle = server.handle();
    let mut client = connect(&handle);
    let conn = opened(&mut server);
    {
        let _cork = handle.cork();
        handle.send_fragment(conn, BEGIN, b"held back").unwrap();
        let other = handle.clone();
        std::thread::spawn(move || other.send_fragment(conn, END, b"too early").unwrap()).join().unwrap();
    }
    assert_eq!(next_frame(&mut client).0, 0x88);
    let mut batch = EventBatch::new();
    let verdict = loop {
        assert_eq!(server.events().next(&mut batch, Some(Duration::from_secs(10))), Next::Events);
        let violation = batch.iter().find_map(|event| match event {
            Event::Violation(violation) => Some((violation.code, violation.detail.to_string())),
            _ => None,
        });
        if let Some(violation) = violation {
            break violation;
        }
    };
    assert_eq!(verdict, (Code::Internal, "a continuation has no message to go on with".to_owned()));
}

struct Echo;

impl Inline for Echo {
    fn message(&self, _: ConnectionId, message: InlineMessage<'_>, replies: &mut Replies<'_>) -> Handled {
        if let InlineMessage::Text(text) = message {
            replies.text(text);
        }
        Handled::Done
    }
}

#[test]
fn no_inline_answer_comes_between_fragments() {
    let mut server = Builder::new().without_listener().inline(Echo).start(options("")).unwrap();
    let handle = server.handle();
    let mut client = connect(&handle);
    let conn = opened(&mut server);
    client.write_all(&text("inline")).unwrap();
    // The batch with the open is not released before the next one is asked for.
    assert_eq!(server.events().next(&mut EventBatch::new(), Some(Duration::ZERO)), Next::Nothing);
    handle.send_fragment(conn, BEGIN, b"a").unwrap();
    let mut first = next_frame(&mut client);
    if first.0 == 0x81 {
        first = next_frame(&mut client);
    }
    assert_eq!(first.0, 2);
    client.write_all(&text("passed on")).unwrap();
    while !tell(&mut server, 1).contains(&"passed on".to_owned()) {}
    handle.send_fragment(conn, END, b"b").unwrap();
    assert_eq!(next_frame(&mut client), (0x80, b"b".to_vec()), "and no answer before it");
}

/// A message that never ends holds no more than an outbox.
#[test]
fn what_waits_for_the_last_fragment_is_bounded() {
    let mut server = start(r#", "max_outbox_bytes": 65536, "max_message_bytes": 65536"#);
    let handle = server.handle();
    let client = connect(&handle);
    let conn = opened(&mut server);
    handle.send_fragment(conn, BEGIN, b"a").unwrap();
    for _ in 0..20 {
        let _ = handle.broadcast_text(To::Everyone, &"x".repeat(4000), &[]);
    }
    let told = tell(&mut server, 1);
    assert!(told[0].starts_with("slow_consumer"), "{told:?}");
    drop(client);
}
