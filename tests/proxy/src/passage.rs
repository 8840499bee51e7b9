//! What passes through a proxy: messages, refusals and close codes.

use serde_json::{Value, json};
use wsguard_test_support::client::{Client, ORIGIN, Opening, PATIENCE};
use wsguard_test_support::ensure;
use wsguard_test_support::frame;
use wsguard_test_support::honest::{Honest, TOKEN};
use wsguard_test_support::host::Host;
use wsguard_test_support::outcome::Outcome;
use wsguard_test_support::suite::Ground;
use wsguard_test_support::wire::{Dial, Target};

use crate::front::{MINUTE, Proxy, policy};

fn honest() -> Opening {
    Opening::with_token(TOKEN)
}

/// Messages of every size, over plain TCP and TLS at the proxy, to a host on TCP and on a Unix socket.
pub(crate) fn round_trips<P: Proxy>(ground: &Ground) -> Outcome<String> {
    let mut notes = Vec::new();
    for listen in P::upstreams(ground) {
        let host = policy().option("listen", &*listen).start(&ground.run)?;
        let proxy = P::start(ground, &host, MINUTE)?;
        let over = if listen.starts_with("unix:") { "unix" } else { "tcp" };
        for target in proxy.targets() {
            let crowd = Honest::start(target, 4)?;
            sizes(target)?;
            if P::PASSES_EARLY_FRAMES {
                early(target)?;
            }
            let name = if target.tls.is_some() { "tls" } else { "plain" };
            notes.push(format!("{name} to {over} {}", crowd.finish()?.echoes));
        }
    }
    Ok(format!("echoes: {}", notes.join(", ")))
}

fn sizes(target: &Target) -> Outcome {
    let mut client = Client::open(target, Dial::default(), &honest())?;
    for size in [0, 1, 125, 126, 127, 4096, 16_384, 65_000] {
        let data = json!("x".repeat(size));
        client.emit("echo", &data)?;
        let event = client.event(PATIENCE)?;
        ensure!(event["data"] == data, "a message of {size} bytes came back changed");
    }
    client.leave()
}

