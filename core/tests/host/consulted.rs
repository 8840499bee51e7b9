//! The application is asked of everyone who has passed the server's own checks, and leaves it so who that is.

use std::collections::VecDeque;
use std::time::Instant;

use wsguard::binding::{Accept, Adoption, Decision, GrantedIdentity, Pipe, Reject, TicketId, UpgradeRequest, Whom};

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);
const TOKENS: &str = r#"{"tokens": [{"token": "good", "user": "alice", "roles": ["reader"]}]}"#;

fn with(builder: Builder, auth: &str, more: &str) -> Application {
    let json = format!(
        r#"{{"origins": ["https://a.example"], "auth": {auth}, "protocol": "raw", "threads": 1,
            "subprotocols": ["native"], "handshakes_per_ip": null {more}}}"#
    );
    let server = builder.without_listener().start(Options::from_json(&json).unwrap()).unwrap();
    Application { server, told: VecDeque::new() }
}

fn consulting(auth: &str, more: &str) -> Application {
    with(Builder::new().consult(), auth, more)
}

fn request(more: &str) -> Vec<u8> {
    let head = String::from_utf8(head("https://a.example")).unwrap();
    head.replace("Host: x\r\n", &format!("Host: x\r\n{more}")).into_bytes()
}

/// What an application learns of handshakes.
#[derive(Debug)]
enum Told {
    Asked {
        ticket: TicketId,
        request: Box<UpgradeRequest>,
        identity: Option<Box<GrantedIdentity>>,
        adopted: Option<u64>,
    },
    Gone(TicketId),
    Open {
        ticket: Option<TicketId>,
        tag: Option<u64>,
        user: Option<String>,
        roles: Vec<String>,
        adopted: Option<u64>,
        reported: bool,
    },
    Ended(u64, u16),
    Closed(u16),
}

/// A server, and what it told that was not looked at.
struct Application {
    server: Server,
    told: VecDeque<Told>,
}

impl Application {
    /// The next event of those; `None`: the server has stopped.
    fn next(&mut self) -> Option<Told> {
        let (deadline, mut batch) = (Instant::now() + PATIENCE, EventBatch::new());
        while self.told.is_empty() {
            assert!(Instant::now() < deadline, "nothing is told");
            if self.server.events().next(&mut batch, Some(PATIENCE)) == Next::Stopped {
                return None;
            }
            self.told.extend(batch.iter().filter_map(|event| match event {
                Event::Upgrade(upgrade) => Some(Told::Asked {
                    ticket: upgrade.ticket,
                    request: Box::new(upgrade.request.clone()),
                    identity: upgrade.identity.clone().map(Box::new),
                    adopted: upgrade.adopted,
                }),
                Event::UpgradeGone(ticket) => Some(Told::Gone(ticket)),
                Event::Open(open) => Some(Told::Open {
                    ticket: open.ticket,
                    tag: open.tag,
                    user: open.user.as_deref().map(str::to_owned),
                    roles: open.roles.iter().map(str::to_owned).collect(),
                    adopted: open.adopted,
                    reported: open.reported,
                }),
                Event::AdoptionEnded { tag, status, .. } => Some(Told::Ended(tag, status)),
                Event::Close(close) => Some(Told::Closed(close.code)),
                _ => None,
            }));
        }
        self.told.pop_front()
    }

    fn expect_end(&mut self, ticket: Option<TicketId>, tag: u64, status: u16) {
        if let Some(ticket) = ticket {
            let next = self.next();
            assert!(matches!(next, Some(Told::Gone(gone)) if gone == ticket), "{next:?}");
        }
        let next = self.next();
        assert!(matches!(next, Some(Told::Ended(ended, with)) if (ended, with) == (tag, status)), "{next:?}");
    }

    fn handle(&self) -> ServerHandle {
        self.server.handle()
    }

    fn knock(&self, more: &str, tag: u64) -> Pipe {
        let adoption = Adoption { received: request(more), tag: Some(tag), ..Adoption::default() };
        self.handle().adopt_pipe(adoption).unwrap()
    }

