//! Other options while a server works: who may stay notices nothing, who may not is told so, and a set of options that is
//! refused changes nothing.

use serde_json::{Value, json};
use wsguard_test_support::client::{Client, ORIGIN, Opening, PATIENCE};
use wsguard_test_support::ensure;
use wsguard_test_support::honest::{Honest, TOKEN};
use wsguard_test_support::host::Host;
use wsguard_test_support::jwt;
use wsguard_test_support::outcome::Outcome;
use wsguard_test_support::suite::Ground;
use wsguard_test_support::wire::Dial;

use crate::policy::policy;

const ROUNDS: u64 = 20;
/// Events of a round, beside those that the honest clients use.
const EVENTS: u64 = 200;

/// The options of one round: a token, a key, an origin, a limit and the schemas of events change with each.
fn options(round: u64) -> Value {
    let mut options = policy().options().clone();
    let token = |name: &str, user: &str| json!({"token": name, "user": user});
    options["origins"] = json!([ORIGIN, format!("https://round-{round}.example")]);
    options["auth"] = json!({"tokens": [token(TOKEN, "honest"), token(&format!("token-{round}"), "guest")]});
    options["max_message_bytes"] = (65_536 + round).into();
    let signed = json!({"algorithms": ["HS256"], "key": key(round), "audience": "test"});
    options["routes"] = json!({"/": {}, "/signed": {"auth": {"jwt": signed}}});
    for number in 0..EVENTS {
        let room = json!({"const": format!("round {round}")});
        let schema = json!({"type": "object", "required": ["room"], "properties": {"room": room}});
        let name = if number == 0 { "join".to_owned() } else { format!("event-{round}-{number}") };
        options["events"][name] = json!({"schema": schema});
    }
    options
}

fn key(round: u64) -> String {
    format!("{round:032}")
}

fn reload(host: &mut Host, options: &Value) -> Outcome<Value> {
    host.command(&json!({"do": "reload", "options": options}))
}

fn from_origin(round: u64, token: &str) -> Opening {
    Opening::bare().header("Origin", &format!("https://round-{round}.example")).header("X-Auth-Token", token)
}

fn guest(round: u64) -> Opening {
    from_origin(round, &format!("token-{round}"))
}

fn signed(round: u64) -> Outcome<Opening> {
    let token = jwt::hs256(&json!({"sub": "signed", "aud": "test", "exp": 4_000_000_000_u64}), &key(round))?;
    Ok(Opening { target: "/signed".into(), ..Opening::with_token(&token) })
}

/// Again and again under load: tokens, keys, origins, limits and schemas.
pub(crate) fn under_load(ground: &Ground) -> Outcome<String> {
    let mut host = policy().start(&ground.run)?;
    let first = reload(&mut host, &options(0))?;
    if first["ok"] == false && first["code"].is_null() {
        return Ok(format!("this host does not know the command: {first}"));
    }
    ensure!(first["ok"] == true && first["generation"] == 2, "the first reload was answered {first}");
    let honest = Honest::start(&host.target, 6)?;
    // It is there from the first round to the last, and judged by each.
    let mut stays = Client::open(&host.target, Dial::default(), &Opening::with_token(TOKEN))?;
    for round in 0..ROUNDS {
        let mut guest = Client::open(&host.target, Dial::default(), &guest(round))
            .map_err(|failure| failure.during(format_args!("the guest of round {round}")))?;
        let mut signed = Client::open(&host.target, Dial::default(), &signed(round)?)
            .map_err(|failure| failure.during(format_args!("the signed client of round {round}")))?;
        for client in [&mut guest, &mut signed, &mut stays] {
            client.emit("join", &json!({"room": format!("round {round}")}))?;
            let answer = client.event(PATIENCE)?;
            ensure!(answer["event"] == "joined", "round {round}: {answer}");
        }
        refused(&mut host, round)?;
        let next = round + 1;
        let answer = reload(&mut host, &options(next))?;
        ensure!(answer["ok"] == true && answer["generation"] == next + 2, "reload {next} was answered {answer}");
        for client in [&mut guest, &mut signed] {
            let (code, reason) = client.closed(PATIENCE)?;
            ensure!((code, &*reason) == (1008, "session revoked"), "round {round}: closed with {code} {reason:?}");
        }
        turned_away(&host, round)?;
        honest.keep_going()?;
    }
    // The last schema is in force for who came first.
    stays.emit("join", &json!({"room": "round 0"}))?;
    let (code, _) = stays.closed(PATIENCE)?;
    ensure!(code == 1008, "a message of an old schema was closed with {code}");
    let revoked = host.stat("verdicts.session_revoked")?;
    ensure!(revoked == 2 * ROUNDS, "{revoked} sessions of {} were revoked", 2 * ROUNDS);
    let seen = honest.finish()?;
    Ok(format!("{ROUNDS} reloads, as many refused, {revoked} sessions revoked; {seen}"))
}

/// Options that are wrong, or cannot change while it runs, are named and change nothing.
fn refused(host: &mut Host, round: u64) -> Outcome {
    let (name, value, code) = if round.is_multiple_of(2) {
        ("max_message_bytes", json!("many"), None)
    } else {
        ("threads", json!(3), Some("not_reloadable"))
    };
    let mut wrong = options(round + 1000);
    wrong[name] = value;
    let answer = reload(host, &wrong)?;
    ensure!(answer["ok"] == false && answer["option"] == name, "round {round}: {answer}");
    ensure!(answer["code"].is_string() && code.is_none_or(|code| answer["code"] == code), "round {round}: {answer}");
    // Each language spells it in its own way.
    let plain = |text: &str| text.replace('_', "").to_lowercase();
    let is_named = answer["message"].as_str().is_some_and(|message| plain(message).contains(&plain(name)));
    ensure!(is_named, "round {round}: {answer}");
    Ok(())
}

/// What the round before let in, this one does not.
fn turned_away(host: &Host, round: u64) -> Outcome {
    let old_token = Opening::with_token(&format!("token-{round}"));
    let old_origin = from_origin(round, TOKEN);
    for (opening, wanted) in [(old_token, 401), (old_origin, 403), (signed(round)?, 401)] {
        let status = Client::over(host.target.connect(Dial::default())?).upgrade(&opening)?.status;
        ensure!(status == wanted, "after round {round}: {status} instead of {wanted}");
    }
    Ok(())
}
