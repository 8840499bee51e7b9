//! What the application says, to whom, and what becomes of it.

use serde::{Deserialize, Serialize};
use wsguard::{Decision, Drain, Error, Event, Interest, Sent};

use super::*;

#[derive(Deserialize)]
struct Say<'m> {
    text: &'m str,
}

#[derive(Serialize)]
struct Said<'m> {
    text: &'m str,
    length: usize,
}

#[test]
fn a_message_is_read_and_answered_as_types_or_passed_on_as_it_came() {
    let mut server = Server::start(options(Auth::None)).unwrap();
    let handle = server.handle();
    let (mut client, conn) = connect(&mut server);
    say(&mut client, r#"{"event":"say","data":{"text" : "hello"},"id":7}"#);
    let Next::Event(Event::Message(message)) = server.next(Some(TIMEOUT)) else { panic!("no message") };
    assert_eq!(message.data.as_str(), r#"{"text" : "hello"}"#);
    let Say { text } = message.data().unwrap();
    assert!(message.data::<Vec<u8>>().is_err());
    handle.reply(&message, "said", &Said { text, length: text.len() }).unwrap();
    handle.conn(conn).emit("echo", &message.data).unwrap();
    handle.conn(conn).emit_json_text("text", "[1, 2]").unwrap();
    let heard = [(); 3].map(|()| hear(&mut client));
    assert_eq!(
        heard,
        [
            r#"{"event":"said","data":{"text":"hello","length":5},"status":"ok","id":7}"#,
            r#"{"event":"echo","data":{"text" : "hello"},"status":"ok"}"#,
            r#"{"event":"text","data":[1, 2],"status":"ok"}"#
        ]
    );
    handle.conn(conn).report_invalid_data("say").unwrap();
    assert_eq!(hear(&mut client), "close 1008");
}

#[test]
fn a_room_and_everyone_hear_it_but_for_those_who_are_left_out() {
    let mut server = Server::start(raw()).unwrap();
    let handle = server.handle();
    let mut peers = [(); 4].map(|()| connect(&mut server));
    let ids = peers.each_ref().map(|(_, id)| *id);
    ids[..3].iter().for_each(|id| assert_eq!(handle.conn(*id).join("lobby").unwrap(), Sent::Sent));
    handle.conn(ids[2]).leave("lobby").unwrap();
    handle.room("lobby").send("lobby").unwrap();
    handle.room("lobby").except(ids[0]).send(&[1, 2]).unwrap();
    handle.everyone().except(ids[0]).except(ids[3]).send("most").unwrap();
    handle.everyone().send("all").unwrap();
    let expected: [&[&str]; 4] = [&["lobby", "all"], &["lobby", "[1, 2]", "most", "all"], &["most", "all"], &["all"]];
    for ((client, _), expected) in peers.iter_mut().zip(expected) {
        let heard: Vec<String> = expected.iter().map(|_| hear(client)).collect();
        assert_eq!(heard, expected);
    }
}

#[test]
fn a_closed_connection_is_a_value_and_a_wrong_argument_an_error() {
    let mut server = Server::start(options(Auth::None)).unwrap();
    let handle = server.handle();
    let (mut client, id) = connect(&mut server);
    let conn = handle.conn(id);
    let wrong = [
        conn.emit("e", &BTreeMap::from([((1, 2), 3)])),
        conn.join(""),
        conn.leave(&"r".repeat(257)),
        conn.close(1005, ""),
        conn.close(1000, &"x".repeat(124)),
        conn.emit("e", &"x".repeat(2 << 20)),
        handle.room("").emit("e", &1),
        handle.everyone().emit("e", &"x".repeat(2 << 20)),
    ];
    for outcome in wrong {
        assert_eq!(outcome.unwrap_err().code(), "invalid_argument");
    }
    assert!(conn.is_open());
    assert_eq!(conn.close(1000, "bye").unwrap(), Sent::Sent);
    assert_eq!(hear(&mut client), "close 1000");
    drop(client);
    while !matches!(server.next(Some(TIMEOUT)), Next::Event(Event::Close(_))) {}
    assert!(!conn.is_open());
    let closed = [
        conn.emit("e", &1),
        conn.emit_json_text("e", "1"),
        conn.reply(Some("1"), "e", &1),
        conn.send("text"),
        conn.send(&[1]),
        conn.join("room"),
        conn.leave("room"),
        conn.close(1000, ""),
        conn.pause(),
        conn.resume(),
        conn.report_invalid_data("say"),
    ];
    for outcome in closed {
        assert!(outcome.unwrap().is_closed());
    }
    handle.stop();
    while !matches!(server.next(Some(TIMEOUT)), Next::Stopped) {}
    assert_eq!(handle.room("lobby").emit("e", &1).unwrap(), Sent::Closed);
    handle.disconnect_user("alice");
}

#[test]
fn a_handler_that_fails_closes_its_connection_and_answers_its_handshake() {
    let server = Server::start(options(Auth::Callback)).unwrap();
    let handle = server.handle();
    let address = server.address().to_owned();
    let mut first = hello(&address);
    let application = std::thread::spawn(move || {
        let mut asked = 0;
        server.run(|event, server| {
            match event {
                Event::Upgrade(upgrade) => {
                    asked += 1;
                    if asked == 2 {
                        return Err("the database is away".into());
                    }
                    assert!(server.answer(upgrade.ticket, Decision::accept("alice"))?);
                    assert!(!server.answer(upgrade.ticket, Decision::unauthorized())?);
                }
                Event::Open(open) => _ = server.conn(open.conn).join(&"r".repeat(257))?,
                _ => {}
            }
            Ok(())
        });
    });
    assert_eq!(status(&mut first), 101);
    assert_eq!(hear(&mut first), "close 1011");
    assert_eq!(status(&mut hello(&address)), 503);
    handle.drain(Drain { timeout_ms: 1000, ..Drain::default() });
    application.join().unwrap();
}

#[test]
fn run_begins_where_next_has_stopped() {
    let mut server = Server::start(raw()).unwrap();
    let handle = server.handle();
    let (mut client, _) = connect(&mut server);
    for text in ["one", "two", "three"] {
        say(&mut client, text);
    }
    // All three are there, wherever a batch ends.
    while server.handle().stats().messages_in < 3 {
        std::thread::yield_now();
    }
    assert!(matches!(server.next(Some(TIMEOUT)), Next::Event(Event::Text(_, "one"))));
    let application = std::thread::spawn(move || {
        let mut heard = Vec::new();
        server.run(|event, server| {
            if let Event::Text(conn, text) = event {
                heard.push(text.to_owned());
                server.conn(conn).send(text)?;
            }
            Ok(())
        });
        heard
    });
    assert_eq!([hear(&mut client), hear(&mut client)], ["two", "three"]);
    handle.stop();
    assert_eq!(application.join().unwrap(), ["two", "three"]);
}

#[test]
fn what_the_application_is_not_interested_in_is_only_counted() {
    let mut server = Server::start(raw()).unwrap();
    let handle = server.handle();
    handle.set_interest(Interest { violations: false, ..Interest::default() });
    let mut stranger = TcpStream::connect(server.address()).unwrap();
    stranger.set_read_timeout(Some(TIMEOUT)).unwrap();
    stranger.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    assert_eq!(status(&mut stranger), 426);
    let (_client, _) = connect(&mut server);
    assert_eq!(handle.stats().verdict(wsguard::Code::UpgradeRequired), 1);
    assert!(matches!(server.next(Some(Duration::ZERO)), Next::TimedOut));
}

#[test]
fn the_two_options_without_a_default_are_asked_for() {
    let error = Server::start(Options::default()).unwrap_err();
    assert!(matches!(&error, Error::Config(config) if config.option == "origins"));
    assert_eq!(error.code(), "missing_option");
}
