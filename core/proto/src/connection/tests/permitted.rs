//! Who may send which event, what a mismatch is answered, and how long a connection may live.

use super::*;

const EVENTS: &str = r#", "events": {
    "say": {"schema": {"type": "string"}},
    "kick": {"schema": {"type": "string"}, "roles": ["admin", "ops"], "cost": 4},
    "draw": {"schema": {"type": "object", "properties": {"x": {"type": "number"}}}, "on_mismatch": "reply", "cost": 0.5}},
    "rate_limit": {"per_second": 1, "burst": 4, "queue": 2, "bytes_per_second": null}"#;

fn with_roles(more: &str, roles: &[&str]) -> (Rig, Arc<RateKey>) {
    let (policy, key): (_, Arc<RateKey>) = (policy(&format!("{EVENTS} {more}")), Arc::default());
    let mut rig = Rig::with(&policy, None);
    let roles = Roles::new(roles.iter().copied()).unwrap();
    let opened = Opened { rate_key: Some(Arc::clone(&key)), expires_at: Moment::NEVER, roles, ..Opened::default() };
    rig.conn = Connection::new(&policy, opened, rig.now);
    (rig, key)
}

fn texts(rig: &Rig) -> Vec<String> {
    let frames = server_frames(&rig.out).into_iter().filter(|(first, _)| *first == 0x81);
    frames.map(|(_, payload)| String::from_utf8(payload).unwrap()).collect()
}

