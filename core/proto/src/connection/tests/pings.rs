//! Pings of the application: which pong answers which.

use super::*;

impl Rig {
    fn ping(&mut self, payload: u8) -> bool {
        self.turn(|conn, turn| conn.ping([payload; 8], turn))
    }

    fn pong(&mut self, payload: &[u8]) {
        self.input(&frame(0x8a, payload));
    }

    fn rtts(&self) -> Vec<u128> {
        self.seen.pongs.iter().map(Duration::as_millis).collect()
    }
}

#[test]
fn each_ping_is_answered_once_and_by_its_own_pong() {
    let mut rig = Rig::new(RAW);
    assert!(rig.ping(1));
    rig.pass(30);
    assert!(rig.ping(2));
    assert_eq!(server_frames(&rig.out), [(0x89, vec![1; 8]), (0x89, vec![2; 8])]);
    rig.pass(5);
    rig.pong(&[9; 8]);
    rig.pong(&[1; 7]);
    rig.pong(b"");
    assert!(rig.seen.pongs.is_empty(), "nobody asked for these");
    rig.pong(&[1; 8]);
    assert_eq!(rig.rtts(), [35]);
    rig.pass(7);
    rig.pong(&[1; 8]);
    rig.pong(&[2; 8]);
    assert_eq!(rig.rtts(), [35, 12]);
    assert!(rig.conn.extras.is_none(), "nothing is kept");
}

/// RFC 6455 section 5.5.3.
#[test]
fn a_pong_to_the_last_ping_answers_those_before_it() {
    let mut rig = Rig::new(RAW);
    for payload in 1..=4 {
        assert!(rig.ping(payload));
        rig.pass(10);
    }
    rig.pong(&[3; 8]);
    assert_eq!((rig.rtts(), rig.conn.pings_under_way()), (vec![40, 30, 20], 1));
    rig.pong(&[2; 8]);
    rig.pong(&[4; 8]);
    assert_eq!(rig.rtts(), [40, 30, 20, 10]);
}

#[test]
fn pings_are_bounded_and_end_with_the_connection() {
    let mut rig = Rig::new(RAW);
    assert!((0..MAX_PINGS as u8).all(|payload| rig.ping(payload)));
    let said = rig.out.len();
    assert!(!rig.ping(77) && rig.out.len() == said);
    rig.pong(&[0; 8]);
    assert!(rig.ping(77));
    rig.turn(|conn, turn| conn.close(1000, "", turn));
    assert!(!rig.ping(78));
    rig.pong(&[77; 8]);
    assert_eq!((rig.seen.pongs.len(), rig.conn.pings_under_way()), (1, 0));
}

#[test]
fn keep_alive_pings_and_the_applications_are_not_mixed_up() {
    let mut rig = Rig::new(r#", "protocol": "raw", "control_rate_limit": {"per_second": 0.001, "burst": 1}"#);
    assert!(rig.ping(1));
    rig.pass(20_000);
    assert_eq!(server_frames(&rig.out), [(0x89, vec![1; 8]), (0x89, vec![])]);
    rig.pong(&[1; 8]);
    assert_eq!(rig.conn.unanswered_pings, 1, "the answer to the other is still free");
    rig.pong(b"");
    assert_eq!((rig.rtts(), rig.conn.unanswered_pings, rig.close_code()), (vec![20_000], 0, None));
    // The bucket has room for one that nobody asked for, and not for two.
    rig.pong(&[1; 8]);
    assert!(rig.conn.is_open());
    rig.pong(&[1; 8]);
    assert_eq!((&rig.seen.reports[..], rig.close_code()), (&[Code::ControlFlood][..], Some(1008)));
}

#[test]
fn a_pong_that_waits_and_a_ping_under_way_do_not_disturb_each_other() {
    let mut rig = Rig::new(RAW);
    rig.congested = true;
    rig.input(&frame(0x89, b"peer"));
    assert!(rig.ping(1));
    rig.pong(&[1; 8]);
    assert_eq!(rig.seen.pongs.len(), 1);
    rig.congested = false;
    rig.turn(Connection::handle_drained);
    assert_eq!(server_frames(&rig.out).last().unwrap(), &(0x8a, b"peer".to_vec()));
    assert!(rig.conn.extras.is_none());
}

/// What the application chose as a payload is told when it comes back, and is as free as its pings were many.
#[test]
fn pongs_that_the_application_asked_for_are_free_and_told() {
    let mut rig = Rig::new(&format!(r#"{RAW}, "control_rate_limit": {{"per_second": 1, "burst": 1}}"#));
    for payload in [&b"mine"[..], b"", b"other"] {
        rig.turn(|conn, _| conn.expect_pong(payload));
    }
    for payload in [&b"mine"[..], b"", b"whatever"] {
        rig.pong(payload);
    }
    assert_eq!(rig.seen.control, ["pong mine", "pong ", "pong whatever"]);
    rig.pong(b"one more");
    assert!(rig.conn.is_open(), "that is the burst");
    rig.pong(b"and one");
    assert_eq!((rig.seen.reports, rig.seen.control.len()), (vec![Code::ControlFlood], 4), "and that is not told");
}

#[test]
fn pings_that_are_left_to_the_application_are_told_counted_and_not_answered() {
    let mut rig = Rig::new(&format!(r#"{RAW}, "control_rate_limit": {{"per_second": 1, "burst": 3}}"#));
    rig.congested = true;
    rig.input(&frame(0x89, b"a"));
    rig.turn(|conn, _| conn.set_auto_pong(false));
    rig.congested = false;
    rig.turn(Connection::handle_drained);
    rig.input(&frame(0x89, b"b"));
    assert!(rig.out.is_empty(), "also the one that waited is the application's");
    rig.turn(|conn, _| conn.set_auto_pong(true));
    rig.input(&frame(0x89, b"c"));
    assert_eq!(server_frames(&rig.out), [(0x8a, b"c".to_vec())]);
    assert_eq!(rig.seen.control, ["ping a", "ping b", "ping c"]);
    rig.turn(|conn, _| conn.set_auto_pong(false));
    rig.input(&frame(0x89, b"d"));
    assert_eq!((rig.seen.reports, rig.seen.control.len()), (vec![Code::ControlFlood], 3));
}

/// A peer that says nothing but pings is alive, whoever answers them.
#[test]
fn pings_are_a_sign_of_life_whoever_answers_them() {
    let mut rig = Rig::new(&format!(r#"{RAW}, "ping_interval_ms": 1000, "idle_timeout_ms": 2000"#));
    rig.turn(|conn, _| conn.set_auto_pong(false));
    for _ in 0..5 {
        rig.pass(1500);
        rig.input(&frame(0x89, b""));
    }
    assert!(rig.conn.is_open());
    rig.pass(2001);
    assert_eq!(rig.seen.reports, [Code::IdleTimeout]);
}
