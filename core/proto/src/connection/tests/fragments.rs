//! Messages that the application sends in fragments.

use super::*;

const BEGIN: Fragment = Fragment { opcode: DataOpcode::Text, fin: false };
const GO_ON: Fragment = Fragment { opcode: DataOpcode::Continuation, fin: false };
const END: Fragment = Fragment { opcode: DataOpcode::Continuation, fin: true };
const WHOLE: Fragment = Fragment { opcode: DataOpcode::Binary, fin: true };

#[test]
fn fragments_come_in_order_or_not_at_all() {
    let mut rig = Rig::new(RAW);
    let mut send = |fragment| rig.conn.send_fragment(fragment, Protocol::Raw).is_ok();
    assert!(!send(GO_ON) && !send(END) && send(WHOLE) && send(BEGIN));
    assert!(!send(BEGIN) && !send(WHOLE) && send(GO_ON) && send(END));
    assert!(rig.conn.is_mid_fragments());
    assert!(rig.conn.end_fragments().frames.is_empty() && !rig.conn.is_mid_fragments());
    assert!(rig.conn.extras.is_none(), "nothing is kept");
    assert!(rig.conn.send_fragment(WHOLE, Protocol::Json).is_err());
    assert_eq!([BEGIN, GO_ON, END, WHOLE].map(Fragment::first_byte), [1, 0, 0x80, 0x82]);
}

#[test]
fn what_waits_for_the_last_fragment_comes_behind_it_in_order() {
    let mut rig = Rig::new(RAW);
    rig.conn.wait_behind(b"nothing is begun", 9);
    rig.conn.send_fragment(BEGIN, Protocol::Raw).unwrap();
    rig.conn.wait_behind(b"one ", 4);
    rig.conn.wait_behind(b"two", 3);
    assert_eq!((rig.conn.bytes_behind(), rig.conn.saved_behind()), (7, 7));
    // Control frames do not wait, and none of it is forgotten for them.
    rig.input(&frame(0x89, b"a"));
    assert!(rig.turn(|conn, turn| conn.ping([1; 8], turn)));
    rig.input(&frame(0x8a, &[1; 8]));
    assert_eq!(server_frames(&rig.out).len(), 2);
    let Behind { frames, saved_bytes } = rig.conn.end_fragments();
    assert_eq!((&frames[..], saved_bytes), (&b"one two"[..], 7));
    assert_eq!((rig.conn.bytes_behind(), rig.conn.saved_behind()), (0, 0));
}

/// A message may end while a verdict waits for the application's answers; behind the close frame nothing does.
#[test]
fn a_message_in_fragments_ends_before_the_close_frame_or_never() {
    for refused in [true, false] {
        let mut rig = Rig::new(RAW);
        rig.conn.send_fragment(BEGIN, Protocol::Raw).unwrap();
        rig.conn.wait_behind(b"x", 0);
        rig.seen.answers_outstanding = true;
        rig.text("so that there is something to answer");
        rig.input(if refused { &[0xff] } else { &[0x88, 0x80, 0, 0, 0, 0] });
        assert!(rig.conn.may_send() && rig.conn.is_mid_fragments());
        rig.seen.answers_outstanding = false;
        rig.pass(10);
        assert_eq!(server_frames(&rig.out).last().map(|(first, _)| *first), Some(0x88));
        assert!(!rig.conn.may_send() && !rig.conn.is_mid_fragments() && rig.conn.bytes_behind() == 0);
    }
}

/// What the application and its peer do, in any order, with a driver between them that writes at once.
#[derive(Clone, Debug)]
enum Act {
    Fragment(Fragment),
    Message(u8),
    Control(bool),
    Input(Vec<u8>),
    Close,
    HalfClose,
    Busy(bool),
    Pass(u64),
}

fn act() -> impl Strategy<Value = Act> {
    let opcode = prop_oneof![Just(DataOpcode::Continuation), Just(DataOpcode::Text), Just(DataOpcode::Binary)];
    prop_oneof![
        6 => (opcode, any::<bool>()).prop_map(|(opcode, fin)| Act::Fragment(Fragment { opcode, fin })),
        4 => any::<u8>().prop_map(Act::Message),
        1 => any::<bool>().prop_map(Act::Control),
        3 => any::<bool>().prop_map(|long| Act::Input(frame(0x81, if long { b"x" } else { b"" }))),
        1 => prop_oneof![Just(0x89), Just(0x8a), Just(0x88), Just(0xff)].prop_map(|kind| Act::Input(frame(kind, b""))),
        1 => Just(Act::Close),
        1 => Just(Act::HalfClose),
        2 => any::<bool>().prop_map(Act::Busy),
        2 => (0u64..200).prop_map(Act::Pass),
    ]
}

impl Rig {
    fn say(&mut self, frames: &[u8]) {
        if self.conn.may_send() {
            self.out.extend_from_slice(frames);
        }
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Fragment(fragment) => {
                if self.conn.send_fragment(fragment, Protocol::Raw).is_ok() {
                    self.say(&[fragment.first_byte(), 0]);
                    if fragment.fin {
                        let behind = self.conn.end_fragments();
                        self.say(&behind.frames);
                    }
                }
            }
            Act::Message(number) if self.conn.is_mid_fragments() => self.conn.wait_behind(&[0x82, 1, number], 0),
            Act::Message(number) => self.say(&[0x82, 1, number]),
            Act::Control(is_ping) => {
                self.conn.expect_pong(b"x");
                self.say(&[if is_ping { 0x89 } else { 0x8a }, 1, b'x']);
            }
            Act::Input(bytes) => self.input(&bytes),
            Act::Close => self.turn(|conn, turn| conn.close(1000, "", turn)),
            Act::HalfClose => self.turn(Connection::handle_half_close),
            Act::Busy(busy) => self.seen.answers_outstanding = busy,
            Act::Pass(millis) => self.pass(millis),
        }
    }
}

proptest! {
    /// Whatever comes: a peer that reads the frames finds each message whole, in the order they were said, and nothing behind a
    /// close frame.
    #[test]
    fn a_peer_can_read_what_is_sent(acts in prop::collection::vec(act(), 1..80)) {
        let mut rig = Rig::new(RAW);
        let (mut said, mut open) = (Vec::new(), true);
        for act in acts {
            if let Act::Message(number) = &act && open {
                said.push(*number);
            }
            rig.act(act);
            open = rig.conn.may_send();
            prop_assert!(open || rig.conn.bytes_behind() == 0, "what can never be sent is not kept");
        }
        let (mut is_mid, mut heard, mut is_over) = (false, Vec::new(), false);
        for (first, payload) in server_frames(&rig.out) {
            prop_assert!(!is_over, "a frame behind the close frame");
            let (fin, opcode) = (first & 0x80 != 0, first & 0x0f);
            match opcode {
                0 => prop_assert!(is_mid, "a continuation of nothing"),
                1 | 2 => prop_assert!(!is_mid, "a message inside another"),
                _ => {
                    prop_assert!(fin);
                    is_over = opcode == 8;
                    continue;
                }
            }
            is_mid = !fin;
            heard.extend(payload);
        }
        prop_assert!(said.starts_with(&heard), "{heard:?} of {said:?}");
        prop_assert!(rig.conn.is_mid_fragments() || !open || heard == said);
    }
}