#[test]
fn an_event_with_roles_is_for_those_who_have_one() {
    for roles in [&["ops"][..], &["user", "admin"]] {
        let (mut rig, _) = with_roles("", roles);
        rig.text(r#"{"event":"kick","data":"bob"}"#);
        assert_eq!((&rig.seen.messages[..], &rig.seen.reports[..]), (&["kick \"bob\"".to_owned()][..], &[][..]));
    }
    // Also where the data would not fit: it is not looked at.
    for (roles, data) in [(&[][..], "\"bob\""), (&["Admin", "adm"], "\"bob\""), (&["user"], "7")] {
        let (mut rig, key) = with_roles("", roles);
        rig.text(&format!(r#"{{"event":"kick","data":{data}}}"#));
        assert_eq!((rig.close_code(), &rig.seen.reports[..]), (Some(1008), &[Code::EventDenied][..]));
        assert_eq!(rig.seen.messages.len(), 0);
        assert_eq!(key.empty_at().0, rig.now.after_millis(1000), "an invalid message costs 1");
    }
}

#[test]
fn a_denied_event_is_only_reported_where_rules_only_report() {
    let (mut rig, _) = with_roles(r#", "on_violation": "report""#, &[]);
    rig.text(r#"{"event":"kick","data":"bob"}"#);
    assert_eq!((&rig.seen.reports[..], rig.close_code()), (&[Code::EventDenied][..], None));
    assert_eq!(rig.seen.messages, ["kick \"bob\""]);
}

#[test]
fn a_mismatch_is_answered_where_the_event_says_so() {
    let (mut rig, key) = with_roles("", &[]);
    rig.text(r#"{"event":"draw","data":{"x":"far"},"id":7}"#);
    rig.text(r#"{"event":"draw","data":[]}"#);
    assert_eq!(
        texts(&rig),
        [
            r#"{"event":"draw","data":{"code":"schema_mismatch","path":"/x"},"status":"error","id":7}"#,
            r#"{"event":"draw","data":{"code":"schema_mismatch","path":""},"status":"error"}"#,
        ]
    );
    assert_eq!((rig.seen.reports.clone(), rig.seen.messages.len()), (vec![Code::SchemaMismatch; 2], 0));
    assert_eq!(key.empty_at().0, rig.now.after_millis(2000), "each is charged as an invalid message");
    rig.text(r#"{"event":"draw","data":{"x":1}}"#);
    assert_eq!(rig.seen.messages, [r#"draw {"x":1}"#], "the connection goes on");
    assert_eq!(key.empty_at().0, rig.now.after_millis(2500), "half a message");
    // Whoever goes on sending nonsense runs dry.
    for _ in 0..10 {
        rig.text(r#"{"event":"draw","data":[]}"#);
    }
    assert_eq!((rig.close_code(), rig.seen.reports.last()), (Some(1008), Some(&Code::RateLimited)));
    assert!(texts(&rig).len() <= 6, "no more answers than messages that pass");
    // Another event of the same contract closes.
    let (mut rig, _) = with_roles("", &[]);
    rig.text(r#"{"event":"say","data":7,"id":1}"#);
    assert_eq!((rig.close_code(), texts(&rig).len()), (Some(1008), 0));
}

#[test]
fn what_costs_little_is_not_answered_for_ever() {
    for cost in ["0", "0.01"] {
        let events = format!(
            r#", "events": {{"draw": {{"schema": {{"type": "object"}}, "on_mismatch": "reply", "cost": {cost}}}}},
            "rate_limit": {{"per_second": 10, "burst": 4, "queue": 2, "bytes_per_second": null}}"#
        );
        let mut rig = Rig::new(&events);
        let mut answers = 0;
        // Twenty times as fast as the rate, for a second.
        for _ in 0..200 {
            rig.pass(5);
            rig.text(r#"{"event":"draw","data":[]}"#);
            answers = texts(&rig).len();
        }
        assert_eq!((rig.close_code(), rig.seen.reports.last()), (Some(1008), Some(&Code::RateLimited)), "cost {cost}");
        assert!(answers <= 7, "cost {cost}: {answers} answers");
    }
    // Within its rate it is answered on and on.
    let mut rig = Rig::new(
        r#", "events": {"draw": {"schema": {"type": "object"}, "on_mismatch": "reply", "cost": 0}},
            "rate_limit": {"per_second": 10, "burst": 4, "queue": 2, "bytes_per_second": null}"#,
    );
    for _ in 0..50 {
        rig.pass(100);
        rig.text(r#"{"event":"draw","data":[]}"#);
    }
    assert_eq!((rig.close_code(), texts(&rig).len()), (None, 50));
}

#[test]
fn a_mismatch_is_not_answered_where_rules_only_report() {
    let (mut rig, _) = with_roles(r#", "on_violation": "report""#, &[]);
    rig.text(r#"{"event":"draw","data":[],"id":7}"#);
    assert_eq!((&rig.seen.reports[..], texts(&rig).len()), (&[Code::SchemaMismatch][..], 0));
    assert_eq!(rig.seen.messages, ["draw []"]);
}

#[test]
fn a_connection_lives_no_longer_than_it_may() {
    let lives = |expires_ms: Option<u64>| {
        let policy = policy(r#", "max_session_ms": 5000, "ping_interval_ms": 0, "idle_timeout_ms": 0"#);
        let mut rig = Rig::with(&policy, None);
        let expires_at = expires_ms.map_or(Moment::NEVER, |ms| rig.now.after_millis(ms));
        rig.conn = Connection::new(&policy, Opened { expires_at, ..Opened::default() }, rig.now);
        let begin = rig.now;
        while rig.conn.is_open() {
            rig.now = rig.conn.next_deadline(&rig.policy);
            rig.turn(Connection::handle_deadline);
        }
        assert_eq!((rig.close_code(), &rig.seen.reports[..]), (Some(1008), &[Code::SessionExpired][..]));
        (rig.now.since(begin).as_millis(), rig.seen.details[0].clone())
    };
    assert_eq!(lives(None), (5000, "open for max_session_ms (5000)".to_owned()));
    assert_eq!(lives(Some(9000)), (5000, "open for max_session_ms (5000)".to_owned()));
    assert_eq!(lives(Some(3000)), (3000, "expires_at_ms has come".to_owned()));
}

#[test]
fn a_new_policy_ends_what_was_open_for_too_long_by_it() {
    let mut rig = Rig::with(&policy(r#", "protocol": "raw""#), None);
    rig.pass(8000);
    rig.policy = policy(r#", "protocol": "raw", "max_session_ms": 5000"#);
    rig.text("too late");
    assert_eq!((&rig.seen.reports[..], rig.seen.messages.len()), (&[Code::SessionExpired][..], 0));
}

#[test]
fn what_the_application_refuses_is_answered_where_the_event_says_so() {
    let refuse = |rig: &mut Rig, event: &str, reply: Reply<'_>| {
        let report = Report { code: Code::SchemaMismatch, event: Some(event), detail: "the application's own" };
        rig.turn(|conn, turn| conn.refuse_for_the_application(&report, reply, turn));
    };
    let (mut rig, key) = with_roles("", &[]);
    rig.text(r#"{"event":"draw","data":{},"id":"a"}"#);
    refuse(&mut rig, "draw", Reply::To(Some("\"a\"")));
    let expected = r#"{"event":"draw","data":{"code":"schema_mismatch","path":""},"status":"error","id":"a"}"#;
    assert_eq!((texts(&rig), rig.close_code()), (vec![expected.to_owned()], None));
    assert_eq!(rig.seen.reports, [Code::SchemaMismatch]);
    assert_eq!(key.empty_at().0, rig.now.after_millis(1500), "it is charged as an invalid message");
    refuse(&mut rig, "draw", Reply::Never);
    assert_eq!((texts(&rig).len(), rig.close_code()), (1, Some(1008)));
    for event in ["say", "nothing"] {
        let (mut rig, _) = with_roles("", &[]);
        refuse(&mut rig, event, Reply::To(None));
        assert_eq!((texts(&rig).len(), rig.close_code()), (0, Some(1008)), "{event}");
    }
    // Whoever goes on sending it runs dry, whatever the event costs.
    let events = EVENTS.replace(r#""cost": 0.5"#, r#""cost": 0"#);
    let mut rig = Rig::new(&events);
    for _ in 0..50 {
        rig.text(r#"{"event":"draw","data":{}}"#);
        refuse(&mut rig, "draw", Reply::To(None));
    }
    assert_eq!((texts(&rig).len(), rig.close_code()), (6, Some(1008)));
    assert_eq!(rig.seen.reports.last(), Some(&Code::RateLimited));
    let (mut rig, _) = with_roles(r#", "on_violation": "report""#, &[]);
    refuse(&mut rig, "draw", Reply::To(None));
    assert_eq!((texts(&rig).len(), rig.close_code(), rig.seen.reports.len()), (0, None, 1));
}