    fn asked(&mut self) -> TicketId {
        match self.next() {
            Some(Told::Asked { ticket, .. }) => ticket,
            other => panic!("{other:?}"),
        }
    }

    fn expect_nothing_left(&self) {
        let (handle, deadline) = (self.handle(), Instant::now() + PATIENCE);
        loop {
            let stats = handle.stats();
            if [stats.connections, stats.open, stats.pending_auth, stats.pipe_bytes] == [0; 4] {
                return;
            }
            assert!(Instant::now() < deadline, "{stats:?}");
            std::thread::yield_now();
        }
    }
}

/// Lets the peer pass as whoever it is.
fn pass() -> Decision {
    Decision::pass()
}

fn answer_of(pipe: &Pipe) -> String {
    let (mut bytes, deadline) = (Vec::new(), Instant::now() + PATIENCE);
    while !pipe.take(&mut bytes, usize::MAX).is_ended && !bytes.windows(4).any(|end| end == b"\r\n\r\n") {
        assert!(Instant::now() < deadline);
        std::thread::yield_now();
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

const GOOD: &str = "X-Auth-Token: good\r\n";

#[test]
fn a_peer_that_is_known_is_put_to_the_application_which_does_not_say_who_it_is() {
    let mut app = consulting(TOKENS, "");
    let handle = app.handle();
    let pipe = app.knock(&format!("{GOOD}Sec-WebSocket-Protocol: own, native\r\nX-OdD: caf\u{e9}\r\n"), 1);
    let Some(Told::Asked { ticket, request, identity: Some(identity), adopted: Some(1) }) = app.next() else {
        panic!("not asked")
    };
    assert_eq!((identity.user.as_deref(), identity.roles.iter().collect::<Vec<_>>()), (Some("alice"), vec!["reader"]));
    assert_eq!(request.raw_headers[0], ("Host".to_owned(), b"x".to_vec()));
    assert!(request.raw_headers.contains(&("X-OdD".to_owned(), "caf\u{e9}".as_bytes().to_vec())));
    assert_eq!(request.header("x-odd"), Some("caf\u{e9}"));
    assert_eq!(request.raw_headers.len(), request.headers.len());
    for names in [
        Accept { user: Some("mallory".into()), ..Accept::default() },
        Accept { roles: vec!["admin".into()], ..Accept::default() },
        Accept { expires_at_ms: Some(u64::MAX), ..Accept::default() },
    ] {
        let error = handle.answer(ticket, Decision::Accept(names)).unwrap_err();
        assert_eq!(error.code(), "invalid_argument");
        assert!(error.to_string().contains("Upgrade::identity"), "{error}");
    }
    let accept = Accept {
        subprotocol: Some("own".into()),
        headers: vec![("Set-Cookie".into(), "seen=1".into())],
        tag: Some(42),
        ..Accept::default()
    };
    handle.answer(ticket, Decision::Accept(accept)).unwrap();
    let Some(Told::Open { ticket: Some(opened), tag: Some(42), user, roles, adopted: Some(1), reported: false }) =
        app.next()
    else {
        panic!("not open")
    };
    assert_eq!((opened, user.as_deref(), roles), (ticket, Some("alice"), vec!["reader".to_owned()]));
    let answer = answer_of(&pipe);
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    assert!(
        answer.contains("Sec-WebSocket-Protocol: own\r\n") && answer.contains("Set-Cookie: seen=1\r\n"),
        "{answer}"
    );
    // The user's connection is one of the user's.
    handle.disconnect_user("alice").unwrap();
    assert!(matches!(app.next(), Some(Told::Closed(1008))));
}

#[test]
fn without_authentication_nobody_is_known_and_the_server_chooses_what_the_application_does_not() {
    let mut app = consulting(r#""none""#, "");
    let pipe = app.knock("Sec-WebSocket-Protocol: own, native\r\n", 1);
    let Some(Told::Asked { ticket, identity, .. }) = app.next() else { panic!("not asked") };
    assert_eq!(identity.map(|identity| identity.user), Some(None));
    app.handle().answer(ticket, pass()).unwrap();
    assert!(matches!(app.next(), Some(Told::Open { user: None, .. })));
    assert!(answer_of(&pipe).contains("Sec-WebSocket-Protocol: native\r\n"));
    let pipe = app.knock("", 2);
    let ticket = app.asked();
    let reject = Reject { status: 418, headers: Vec::new(), body: b"teapot".to_vec() };
    app.handle().answer(ticket, Decision::Reject(reject)).unwrap();
    assert!(matches!(app.next(), Some(Told::Ended(2, 418))));
    assert!(answer_of(&pipe).ends_with("teapot"));
}

#[test]
fn the_claims_of_a_verified_token_are_told_before_and_after() {
    use aws_lc_rs::hmac;
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let secret = "0123456789abcdef0123456789abcdef";
    let auth = format!(r#"{{"jwt": {{"algorithms": ["HS256"], "key": "{secret}", "audience": "chat"}}}}"#);
    let claims = r#"{"sub":"alice","aud":"chat","exp":9999999999,"team":"red"}"#;
    let parts = [r#"{"alg":"HS256","typ":"JWT"}"#, claims].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), parts.as_bytes());
    let token = format!("{parts}.{}", URL_SAFE_NO_PAD.encode(signature));
    let mut app = consulting(&auth, "");
    let _pipe = app.knock(&format!("Authorization: Bearer {token}\r\nX-Auth-Token: {token}\r\n"), 1);
    let Some(Told::Asked { ticket, identity: Some(identity), .. }) = app.next() else { panic!("not asked") };
    assert_eq!((identity.user.as_deref(), identity.claims.as_deref()), (Some("alice"), Some(claims)));
    // Half a minute of leeway, as the check has it.
    assert_eq!(identity.expires_at_ms, Some(9_999_999_999_000 + 30_000));
    assert!(!format!("{identity:?}").contains("team"), "claims say who somebody is");
    app.handle().answer(ticket, pass()).unwrap();
    assert!(matches!(app.next(), Some(Told::Open { user: Some(user), .. }) if user == "alice"));
}

#[test]
fn who_is_refused_anyway_is_not_put_to_it() {
    let mut app = consulting(TOKENS, "");
    let pipe = app.knock("X-Auth-Token: bad\r\n", 1);
    assert!(matches!(app.next(), Some(Told::Ended(1, 401))));
    assert!(answer_of(&pipe).starts_with("HTTP/1.1 401 "));
}

type Act<'a> = &'a dyn Fn(&ServerHandle);

#[test]
fn what_changes_meanwhile_counts_when_it_is_accepted() {
    let without = r#"{"tokens": [{"token": "other", "user": "bob"}]}"#;
    let acts: [(&str, Act<'_>, u16); 4] = [
        ("disconnect_user", &|server| assert!(server.disconnect_user("alice").is_ok()), 401),
        ("ban", &|server| server.ban(Whom::User("alice"), None, "").unwrap(), 403),
        (
            "reload",
            &|server| {
                let json = format!(
                    r#"{{"origins": ["https://a.example"], "auth": {without}, "protocol": "raw", "threads": 1}}"#
                );
                server.reload(Options::from_json(&json).unwrap()).unwrap();
            },
            401,
        ),
        ("nothing", &|_| {}, 101),
    ];
    for (name, act, status) in acts {
        let mut app = consulting(TOKENS, "");
        let (handle, pipe) = (app.handle(), app.knock(GOOD, 1));
        let ticket = app.asked();
        act(&handle);
        handle.answer(ticket, pass()).unwrap();
        match status {
            101 => assert!(matches!(app.next(), Some(Told::Open { .. })), "{name}"),
            status => app.expect_end(Some(ticket), 1, status),
        }
        assert!(answer_of(&pipe).starts_with(&format!("HTTP/1.1 {status} ")), "{name}");
        drop(pipe);
        app.expect_nothing_left();
    }
}

#[test]
fn a_peer_that_leaves_meanwhile_is_told_of_and_gives_its_place_back() {
    let mut app = consulting(TOKENS, r#", "max_pending_auth": 1"#);
    for (tag, leaves) in [(1, Pipe::end as fn(&Pipe)), (2, Pipe::abort)] {
        let pipe = app.knock(GOOD, tag);
        let ticket = app.asked();
        leaves(&pipe);
        app.expect_end(Some(ticket), tag, 0);
        assert_eq!(app.handle().answer(ticket, pass()).unwrap_err().code(), "ticket_settled");
        app.expect_nothing_left();
    }
}

/// Also one of whom nothing more is read, because it has sent as much as is kept of it.
#[test]
fn a_peer_that_sent_much_before_it_left_holds_no_place_for_ever() {
    let mut app = with(Builder::new().consult_without_deadline(), TOKENS, "");
    // More than is kept of it, and less than a kernel takes of one that is not read: its end would wait behind the rest.
    let early = vec![0; 40_000];
    for (tag, leaves) in [(1, Pipe::end as fn(&Pipe)), (2, Pipe::abort)] {
        let pipe = app.knock(GOOD, tag);
        pipe.push(&early);
        let ticket = app.asked();
        leaves(&pipe);
        app.expect_end(Some(ticket), tag, 0);
    }
    for (tag, is_reset) in [(3, false), (4, true)] {
        let (mut client, socket) = accepted();
        let adoption = Adoption { received: request(GOOD), tag: Some(tag), ..Adoption::default() };
        app.handle().adopt(socket, adoption).unwrap();
        client.write_all(&early).unwrap();
        let ticket = app.asked();
        // A reset, where bytes are there that were not read.
        let how = if is_reset { std::net::Shutdown::Both } else { std::net::Shutdown::Write };
        client.shutdown(how).unwrap();
        app.expect_end(Some(ticket), tag, 0);
    }
    app.expect_nothing_left();
}

#[test]
fn no_more_than_max_pending_auth_wait() {
    let mut app = consulting(TOKENS, r#", "max_pending_auth": 2"#);
    let waiting = [app.knock(GOOD, 1), app.knock(GOOD, 2)];
    let tickets = [app.asked(), app.asked()];
    let third = app.knock(GOOD, 3);
    app.expect_end(None, 3, 503);
    assert!(answer_of(&third).starts_with("HTTP/1.1 503 "));
    for ticket in tickets {
        app.handle().answer(ticket, pass()).unwrap();
        assert!(matches!(app.next(), Some(Told::Open { .. })));
    }
    drop(waiting);
}

#[test]
fn an_answer_has_its_time_or_as_much_as_the_application_likes() {
    let short = r#", "handshake_timeout_ms": 300, "auth_timeout_ms": 200"#;
    let mut app = consulting(TOKENS, short);
    let pipe = app.knock(GOOD, 1);
    let ticket = app.asked();
    app.expect_end(Some(ticket), 1, 503);
    assert!(answer_of(&pipe).starts_with("HTTP/1.1 503 "));
    for auth in [TOKENS, r#""callback""#] {
        let mut app = with(Builder::new().consult_without_deadline(), auth, short);
        let pipe = app.knock(GOOD, 1);
        let ticket = app.asked();
        // What is late is what the test is about.
        std::thread::sleep(Duration::from_millis(600));
        assert!(app.handle().is_waiting(ticket));
        app.handle().answer(ticket, pass()).unwrap();
        assert!(matches!(app.next(), Some(Told::Open { .. })), "{auth}");
        assert!(answer_of(&pipe).starts_with("HTTP/1.1 101 "));
        // A head still has its deadline.
        let adoption = Adoption { received: b"GET / HT".to_vec(), tag: Some(2), ..Adoption::default() };
        let _slow = app.handle().adopt_pipe(adoption).unwrap();
        app.expect_end(None, 2, 408);
    }
}

/// What the peer of an adopted connection has got when that ends.
fn all_of(client: Client) -> Vec<u8> {
    let mut bytes = Vec::new();
    match client {
        Client::Pipe(pipe) => {
            let deadline = Instant::now() + PATIENCE;
            while !pipe.take(&mut bytes, usize::MAX).is_ended {
                assert!(Instant::now() < deadline);
                std::thread::yield_now();
            }
        }
        // A server that has not read everything ends with a reset, behind its answer.
        Client::Tcp(mut socket) => drop(socket.read_to_end(&mut bytes)),
    }
    bytes
}

enum Client {
    Pipe(Pipe),
    Tcp(TcpStream),
}

/// Both ends of a connection that is not handed over yet; a pipe has none before.
type Pair = Option<(TcpStream, TcpStream)>;

/// Hands over a connection that has sent its request.
fn hand_over(handle: &ServerHandle, pair: Pair, tag: u64) -> Result<Client, wsguard::Error> {
    let adoption = Adoption { received: request(""), tag: Some(tag), ..Adoption::default() };
    match pair {
        None => handle.adopt_pipe(adoption).map(Client::Pipe),
        Some((client, socket)) => handle.adopt(socket, adoption).map(|()| Client::Tcp(client)),
    }
}

/// However close to the end it comes, each is told to the application once: as a connection, or that there is none.
#[test]
fn a_connection_that_a_server_takes_at_its_end_is_answered() {
    let jwt = format!(r#"{{"jwt": {{"algorithms": ["HS256"], "key": "{}"}}}}"#, "0".repeat(32));
    for round in 0..48_u64 {
        let (threads, auth) = (1 + round % 2, [r#""none""#, &jwt][(round / 2 % 2) as usize]);
        let (is_pipe, drains, before) =
            (round / 4 % 2 == 0, round / 8 % 2 == 0, [0, 3, 100][(round / 16 % 3) as usize]);
        let json = format!(
            r#"{{"origins": ["https://a.example"], "auth": {auth}, "threads": {threads}, "handshakes_per_ip": null,
                "max_connections_per_ip": 1000, "close_timeout_ms": 50}}"#
        );
        let server = Builder::new().without_listener().start(Options::from_json(&json).unwrap()).unwrap();
        let mut app = Application { server, told: VecDeque::new() };
        let handle = app.handle();
        let mut pairs = (0..160).map(|tag| (tag, (!is_pipe).then(accepted))).collect::<Vec<_>>().into_iter();
        let mut clients: Vec<_> =
            pairs.by_ref().take(before).map(|(tag, pair)| hand_over(&handle, pair, tag).unwrap()).collect();
        if drains {
            handle.drain(200, 0);
        } else {
            handle.stop();
        }
        for (tag, pair) in pairs {
            match hand_over(&handle, pair, tag) {
                Ok(client) => clients.push(client),
                Err(error) => {
                    assert_eq!(error.code(), "stopped");
                    break;
                }
            }
        }
        let count = clients.len();
        let (mut opened, mut refused) = (0, 0);
        for (tag, client) in clients.into_iter().enumerate() {
            let answer = all_of(client);
            let text = String::from_utf8_lossy(&answer);
            match text.get(9..12) {
                Some("101") => {
                    assert!(answer.windows(4).any(|end| matches!(end, [0x88, _, 3, 244])), "no close frame: {text:?}");
                    opened += 1;
                }
                Some("503" | "401") => refused += 1,
                _ => panic!("round {round}, {tag} of {count}: {text:?}"),
            }
        }
        let (mut told_open, mut told_closed, mut told_refused) = (0, 0, 0);
        while let Some(told) = app.next() {
            match told {
                Told::Open { adopted: Some(_), .. } => told_open += 1,
                Told::Closed(1012) => told_closed += 1,
                Told::Ended(_, 503 | 401) => told_refused += 1,
                told => panic!("round {round}: {told:?}"),
            }
        }
        assert_eq!((told_open, told_closed, told_refused), (opened, opened, refused), "round {round}");
    }
}

/// On several threads, each of which may find that another has closed the tickets.
#[test]
fn whoever_waits_for_the_application_at_the_end_is_answered() {
    for round in 0..40 {
        let json = r#"{"origins": ["https://a.example"], "auth": "callback", "threads": 3, "handshakes_per_ip": null,
            "max_connections_per_ip": 1000, "max_pending_auth": 1000}"#;
        let server = Builder::new().without_listener().start(Options::from_json(json).unwrap()).unwrap();
        let mut app = Application { server, told: VecDeque::new() };
        let pipes: Vec<_> = (0..150).map(|tag| app.knock("", tag)).collect();
        // All of them wait, or a part.
        for _ in 0..[0, 40, 150][round % 3] {
            app.asked();
        }
        app.handle().stop();
        let mut refused = 0;
        while let Some(told) = app.next() {
            match told {
                Told::Asked { .. } | Told::Gone(_) => {}
                Told::Ended(_, 503) => refused += 1,
                told => panic!("{round}: {told:?}"),
            }
        }
        assert_eq!(refused, pipes.len(), "{round}");
        assert!(pipes.iter().all(|pipe| answer_of(pipe).starts_with("HTTP/1.1 503 ")), "{round}");
    }
}

/// The application has answered, and the server stops before the handshake comes to it.
#[test]
fn whom_the_application_lets_in_just_before_the_end_is_answered() {
    for round in 0..20 {
        let mut app = consulting(TOKENS, r#", "max_pending_auth": 2000, "max_connections_per_user": 2000"#);
        // Woken by another thread, so many wait longer than a few turns of the runtime.
        let count = if round < 16 { 60 } else { 1500 };
        let pipes: Vec<_> = (0..count).map(|tag| app.knock(GOOD, tag)).collect();
        let tickets: Vec<_> = pipes.iter().map(|_| app.asked()).collect();
        for ticket in tickets {
            app.handle().answer(ticket, pass()).unwrap();
        }
        if round % 2 == 0 {
            app.handle().stop();
        } else {
            app.handle().drain(0, 0);
        }
        let (mut opened, mut refused, mut gone, mut closed) = (0, 0, 0, 0);
        while let Some(told) = app.next() {
            match told {
                Told::Open { .. } => opened += 1,
                Told::Closed(1012) => closed += 1,
                Told::Gone(_) => gone += 1,
                Told::Ended(_, 503) => refused += 1,
                told => panic!("{told:?}"),
            }
        }
        assert_eq!((opened + refused, closed, gone), (pipes.len(), opened, refused));
        let answers: Vec<_> = pipes.iter().map(answer_of).collect();
        assert!(answers.iter().all(|answer| matches!(answer.get(9..12), Some("101" | "503"))), "{answers:?}");
    }
}

#[test]
fn a_server_that_drains_or_stops_meanwhile_ends_it() {
    let mut app = with(Builder::new().consult_without_deadline(), TOKENS, "");
    let pipe = app.knock(GOOD, 1);
    let ticket = app.asked();
    app.handle().drain(10_000, 0);
    // Nobody is open: the drain may be over before a newcomer comes.
    let newcomer = app.handle().adopt_pipe(Adoption { received: request(GOOD), tag: Some(2), ..Adoption::default() });
    match &newcomer {
        Ok(newcomer) => assert!(answer_of(newcomer).starts_with("HTTP/1.1 503 ")),
        Err(error) => assert_eq!(error.code(), "stopped"),
    }
    let handle = app.handle();
    let _ = handle.answer(ticket, pass());
    // Whoever was let in a moment before is closed like everybody else, or is told that there is nobody any more.
    let mut ends = Vec::new();
    while let Some(told) = app.next() {
        ends.push(told);
        pipe.push(&[0x88, 0x82, 0, 0, 0, 0, 3, 244]);
    }
    let of_newcomer = ends.iter().position(|told| matches!(told, Told::Ended(2, 503)));
    assert_eq!(of_newcomer.is_some(), newcomer.is_ok(), "{ends:?}");
    of_newcomer.map(|at| ends.remove(at));
    assert!(
        matches!(ends[..], [Told::Open { .. }, Told::Closed(1012)] | [Told::Gone(_), Told::Ended(1, _)]),
        "{ends:?}"
    );

    let mut app = consulting(TOKENS, "");
    let pipe = app.knock(GOOD, 1);
    let ticket = app.asked();
    app.handle().stop();
    app.expect_end(Some(ticket), 1, 503);
    assert!(app.next().is_none());
    assert!(answer_of(&pipe).starts_with("HTTP/1.1 503 "));
}

/// Also whom only a trial of the handshake rules lets in: the application is asked, and hears of nobody it could take for a user.
#[test]
fn whoever_is_only_reported_is_put_to_the_application_as_nobody() {
    let mut app = consulting(TOKENS, r#", "on_violation": "report", "report_handshakes": true"#);
    let handle = app.handle();
    for (more, decision, status) in
        [("X-Auth-Token: wrong\r\n", pass(), "101"), ("", Decision::reject(403), "403"), (GOOD, pass(), "101")]
    {
        let sent = String::from_utf8(request(more)).unwrap();
        let sent = if more == GOOD { sent.replace("//a.example", "//evil.example") } else { sent };
        let adoption = Adoption { received: sent.into_bytes(), ..Adoption::default() };
        let pipe = handle.adopt_pipe(adoption).unwrap();
        let ticket = loop {
            match app.next() {
                Some(Told::Asked { ticket, request, identity: Some(identity), .. }) => {
                    assert!(*identity == GrantedIdentity::default() && request.reported, "{more}");
                    break ticket;
                }
                Some(Told::Open { user, reported, .. }) => {
                    assert_eq!((user, reported), (None, true), "of the one before");
                }
                Some(Told::Closed(_)) => {}
                other => panic!("{other:?}"),
            }
        };
        handle.answer(ticket, decision).unwrap();
        assert!(answer_of(&pipe).starts_with(&format!("HTTP/1.1 {status} ")), "{more}");
    }
}

/// The application recognises the visitor of a foreign page by the visitor's cookies.
#[test]
fn whoever_is_only_reported_has_no_user_of_the_applications_either() {
    let mut app = with(Builder::new(), r#""callback""#, r#", "on_violation": "report", "report_handshakes": true"#);
    let roles = vec!["admin".to_owned()];
    let alice = || {
        let user = Some("alice".to_owned());
        Decision::Accept(Accept { user, roles: roles.clone(), tag: Some(5), ..Accept::default() })
    };
    for (origin, expected) in [("//evil.example", None), ("//a.example", Some("alice".to_owned()))] {
        let sent = String::from_utf8(request("Cookie: sid=alices\r\n")).unwrap().replace("//a.example", origin);
        let adoption = Adoption { received: sent.into_bytes(), ..Adoption::default() };
        let pipe = app.handle().adopt_pipe(adoption).unwrap();
        let ticket = app.asked();
        app.handle().answer(ticket, alice()).unwrap();
        let Some(Told::Open { user, roles: told, tag, reported, .. }) = app.next() else { panic!("no open") };
        assert_eq!(
            (user.is_some(), told.len(), tag, reported),
            (expected.is_some(), expected.iter().count(), Some(5), expected.is_none()),
            "{origin}"
        );
        assert_eq!(user, expected);
        app.handle().disconnect_user("alice").unwrap();
        if expected.is_some() {
            assert!(matches!(app.next(), Some(Told::Closed(1008))));
        }
        drop(pipe);
        let _ = expected.is_none().then(|| assert!(matches!(app.next(), Some(Told::Closed(1006)))));
    }
    // Its refusal counts.
    let sent = String::from_utf8(request("")).unwrap().replace("//a.example", "//evil.example");
    let pipe = app.handle().adopt_pipe(sent.into_bytes()).unwrap();
    let ticket = app.asked();
    app.handle().answer(ticket, Decision::reject(401)).unwrap();
    assert!(answer_of(&pipe).starts_with("HTTP/1.1 401 "));
}

/// A peer that has vanished sends no end. Where an answer has no deadline the kernel asks for it.
#[test]
fn a_peer_that_waits_without_a_deadline_is_asked_whether_it_is_there() {
    for (builder, expected) in [(Builder::new().consult_without_deadline(), true), (Builder::new().consult(), false)] {
        let mut app = with(builder, TOKENS, "");
        let (_client, socket) = accepted();
        let ours = socket.try_clone().unwrap();
        app.handle().adopt(socket, request(GOOD)).unwrap();
        app.asked();
        assert_eq!(socket2::SockRef::from(&ours).keepalive().unwrap(), expected);
    }
}
