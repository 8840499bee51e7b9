//! How a connection ends: what is still delivered, what is still sent, what is waited for, and for how long.

use super::*;

const SLOW: &str = r#", "protocol": "raw", "rate_limit": {"per_second": 10, "burst": 1, "queue": 9}"#;
const CLOSE: &[u8] = &[0x88, 0x82, 0, 0, 0, 0, 3, 0xe8];

fn rig_with(texts: usize, more: &str) -> Rig {
    let mut rig = Rig::new(more);
    for n in 0..texts {
        rig.text(&n.to_string());
    }
    rig
}

#[test]
fn a_goodbye_waits_for_what_waits() {
    let mut rig = rig_with(3, SLOW);
    rig.input(CLOSE);
    assert_eq!((rig.seen.messages.len(), rig.close_code(), rig.conn.phase()), (1, None, Phase::Parting));
    assert!(rig.conn.may_send() && !rig.conn.is_open() && rig.conn.take_ending().is_none());
    rig.text("behind the close frame");
    rig.pass(100);
    assert_eq!((rig.seen.messages.len(), rig.close_code()), (2, None));
    rig.pass(100);
    assert_eq!((&rig.seen.messages[..], rig.close_code()), (&["0".into(), "1".into(), "2".into()][..], Some(1000)));
    assert_eq!(rig.conn.phase(), Phase::Closed);
    let ending = rig.conn.take_ending().unwrap();
    assert_eq!((ending.code, ending.clean, ending.verdict), (1000, true, None));
    assert!(rig.conn.take_ending().is_none(), "told once");
}

#[test]
fn a_goodbye_waits_no_longer_than_close_timeout() {
    let mut rig = rig_with(
        5,
        r#", "protocol": "raw", "close_timeout_ms": 250, "rate_limit": {"per_second": 10, "burst": 1, "queue": 9}"#,
    );
    rig.input(CLOSE);
    rig.pass(249);
    assert_eq!(rig.close_code(), None);
    rig.pass(1);
    assert_eq!((rig.seen.messages.len(), rig.close_code(), rig.conn.delayed_messages()), (3, Some(1000), 0));
    rig.pass(100);
    assert_eq!(rig.conn.phase(), Phase::Dropped, "the peer did not take the answer");
}

#[test]
fn answers_are_sent_before_the_answer_to_a_goodbye() {
    let mut rig = rig_with(1, RAW);
    rig.seen.answers_outstanding = true;
    rig.input(CLOSE);
    rig.pass(50);
    assert_eq!((rig.close_code(), rig.conn.may_send()), (None, true));
    rig.seen.answers_outstanding = false;
    rig.pass(2);
    assert_eq!(rig.close_code(), Some(1000));
    let mut rig = rig_with(1, RAW);
    rig.seen.answers_outstanding = true;
    rig.input(CLOSE);
    rig.pass(MOST_GRACE_MS);
    assert_eq!(rig.close_code(), Some(1000), "an application that does not answer holds nothing up for long");
}

#[test]
fn a_half_close_gets_its_answers() {
    let mut rig = rig_with(3, SLOW);
    rig.seen.answers_outstanding = true;
    rig.turn(Connection::handle_half_close);
    assert_eq!((rig.conn.phase(), rig.seen.messages.len()), (Phase::Parting, 1));
    rig.pass(200);
    assert_eq!((rig.conn.phase(), rig.conn.may_send(), rig.seen.messages.len()), (Phase::Parting, true, 3));
    rig.turn(Connection::handle_half_close);
    rig.seen.answers_outstanding = false;
    rig.pass(2);
    assert_eq!((rig.conn.phase(), rig.close_code()), (Phase::Closed, None));
    assert_eq!(rig.conn.take_ending().map(|ending| (ending.code, ending.clean)), Some((1006, false)));
    let mut rig = rig_with(1, RAW);
    rig.turn(Connection::handle_half_close);
    assert_eq!(rig.conn.phase(), Phase::Closed, "at once where no answer may come");
}