/// A frame right behind the request, before the 101.
fn early(target: &Target) -> Outcome {
    let mut early = Client::over(target.connect(Dial::default())?);
    let mut bytes = honest().bytes();
    bytes.extend(frame::encode(frame::TEXT, br#"{"event":"echo","data":"early"}"#));
    early.send(&bytes)?;
    let status = early.answer(PATIENCE)?.status;
    ensure!(status == 101, "an upgrade with a frame behind it was answered {status}");
    ensure!(early.event(PATIENCE)?["data"] == "early", "an early frame is lost");
    early.leave()
}

/// Refusals over a connection that the proxy keeps alive, each followed by a request that is fine: none poisons the next.
pub(crate) fn refused_upgrades<P: Proxy>(ground: &Ground) -> Outcome<String> {
    let host = policy().option("paths", json!(["/", "/chat"])).with_events().start(&ground.run)?;
    let proxy = P::start(ground, &host, MINUTE)?;
    let crowd = Honest::start(&proxy.plain, 2)?;
    let token = |opening: Opening| opening.header("X-Auth-Token", TOKEN);
    let refusals = [
        (403, token(Opening::bare().header("Origin", "https://evil.example.com"))),
        (401, Opening::with_token("wrong")),
        (403, token(Opening::bare())),
        (404, Opening { target: "/nowhere".into(), ..honest() }),
        (P::TWO_ORIGINS, token(Opening::bare().header("Origin", ORIGIN).header("Origin", ORIGIN))),
    ];
    let mut refused = 0;
    for (expected, refusal) in refusals.iter().cycle().take(50) {
        // One connection to the proxy for all of it; the proxy chooses among those it keeps to the host.
        let mut client = Client::over(proxy.plain.connect(Dial::default())?);
        let status = client.upgrade(refusal)?.status;
        ensure!(status == *expected, "a refusal {expected} came as {status}");
        if !P::KEEPS_REFUSED {
            client.gone(PATIENCE)?;
            client = Client::over(proxy.plain.connect(Dial::default())?);
        }
        client.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
        let status = client.answer(PATIENCE)?.status;
        ensure!(status == 200, "/healthz behind a {expected} was answered {status}");
        let answer = client.upgrade(&honest())?;
        ensure!(answer.status == 101, "an upgrade behind a {expected} was answered {}", answer.head);
        client.emit("echo", &json!(refused))?;
        ensure!(client.event(PATIENCE)?["data"] == refused, "the echo behind a {expected} is another's");
        client.leave()?;
        refused += 1;
    }
    let log = proxy.log();
    ensure!(!log.contains("upstream prematurely closed"), "nginx complains: {log}");
    let seen = crowd.finish()?;
    let second = smuggled(&host, &proxy.plain)?;
    Ok(format!("{refused} refusals, each followed by 200 and 101; one sent right behind a refusal: {second}; {seen}"))
}

/// A second request behind one that is refused, in one piece: a proxy that hands the connection over would let it pass with
/// what the client says of its own address. What became of it.
fn smuggled(host: &Host, target: &Target) -> Outcome<String> {
    host.events_so_far();
    let mut client = Client::over(target.connect(Dial::from_host(70))?);
    let mut bytes = Opening::with_token("wrong").bytes();
    bytes.extend(honest().header("X-Forwarded-For", "6.6.6.6").bytes());
    client.send(&bytes)?;
    let status = client.answer(PATIENCE)?.status;
    ensure!(status == 401, "a wrong token was answered {status}");
    match client.answer(PATIENCE) {
        Err(_) => {
            client.gone(PATIENCE)?;
            let mut opened = host.events_so_far().into_iter();
            let open = opened.find(|event| event["type"] == "open" && event["ip"] != "127.0.0.1");
            ensure!(open.is_none(), "a second request without an answer opened {open:?}");
            Ok("no answer".into())
        }
        Ok(answer) if answer.status == 101 => {
            let open = host.event(PATIENCE, |event| event["type"] == "open" && event["ip"] != "127.0.0.1");
            ensure!(open.as_ref().is_some_and(|open| open["ip"] == "127.0.0.70"), "seen as {open:?}");
            client.leave()?;
            Ok("101 as 127.0.0.70".into())
        }
        Ok(answer) => Ok(answer.status.to_string()),
    }
}

/// Close codes in both directions.
pub(crate) fn close_codes<P: Proxy>(ground: &Ground) -> Outcome<String> {
    let rate = json!({"per_second": 1, "burst": 5, "queue": 0, "key": "connection"});
    let setup = policy().option("max_message_bytes", 1000).option("rate_limit", rate).with_events();
    let host = setup.start(&ground.run)?;
    let proxy = P::start(ground, &host, MINUTE)?;
    let expect = |target: &Target, act: &dyn Fn(&mut Client) -> Outcome, code: u16, reason: &str| -> Outcome {
        let mut client = Client::open(target, Dial::default(), &honest())?;
        act(&mut client)?;
        let came = client.closed(PATIENCE)?;
        ensure!(came.0 == code && came.1 == reason, "expected {code} {reason:?}, came {came:?}");
        Ok(())
    };
    for target in proxy.targets() {
        let application = |code: u16, reason: &str| {
            let data = json!({"code": code, "reason": reason});
            move |client: &mut Client| client.emit("close", &data)
        };
        expect(target, &application(1000, "done"), 1000, "done")?;
        expect(target, &application(4000, "see you"), 4000, "see you")?;
        let flood = |client: &mut Client| (0..6).try_for_each(|n| client.emit("echo", &json!(n)));
        expect(target, &flood, 1008, "rate limit")?;
        expect(target, &|client| client.emit("echo", &json!("x".repeat(2000))), 1009, "message too big")?;
        expect(target, &|client| client.send(&frame::encode(frame::BINARY, b"x")), 1003, "binary not accepted")?;
        expect(target, &|client| client.send(b"\x81\x00"), 1002, "bad frame")?;
    }
    host.events_so_far();
    for code in [1000, 1001, 4321] {
        let mut client = Client::open(&proxy.plain, Dial::default(), &honest())?;
        client.send(&frame::close(code))?;
        let (answer, _) = client.closed(PATIENCE)?;
        ensure!(answer == code, "a close with {code} was answered {answer}");
        let closed = |event: &Value| event["type"] == "close" && event["code"] == code;
        ensure!(host.event(PATIENCE, closed).is_some(), "the host was not told of the close {code}");
    }
    // A client that is simply gone.
    Client::open(&proxy.plain, Dial::default(), &honest())?.wire.reset()?;
    let broken = host.event(PATIENCE, |event| event["type"] == "close" && event["code"] == 1006);
    ensure!(broken.is_some(), "the host was not told of a client that broke off");
    let closes = 6 * proxy.targets().count();
    Ok(format!("{closes} server closes and 4 client closes arrived as they were sent"))
}
