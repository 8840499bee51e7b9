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
    assert!(rig.conn.end_fragments().is_empty() && !rig.conn.is_mid_fragments());
    assert!(rig.conn.extras.is_none(), "nothing is kept");
    assert!(rig.conn.send_fragment(WHOLE, Protocol::Json).is_err());
    assert_eq!([BEGIN, GO_ON, END, WHOLE].map(Fragment::first_byte), [1, 0, 0x80, 0x82]);
}

#[test]
fn what_waits_for_the_last_fragment_comes_behind_it_in_order() {
    let mut rig = Rig::new(RAW);
    rig.conn.wait_behind(b"nothing is begun");
    rig.conn.send_fragment(BEGIN, Protocol::Raw).unwrap();
    rig.conn.wait_behind(b"one ");
    rig.conn.wait_behind(b"two");
    assert_eq!(rig.conn.bytes_behind(), 7);
    // Control frames do not wait, and none of it is forgotten for them.
    rig.input(&frame(0x89, b"a"));
    assert!(rig.turn(|conn, turn| conn.ping([1; 8], turn)));
    rig.input(&frame(0x8a, &[1; 8]));
    assert_eq!(server_frames(&rig.out).len(), 2);
    assert_eq!((rig.conn.end_fragments(), rig.conn.bytes_behind()), (b"one two".to_vec(), 0));
}

/// A message may end while a verdict waits for the application's answers; behind the close frame nothing does.
#[test]
fn a_message_in_fragments_ends_before_the_close_frame_or_never() {
    for refused in [true, false] {
        let mut rig = Rig::new(RAW);
        rig.conn.send_fragment(BEGIN, Protocol::Raw).unwrap();
        rig.conn.wait_behind(b"x");
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