/// A peer cannot speak behind the end of its side, but what it said before may be read after it.
#[test]
fn no_close_frame_says_what_is_only_told() {
    let mut rig = rig_with(1, RAW);
    rig.seen.answers_outstanding = true;
    rig.turn(Connection::handle_half_close);
    rig.input(CLOSE);
    rig.pass(MOST_GRACE_MS);
    assert_eq!(server_frames(&rig.out), [(0x88, Vec::new())], "1006 is not sent");
    assert_ne!(rig.conn.phase(), Phase::Parting);
}

#[test]
fn a_half_close_in_the_middle_of_a_message_drops_it() {
    let mut rig = Rig::new(RAW);
    rig.input(&frame(0x81, b"half of it")[..9]);
    rig.turn(Connection::handle_half_close);
    assert_eq!((rig.seen.messages.len(), rig.conn.phase()), (0, Phase::Closed));
}

#[test]
fn a_broken_socket_ends_what_waits() {
    let (empty, bye) = (frame(0x88, b""), frame(0x88, b"\x0f\xa0bye"));
    for (leave, code, reason) in [(&empty[..], 1005, ""), (&bye[..], 4000, "bye"), (b"", 1006, "")] {
        let mut rig = rig_with(3, SLOW);
        rig.input(leave);
        rig.turn(Connection::handle_eof);
        assert_eq!((rig.conn.phase(), rig.conn.delayed_messages(), rig.seen.messages.len()), (Phase::Dropped, 0, 1));
        let ending = rig.conn.take_ending().unwrap();
        assert_eq!((ending.code, &ending.reason[..], ending.clean), (code, reason, false));
    }
}

#[test]
fn a_verdict_ends_what_waits() {
    let mut rig = rig_with(3, SLOW);
    rig.input(CLOSE);
    let report = Report { code: Code::SessionRevoked, event: None, detail: "disconnect_user was called" };
    rig.turn(|conn, turn| conn.violate(&report, turn));
    assert_eq!((rig.close_code(), rig.conn.phase(), rig.conn.delayed_messages()), (Some(1008), Phase::Closed, 0));
    let ending = rig.conn.take_ending().unwrap();
    assert_eq!((ending.code, ending.clean, ending.verdict), (1008, true, Some(Code::SessionRevoked)));
    rig.pass(5000);
    assert_eq!(rig.seen.messages.len(), 1);
}

/// Every frame that is refused, with its code.
fn refused() -> Vec<(u16, Vec<u8>)> {
    vec![
        (1002, frame(0xc1, b"reserved bits")),
        (1002, frame(0x83, b"")),
        (1002, frame(0x80, b"nothing to continue")),
        (1003, frame(0x82, b"binary")),
        (1007, frame(0x81, b"\xff")),
        (1009, frame(0x81, &[b'x'; 2000])),
        (1008, [frame(0x01, b""), frame(0x00, b"").repeat(9)].concat()),
        (1008, frame(0x81, b"nonsense")),
    ]
}

