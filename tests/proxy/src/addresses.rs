//! Who a client is when a proxy stands in between (THREATS H22, H23).

use serde_json::{Value, json};
use wsguard_test_support::client::{Client, Opening, PATIENCE};
use wsguard_test_support::honest::{Honest, TOKEN};
use wsguard_test_support::host::Host;
use wsguard_test_support::outcome::{Failure, Outcome};
use wsguard_test_support::suite::Ground;
use wsguard_test_support::wire::{Dial, Target};
use wsguard_test_support::{ensure, fail};

use crate::front::{MINUTE, Proxy, policy};

fn honest() -> Opening {
    Opening::with_token(TOKEN)
}

/// The address under which the host sees a client that comes from 127.0.0.`from`.
fn seen_as(host: &Host, target: &Target, from: u8, opening: &Opening) -> Outcome<String> {
    let client = Client::open(target, Dial::from_host(from), opening)?;
    let open = host.event(PATIENCE, |event| event["type"] == "open");
    let open = open.ok_or_else(|| Failure("the host tells of no open connection".into()))?;
    client.leave()?;
    Ok(open["ip"].as_str().unwrap_or("nobody").to_owned())
}

/// Events name the real client, whatever headers it sends, over TCP and over a Unix socket.
pub(crate) fn forwarded<P: Proxy>(ground: &Ground) -> Outcome<String> {
    let mut tried = 0;
    for listen in P::upstreams(ground) {
        let host = policy().option("listen", listen).with_events().start(&ground.run)?;
        let proxy = P::start(ground, &host, MINUTE)?;
        for target in proxy.targets() {
            let forgeries: &[&[(&str, &str)]] = &[
                &[],
                &[("X-Forwarded-For", "6.6.6.6")],
                &[("X-Forwarded-For", "6.6.6.6"), ("X-Forwarded-For", "127.0.0.1")],
                &[("X-Forwarded-For", "127.0.0.1, garbage,, \"")],
                &[("X-Real-IP", "6.6.6.6"), ("True-Client-IP", "6.6.6.6"), ("Client-IP", "6.6.6.6")],
                // Without a line of its own for it a proxy would pass this on.
                &[("Forwarded", "for=6.6.6.6")],
            ];
            for forgery in forgeries {
                let opening = forgery.iter().fold(honest(), |opening, (name, value)| opening.header(name, value));
                let seen = seen_as(&host, target, 71, &opening)?;
                ensure!(seen == "127.0.0.71", "127.0.0.71 with {forgery:?} was seen as {seen}");
                tried += 1;
            }
        }
        violations_name_the_client(&host, &proxy.plain)?;
    }
    Ok(format!("{tried} forgeries: the host saw 127.0.0.71"))
}

fn violations_name_the_client(host: &Host, target: &Target) -> Outcome {
    let mut client = Client::over(target.connect(Dial::from_host(72))?);
    let evil = Opening::bare().header("Origin", "https://evil.example.com").header("X-Forwarded-For", "6.6.6.6");
    ensure!(client.upgrade(&evil)?.status == 403, "a foreign origin passed");
    let told = host.event(PATIENCE, |event| event["type"] == "violation" && event["code"] == "origin_denied");
    let told = told.ok_or_else(|| Failure("the host tells of no violation".into()))?;
    ensure!(told["ip"] == "127.0.0.72", "the violation names {}", told["ip"]);
    Ok(())
}

/// Limits count clients, not the proxy: one address runs into them, the others do not notice.
pub(crate) fn limits<P: Proxy>(ground: &Ground) -> Outcome<String> {
    let setup = policy()
        .option("handshakes_per_ip", json!({"per_second": 1, "burst": 8}))
        .option("max_connections_per_ip", 5)
        .option("rate_limit", json!({"per_second": 0.1, "burst": 3, "queue": 0, "key": "ip"}));
    let mut host = setup.start(&ground.run)?;
    let proxy = P::start(ground, &host, MINUTE)?;
    let status = |from: u8, forged: &str| -> Outcome<(u16, Client)> {
        let mut client = Client::over(proxy.plain.connect(Dial::from_host(from))?);
        Ok((client.upgrade(&honest().header("X-Forwarded-For", forged))?.status, client))
    };
    let mut kept = Vec::new();
    let mut statuses = Vec::new();
    for number in 0..12 {
        // A new forged address each time changes nothing.
        let (status, client) = status(73, &format!("6.6.6.{number}"))?;
        statuses.push(status);
        kept.push(client);
    }
    ensure!(statuses[..5] == [101; 5] && statuses[5..] == [429; 7], "one address got {statuses:?}");
    let (ip_full, rated) = (host.stat("verdicts.ip_full")?, host.stat("verdicts.ip_rate_limited")?);
    ensure!(ip_full + rated == 7 && rated >= 1, "{ip_full} ip_full and {rated} ip_rate_limited");
    for other in 74..84 {
        let (status, client) = status(other, "127.0.0.73")?;
        ensure!(status == 101, "127.0.0.{other} was answered {status}");
        client.leave()?;
    }
    // Five connections of one address share its bucket of messages.
    for client in &mut kept[..3] {
        client.emit("echo", &Value::Null)?;
        client.event(PATIENCE)?;
    }
    kept[3].emit("echo", &Value::Null)?;
    let (code, reason) = kept[3].closed(PATIENCE)?;
    ensure!(code == 1008 && reason == "rate limit", "the fourth message of the address got {code} {reason:?}");
    let mut other = Client::open(proxy.last(), Dial::from_host(90), &honest())?;
    other.emit("echo", &Value::Null)?;
    other.event(PATIENCE)?;
    other.leave()?;
    Ok(format!("one address: 5 accepted, 7 answered 429 ({ip_full} full, {rated} rate); 11 others accepted"))
}

/// A TCP proxy with the PROXY protocol: the real client again, and nobody gets in without the header.
pub(crate) fn proxy_protocol<P: Proxy>(ground: &Ground) -> Outcome<String> {
    let host = policy().option("proxy_protocol", true).with_events().start(&ground.run)?;
    let proxy = P::start(ground, &host, MINUTE)?;
    for target in proxy.targets() {
        for forged in [None, Some("6.6.6.6")] {
            let opening = forged.iter().fold(honest(), |opening, ip| opening.header("X-Forwarded-For", ip));
            let seen = seen_as(&host, target, 75, &opening)?;
            ensure!(seen == "127.0.0.75", "127.0.0.75 was seen as {seen}");
        }
    }
    let crowd = Honest::start(proxy.last(), 4)?;
    let mut direct = Client::over(host.target.connect(Dial::default())?);
    direct.send(&honest().bytes())?;
    if let Ok(answer) = direct.answer(PATIENCE) {
        return fail!("without a PROXY header came {}", answer.head);
    }
    // From an address that is not a proxy's, a header changes nothing.
    let mut stranger = Client::over(host.target.connect(Dial::from_host(76))?);
    stranger.send(b"PROXY TCP4 6.6.6.6 127.0.0.1 1 2\r\n")?;
    let _ = stranger.send(&honest().bytes());
    if let Ok(answer) = stranger.answer(PATIENCE) {
        return fail!("a stranger with a PROXY header got {}", answer.head);
    }
    for _ in 0..2 {
        let told = host.event(PATIENCE, |event| event["code"] == "proxy_header_invalid");
        ensure!(told.is_some(), "no proxy_header_invalid was told");
    }
    let seen = crowd.finish()?;
    Ok(format!("seen as 127.0.0.75 over tcp and tls; two without a right to it dropped; {seen}"))
}
