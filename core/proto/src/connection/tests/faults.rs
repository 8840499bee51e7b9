//! What is told of an end: which rule of framing was broken, and what the peer said itself.

use super::*;
use crate::codec::{CloseFrame, FrameFault};

const CLOSE: &[u8] = &[0x88, 0x80, 0, 0, 0, 0];

fn said(code: u16, reason: &str) -> CloseFrame {
    CloseFrame { code: Some(code), reason: reason.to_owned() }
}

fn close_frame(code: u16, reason: &str) -> Vec<u8> {
    frame(0x88, &[&code.to_be_bytes()[..], reason.as_bytes()].concat())
}

#[test]
fn every_fault_of_framing_has_its_name() {
    let cases: &[(&[u8], FrameFault, &str)] = &[
        (&[0x83], FrameFault::InvalidOpcode, "invalid_opcode"),
        (&[0x80], FrameFault::InvalidOpcode, "invalid_opcode"),
        (&[0x01, 0x80, 0, 0, 0, 0, 0x81], FrameFault::InvalidOpcode, "invalid_opcode"),
        (&[0xc1], FrameFault::ReservedBits1, "reserved_bits_1"),
        (&[0xa1], FrameFault::ReservedBits23, "reserved_bits_2_3"),
        (&[0xd1], FrameFault::ReservedBits23, "reserved_bits_2_3"),
        (&[0x09], FrameFault::ExpectedFin, "expected_fin"),
        (&[0x81, 0x05], FrameFault::ExpectedMask, "expected_mask"),
        (&[0x89, 0xfe], FrameFault::ControlTooLong, "control_too_long"),
        (&[0x88, 0x82, 0, 0, 0, 0, 3, 0xed], FrameFault::BadCloseCode, "bad_close_code"),
        (&[0x88, 0x83, 0, 0, 0, 0, 3, 0xe8, 0xff], FrameFault::BadUtf8, "bad_utf8"),
        (&[0x81, 0x81, 0, 0, 0, 0, 0xff], FrameFault::BadUtf8, "bad_utf8"),
        (&[0x01, 0x81, 0, 0, 0, 0, 0xff], FrameFault::BadUtf8, "bad_utf8"),
        (&[0x88, 0x81, 0, 0, 0, 0, 3], FrameFault::BadClosePayload, "bad_close_payload"),
        (&[0x82, 0xff, 0x80], FrameFault::LengthTooLong, "length_too_long"),
        (&[0x82, 0xfe, 0, 1], FrameFault::LengthNotMinimal, "length_not_minimal"),
        (&[0x82, 0xfe, 0, 200], FrameFault::MessageTooBig, "message_too_big"),
        (
            &[1, 0x80, 0, 0, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0x80, 0, 0, 0, 0],
            FrameFault::TooManyFragments,
            "too_many_fragments",
        ),
    ];
    for (bytes, fault, name) in cases {
        for answers in [false, true] {
            let mut rig = Rig::new(&format!(r#"{RAW}, "max_message_bytes": 126, "max_fragments": 2"#));
            rig.seen.answers_outstanding = answers;
            rig.input(bytes);
            rig.turn(Connection::handle_half_close);
            rig.pass(200);
            let ending = rig.conn.take_ending().unwrap();
            assert_eq!((ending.fault, ending.peer, fault.name()), (Some(*fault), None, *name), "{bytes:x?}");
        }
    }
}

#[test]
fn a_fault_has_the_number_that_broke_the_rule() {
    let cases: &[(&[u8], Option<u16>)] = &[
        (&[0x83], Some(3)),
        (&[0x8f], Some(15)),
        (&[0x80], Some(0)),
        (&[0x01, 0x80, 0, 0, 0, 0, 0x82], Some(2)),
        (&[0x89, 0xfe], Some(126)),
        (&[0x8a, 0xff], Some(127)),
        (&[0x88, 0x81, 0, 0, 0, 0, 3], Some(1)),
        (&[0x88, 0x82, 0, 0, 0, 0, 3, 0xed], Some(1005)),
        (&[0xc1], None),
        (&[0x81, 0x05], None),
        (&[0x81, 0x81, 0, 0, 0, 0, 0xff], None),
        (&[0x82, 0xff, 0x80], None),
    ];
    for (bytes, value) in cases {
        let mut rig = Rig::new(RAW);
        rig.input(bytes);
        rig.turn(Connection::handle_half_close);
        assert_eq!(rig.conn.take_ending().unwrap().fault_value, *value, "{bytes:x?}");
    }
}

/// Once, behind the last message, and not where the end is told in the same moment.
#[test]
fn the_beginning_of_the_end_is_told_ahead_of_it() {
    let mut rig = Rig::new(RAW);
    let faultless = Some(Beginning::default());
    assert_eq!(rig.conn.take_beginning(), None);
    rig.turn(|conn, turn| conn.close(1000, "", turn));
    assert_eq!((rig.conn.take_ending(), rig.conn.take_beginning(), rig.conn.take_beginning()), (None, faultless, None));
    rig.input(CLOSE);
    assert!(rig.conn.take_beginning().is_none() && rig.conn.take_ending().is_some());

    for (input, answers, begins) in [(CLOSE, false, false), (CLOSE, true, true), (&[0x83][..], true, true)] {
        let mut rig = Rig::new(RAW);
        rig.seen.answers_outstanding = answers;
        rig.input(input);
        let told = (rig.conn.take_ending().is_some(), rig.conn.take_beginning().is_some());
        assert_eq!(told, (!begins, begins), "{input:x?}");
        // What comes in between begins nothing anew.
        rig.turn(|conn, turn| conn.close(1000, "", turn));
        rig.pass(200);
        assert_eq!(rig.conn.take_beginning(), None, "{input:x?}");
    }

    // What waits for its rate comes first.
    let mut rig = Rig::new(r#", "protocol": "raw", "rate_limit": {"per_second": 10, "burst": 1, "queue": 5}"#);
    rig.seen.answers_outstanding = true;
    rig.text("at once");
    rig.text("later");
    rig.input(CLOSE);
    assert_eq!(rig.conn.take_beginning(), None);
    rig.pass(100);
    assert_eq!((rig.seen.messages.len(), rig.conn.take_ending(), rig.conn.take_beginning()), (2, None, faultless));
}

/// The end waits for the peer's close frame, or for answers: what the peer did is known before.
#[test]
fn a_fault_is_told_where_the_end_begins() {
    let cases: &[(&[u8], bool, FrameFault, Option<u16>)] = &[
        (&[0x81, 0x81, 0, 0, 0, 0, 0xff], false, FrameFault::BadUtf8, None),
        (&[0x81, 0xfe, 0xff, 0xff, 0, 0, 0, 0], false, FrameFault::MessageTooBig, None),
        (&[0x83], true, FrameFault::InvalidOpcode, Some(3)),
        (&[0x88, 0x82, 0, 0, 0, 0, 3, 0xed], true, FrameFault::BadCloseCode, Some(1005)),
    ];
    for (bytes, answers, fault, fault_value) in cases {
        let mut rig = Rig::new(r#", "protocol": "raw", "max_message_bytes": 1000"#);
        rig.seen.answers_outstanding = *answers;
        rig.input(bytes);
        let told = (rig.conn.take_ending(), rig.conn.take_beginning());
        assert_eq!(told, (None, Some(Beginning { fault: Some(*fault), fault_value: *fault_value })), "{bytes:x?}");
    }
}

#[test]
fn what_is_no_fault_of_framing_has_none() {
    for (more, input) in [(RAW, CLOSE), ("", &[0x82, 0x80][..]), ("", &[0x81, 0x80, 0, 0, 0, 0][..])] {
        let mut rig = Rig::new(more);
        rig.input(input);
        rig.turn(Connection::handle_half_close);
        assert_eq!(rig.conn.take_ending().unwrap().fault, None, "{input:x?}");
    }
}

#[test]
fn the_peers_own_close_frame_is_told_whoever_closed_first() {
    let mut rig = Rig::new(RAW);
    rig.input(&close_frame(4001, "tschüs"));
    let ending = rig.conn.take_ending().unwrap();
    assert_eq!((ending.code, &*ending.reason, ending.peer), (4001, "tschüs", Some(said(4001, "tschüs"))));

    for cut in 0..9 {
        let mut rig = Rig::new(RAW);
        // The first bytes of it may be with the decoder when we close.
        let whole = close_frame(4001, "x");
        rig.input(&whole[..cut]);
        rig.turn(|conn, turn| conn.close(1000, "ours", turn));
        rig.input(&whole[cut..]);
        let ending = rig.conn.take_ending().unwrap();
        assert_eq!((ending.code, &*ending.reason, ending.clean), (1000, "ours", true), "{cut}");
        assert_eq!(ending.peer, Some(said(4001, "x")), "{cut}");
    }
}

#[test]
fn an_empty_close_frame_is_one_and_an_end_without_is_none() {
    for (answer, peer) in
        [(frame(0x88, b""), Some(CloseFrame::default())), (Vec::new(), None), (close_frame(1006, ""), None)]
    {
        let mut rig = Rig::new(RAW);
        rig.turn(|conn, turn| conn.close(1000, "", turn));
        rig.input(&answer);
        rig.turn(Connection::handle_half_close);
        assert_eq!(rig.conn.take_ending().unwrap().peer, peer, "{answer:x?}");
    }
}

#[test]
fn a_close_frame_of_the_peer_is_told_with_the_verdict_that_came_between() {
    let mut rig = Rig::new(RAW);
    rig.text("x");
    rig.seen.answers_outstanding = true;
    rig.input(&close_frame(3000, "bye"));
    let report = Report { code: Code::SessionRevoked, event: None, detail: "disconnect_user was called" };
    rig.turn(|conn, turn| conn.violate(&report, turn));
    let ending = rig.conn.take_ending().unwrap();
    assert_eq!((ending.verdict, ending.peer), (Some(Code::SessionRevoked), Some(said(3000, "bye"))));
}