#[test]
fn after_a_verdict_the_peers_goodbye_is_awaited_and_found() {
    for (code, bytes) in refused() {
        for piece in [1, 7, 10_000] {
            let mut rig = Rig::new(r#", "max_message_bytes": 1000, "max_fragments": 4"#);
            for chunk in [&bytes[..], &frame(0x81, b"late")].concat().chunks(piece) {
                rig.input(chunk);
            }
            assert_eq!((rig.close_code(), rig.conn.phase()), (Some(code), Phase::Closing), "no end before the peer's");
            for chunk in CLOSE.chunks(piece) {
                rig.input(chunk);
            }
            assert_eq!(rig.conn.phase(), Phase::Closed, "{code} in pieces of {piece}");
            assert_eq!(rig.seen.messages.len(), 0);
            let told_at_once = code == 1002;
            assert_eq!(rig.conn.take_ending().map(|ending| (ending.code, ending.clean)), Some((code, !told_at_once)));
        }
    }
}

#[test]
fn a_close_frame_whose_reason_is_no_text_is_a_close_frame() {
    for busy in [false, true] {
        let mut rig = Rig::new("");
        rig.seen.answers_outstanding = busy;
        rig.input(&frame(0x88, b"\x03\xe8\xff"));
        rig.seen.answers_outstanding = false;
        rig.pass(5000);
        assert_eq!(rig.conn.take_ending().map(|ending| (ending.code, ending.clean)), Some((1007, true)), "{busy}");
    }
}

#[test]
fn after_a_verdict_the_peers_end_or_the_deadline_is_awaited() {
    for (code, bytes) in refused() {
        let more = r#", "max_message_bytes": 1000, "max_fragments": 4, "close_timeout_ms": 300"#;
        let mut rig = Rig::new(more);
        rig.input(&bytes);
        rig.pass(299);
        assert_eq!(rig.conn.phase(), Phase::Closing);
        rig.turn(Connection::handle_half_close);
        assert_eq!(rig.conn.phase(), Phase::Closed, "{code}");
        assert_eq!(rig.conn.take_ending().map(|ending| (ending.code, ending.clean)), Some((code, false)));
        let mut rig = Rig::new(more);
        rig.input(&bytes);
        rig.pass(300);
        assert_eq!(rig.conn.phase(), Phase::Dropped);
        assert_eq!(rig.conn.take_ending().map(|ending| (ending.code, ending.clean)), Some((code, false)));
    }
}

#[test]
fn where_the_next_frame_begins_is_unknown_a_lone_close_frame_is_one() {
    let claim = [0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0];
    for (code, begun) in [(1002, &[0xc1, 0x85][..]), (1009, &claim), (1002, &[0x82, 0xff, 0xff])] {
        let mut rig = Rig::new(RAW);
        rig.input(begun);
        assert_eq!((rig.close_code(), rig.conn.phase()), (Some(code), Phase::Closing));
        rig.input(CLOSE);
        assert_eq!(rig.conn.phase(), Phase::Closed);
        assert_eq!(rig.conn.take_ending().map(|ending| ending.clean), Some(false));
    }
}

#[test]
fn a_close_frame_that_must_not_be_is_a_goodbye_all_the_same() {
    // Only the last is framed well: its reason is no text.
    for (payload, clean) in [(&b"\x03"[..], false), (b"\x03\xed", false), (b"\x03\xe8\xff", true)] {
        let mut rig = Rig::new(RAW);
        rig.input(&frame(0x88, payload));
        assert_eq!(rig.conn.phase(), Phase::Closed, "nothing more comes");
        assert_eq!(rig.conn.take_ending().map(|ending| ending.clean), Some(clean), "{payload:?}");
    }
}

#[test]
fn what_is_discarded_is_bounded() {
    let mut rig = Rig::new(r#", "max_message_bytes": 1000, "protocol": "raw""#);
    rig.input(&[0x82, 0xff, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(rig.close_code(), Some(1009));
    let chunk = vec![7; 64 * 1024];
    for _ in 0..255 {
        rig.input(&chunk);
    }
    assert_eq!(rig.conn.phase(), Phase::Closing);
    rig.input(&chunk);
    rig.input(&chunk);
    assert_eq!(rig.conn.phase(), Phase::Dropped);
}

#[test]
fn reporting_lets_a_peer_part_as_it_will() {
    let mut rig = Rig::new(r#", "protocol": "raw", "on_violation": "report""#);
    rig.text("last");
    rig.seen.answers_outstanding = true;
    rig.input(CLOSE);
    assert_eq!(rig.conn.phase(), Phase::Parting);
    let report = Report { code: Code::SchemaMismatch, event: None, detail: "the application's own check" };
    rig.turn(|conn, turn| conn.refuse_for_the_application(&report, Reply::Never, turn));
    assert_eq!((rig.conn.phase(), &rig.seen.reports[..]), (Phase::Parting, &[Code::SchemaMismatch][..]));
    rig.seen.answers_outstanding = false;
    rig.pass(10);
    assert_eq!((rig.conn.phase(), rig.close_code()), (Phase::Closed, Some(1000)));
    rig.turn(|conn, turn| conn.refuse_for_the_application(&report, Reply::Never, turn));
    assert_eq!(rig.seen.reports.len(), 1, "nothing is reported of who has left");
}

/// A peer's side of a conversation: whole frames, in which its close frame ends and one that breaks the framing begins.
#[derive(Clone, Debug, Default)]
struct Speech {
    bytes: Vec<u8>,
    broken_at: Option<usize>,
    goodbye: Option<(usize, u16)>,
    in_message: bool,
}

impl Speech {
    fn say(&mut self, kind: u8, len: u16, key: [u8; 4]) {
        let control = vec![b'c'; usize::from(len % 126)];
        let data = vec![b'd'; usize::from(len % 700)];
        let opcode = u8::from(!self.in_message);
        let (first, payload) = match kind % 32 {
            0..=7 => (0x80 | opcode, data),
            8..=13 => (opcode, data),
            14..=19 => (0x89, control),
            20..=23 => (0x8a, control),
            24 => (0xd1, data),
            25..=27 => (0x88, vec![0x03, 0xe8 + (len % 2) as u8]),
            28 => (0x88, [&[0x0f, 0xa0], &control[..control.len().min(120)]].concat()),
            _ => (0x88, Vec::new()),
        };
        if first == 0xd1 {
            self.broken_at.get_or_insert(self.bytes.len());
        } else if first & 0x0f < 8 {
            self.in_message = first & 0x80 == 0;
        }
        let start = self.bytes.len();
        self.bytes.extend(frame(first, &payload));
        let header = self.bytes.len() - start - payload.len();
        self.bytes[start + header - 4..start + header].copy_from_slice(&key);
        for (index, byte) in self.bytes[start + header..].iter_mut().enumerate() {
            *byte ^= key[index % 4];
        }
        if first == 0x88 {
            let code = payload.first_chunk::<2>().map_or(1005, |code| u16::from_be_bytes(*code));
            self.goodbye.get_or_insert((self.bytes.len(), code));
        }
    }
}

/// How the conversation stands, as only what was said and when tells.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Stand {
    Talking,
    /// They have said goodbye with this code; the application may answer until then.
    Parting(u16, Moment),
    /// The framing is broken; the application may answer until then. Whether nothing more comes.
    Doomed(Moment, bool),
    /// Our close frame with this code is out, and their answer is awaited until then.
    Awaiting(u16, Moment),
    /// Over: the code that is told, and whether both have said goodbye.
    Over(u16, bool),
}

impl Stand {
    /// `grace`: how long the application may answer.
    fn hear(&mut self, speech: &Speech, said: usize, now: Moment, grace: u64) {
        let broken = speech.broken_at.filter(|at| *at < said);
        let goodbye = speech.goodbye.filter(|(end, _)| *end <= said);
        if *self == Stand::Talking {
            match (broken, goodbye) {
                (Some(at), goodbye) if goodbye.is_none_or(|(end, _)| at < end) => {
                    *self = Stand::Doomed(now.after_millis(grace), false);
                }
                (_, Some((_, code))) => *self = Stand::Parting(code, now.after_millis(grace)),
                (_, None) => {}
            }
        }
        match *self {
            Stand::Doomed(until, _) if goodbye.is_some() => *self = Stand::Doomed(until, true),
            Stand::Awaiting(code, _) if goodbye.is_some() => *self = Stand::Over(code, code != 1002),
            _ => {}
        }
        self.wait(now);
    }

    /// The application ends it.
    fn close(&mut self, now: Moment) {
        match *self {
            Stand::Talking => *self = Stand::Awaiting(4000, now.after_millis(2000)),
            Stand::Parting(code, _) => *self = Stand::Over(4000, code != 1006),
            _ => {}
        }
    }

    /// The peer ends its side.
    fn end(&mut self, now: Moment, grace: u64) {
        match *self {
            Stand::Talking => *self = Stand::Parting(1006, now.after_millis(grace)),
            Stand::Doomed(until, _) => *self = Stand::Doomed(until, true),
            Stand::Awaiting(code, _) => *self = Stand::Over(code, false),
            _ => {}
        }
        self.wait(now);
    }

    fn wait(&mut self, now: Moment) {
        match *self {
            Stand::Parting(code, until) if until <= now => *self = Stand::Over(code, code != 1006),
            Stand::Doomed(until, true) if until <= now => *self = Stand::Over(1002, false),
            Stand::Doomed(until, false) if until <= now => *self = Stand::Awaiting(1002, until.after_millis(2000)),
            _ => {}
        }
        if let Stand::Awaiting(code, until) = *self
            && until <= now
        {
            *self = Stand::Over(code, false);
        }
    }
}

proptest! {
    /// Whatever a peer says in whatever pieces, before and behind our close frame: frames, pings, close frames of any form,
    /// its end, or nothing for too long.
    #[test]
    fn conversations_end_as_they_should(
        frames in prop::collection::vec((any::<u8>(), any::<u16>(), any::<[u8; 4]>()), 0..12),
        cuts in prop::collection::vec((1usize..400, 0u64..300, 0u8..20), 1..60),
        ends_its_side: bool, is_busy: bool,
    ) {
        let mut speech = Speech::default();
        for (kind, len, key) in frames { speech.say(kind, len, key); }
        let mut rig = Rig::new(
            r#", "protocol": "raw", "rate_limit": null, "control_rate_limit": null, "ping_interval_ms": 0,
                "idle_timeout_ms": 0, "max_message_bytes": 100000"#,
        );
        rig.seen.answers_outstanding = is_busy;
        let grace = if is_busy { MOST_GRACE_MS } else { 0 };
        let (mut stand, mut said, mut told) = (Stand::Talking, 0usize, Vec::new());
        let all = cuts.iter().map(Some).chain([None]);
        for cut in all {
            let (len, wait, act) = cut.copied().unwrap_or((usize::MAX, 0, 1));
            let end = speech.bytes.len().min(said.saturating_add(len));
            if rig.conn.phase() != Phase::Dropped {
                rig.input(&speech.bytes[said..end]);
            }
            said = end;
            stand.hear(&speech, said, rig.now, grace);
            if act == 0 {
                rig.turn(|conn, turn| conn.close(4000, "enough", turn));
                stand.close(rig.now);
            }
            told.extend(rig.conn.take_ending());
            rig.pass(wait);
            stand.wait(rig.now);
            told.extend(rig.conn.take_ending());
            prop_assert!(rig.conn.next_deadline(&rig.policy) > rig.now);
            prop_assert_eq!(matches!(rig.conn.phase(), Phase::Closed | Phase::Dropped), matches!(stand, Stand::Over(..)));
        }
        if ends_its_side {
            rig.turn(Connection::handle_half_close);
            stand.end(rig.now, grace);
        } else {
            rig.turn(|conn, turn| conn.close(4000, "enough", turn));
            stand.close(rig.now);
        }
        rig.pass(2200);
        stand.wait(rig.now);
        told.extend(rig.conn.take_ending());
        let Stand::Over(code, clean) = stand else { panic!("{stand:?}") };
        prop_assert_eq!(told.iter().map(|ending| (ending.code, ending.clean)).collect::<Vec<_>>(), [(code, clean)]);
        let sent = server_frames(&rig.out);
        let closes = sent.iter().filter(|(first, _)| *first == 0x88).count();
        prop_assert_eq!(closes, usize::from(code != 1006));
        prop_assert!(closes == 0 || sent.last().is_some_and(|(first, _)| *first == 0x88), "nothing behind a close frame");
        rig.pass(5000);
        prop_assert_eq!(rig.conn.phase(), Phase::Dropped);
        prop_assert!(rig.conn.take_ending().is_none());
    }
}
