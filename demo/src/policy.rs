//! What the guarded server enforces: the text of `policy.json`, which is all that the application says about security. The
//! page shows the text that is in force, and marks the line that a verdict comes from.

use serde_json::{Value, json};
use wsguard::{Code, ConfigError, Options};

/// Stands in the text for the moderator's token, which the page does not get.
const MODERATOR: &str = "$MODERATOR";
/// A value in a list of changes is cut here.
const MAX_SHOWN: usize = 80;

/// The policy for a page of `origin`.
pub(crate) fn text(listen: &str, origin: &str) -> String {
    include_str!("policy.json").replace("LISTEN", listen).replace("ORIGIN", origin)
}

/// The same policy with TLS: one line more. `cert` and `key` are paths.
pub(crate) fn with_tls(policy: &str, cert: &str, key: &str) -> String {
    let line = json!({ "cert": cert, "key": key });
    policy.replacen('{', &format!("{{\n  \"tls\": {line},"), 1)
}

/// The options that a policy states, with the moderator's token in its place.
pub(crate) fn options(policy: &str, moderator: &str) -> Result<Options, ConfigError> {
    Options::from_json(&policy.replace(MODERATOR, moderator))
}

/// The same for a text that came from the page. Such a text may name no file of this machine and no other server: those
/// options are refused.
pub(crate) fn edited(policy: &str, moderator: &str) -> Result<Options, ConfigError> {
    let options = options(policy, moderator)?;
    let reaches_out = |path: &[String]| {
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        matches!(path[..], ["tls"] | ["auth", "jwt"] | ["routes", _, "auth", "jwt"])
    };
    match places(policy).iter().find(|(path, _)| reaches_out(path)) {
        Some((path, _)) => {
            let message =
                "names files or servers, which a text from the page may not: state it in demo/src/policy.json";
            Err(ConfigError::invalid(path.join("."), message))
        }
        None => Ok(options),
    }
}

/// What of a policy a verdict comes from.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) option: String,
    /// Its line, counted from 1; `None`: the policy does not state it, so its default counts.
    pub(crate) line: Option<usize>,
}

/// What a verdict on the path `path` comes from; `None`: it is a rule of the protocol itself, which no option turns off.
pub(crate) fn source(policy: &str, path: &str, code: Code, event: Option<&str>, detail: &str) -> Option<Source> {
    let option = match code {
        Code::PathNotFound => "paths",
        Code::OriginDenied => "origins",
        Code::HostDenied => "hosts",
        Code::AuthFailed | Code::AuthUnavailable => "auth",
        Code::TlsFailed => "tls",
        Code::HandshakeTimeout => "handshake_timeout_ms",
        Code::IpRateLimited => "handshakes_per_ip",
        Code::IpFull => "max_connections_per_ip",
        Code::UserFull => "max_connections_per_user",
        Code::MessageTooBig => "max_message_bytes",
        Code::TooManyFragments => "max_fragments",
        Code::RateLimited => "rate_limit",
        Code::ControlFlood => "control_rate_limit",
        Code::UnknownEvent | Code::EventDenied | Code::SchemaMismatch => "events",
        Code::BadEnvelope if detail.contains("max_depth") => "json_limits",
        Code::BadEnvelope | Code::UnexpectedBinary => "protocol",
        _ => return None,
    };
    let places = places(policy);
    // What a route states counts before what the top states.
    let routes = [vec!["routes", path, option], vec![option]];
    let stated = routes.into_iter().find(|at| line_of(&places, at).is_some());
    let Some(at) = stated else { return Some(Source { option: option.to_owned(), line: None }) };
    let line = event.and_then(|event| line_in_event(&places, &at, event, code, detail));
    let line = line.or_else(|| line_of(&places, &at));
    Some(Source { option: at.join("."), line })
}

/// The line inside of an event that refused its message.
fn line_in_event(places: &[Place], events: &[&str], event: &str, code: Code, detail: &str) -> Option<usize> {
    let at = [events, &[event]].concat();
    let inner = match code {
        Code::EventDenied => line_of(places, &[&at[..], &["roles"]].concat()),
        // The property that `detail` names (`data/text: type`), where the schema has it.
        Code::SchemaMismatch => {
            let property = detail.split(':').next()?.rsplit('/').next()?;
            let is_it =
                |path: &[String]| starts_with(path, &at) && path.ends_with(&["properties".into(), property.into()]);
            places.iter().find(|(path, _)| is_it(path)).map(|(_, line)| *line)
        }
        _ => return None,
    };
    inner.or_else(|| line_of(places, &at))
}

/// A member of an object: the names that lead to it, and its line, counted from 1.
type Place = (Vec<String>, usize);

fn starts_with(path: &[String], begin: &[&str]) -> bool {
    path.len() >= begin.len() && path.iter().zip(begin).all(|(name, wanted)| name == wanted)
}

fn line_of(places: &[Place], wanted: &[&str]) -> Option<usize> {
    places.iter().find(|(path, _)| path.len() == wanted.len() && starts_with(path, wanted)).map(|(_, line)| *line)
}

/// Every member of every object of a JSON text.
fn places(text: &str) -> Vec<Place> {
    let mut found = Vec::new();
    // For each object and array that is open: the member that is being read.
    let mut open: Vec<Option<String>> = Vec::new();
    let (mut line, mut rest) = (1, text);
    while let Some(next) = rest.chars().next() {
        let taken = if next == '"' { string_len(rest) } else { next.len_utf8() };
        let (token, after) = rest.split_at(taken);
        match next {
            '\n' => line += 1,
            '{' | '[' => open.push(None),
            '}' | ']' => drop(open.pop()),
            '"' if after.trim_start().starts_with(':') => {
                if let Some(member) = open.last_mut() {
                    *member = serde_json::from_str(token).ok();
                    found.push((open.iter().flatten().cloned().collect(), line));
                }
            }
            _ => {}
        }
        rest = after;
    }
    found
}

/// The bytes of the string that `text` begins with, quotes included.
fn string_len(text: &str) -> usize {
    let mut is_escaped = false;
    let end = text.bytes().skip(1).position(|byte| {
        let ends = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        ends
    });
    end.map_or(text.len(), |end| end + 2)
}

/// What differs between two policies, option by option.
pub(crate) fn changes(before: &str, after: &str) -> Vec<Value> {
    let read = |text| serde_json::from_str(text).unwrap_or_default();
    let mut found = Vec::new();
    compare(&read(before), &read(after), &mut Vec::new(), &mut found);
    found
}

fn compare(before: &Value, after: &Value, path: &mut Vec<String>, found: &mut Vec<Value>) {
    match (before, after) {
        (Value::Object(old), Value::Object(new)) => {
            let added = new.keys().filter(|name| !old.contains_key(*name));
            for name in old.keys().chain(added) {
                path.push(name.clone());
                compare(&before[name], &after[name], path, found);
                path.pop();
            }
        }
        _ if before == after => {}
        _ => found.push(json!({ "option": path.join("."), "before": shown(before), "after": shown(after) })),
    }
}

fn shown(value: &Value) -> String {
    let text = if value.is_null() { "not stated".to_owned() } else { value.to_string() };
    if text.chars().count() <= MAX_SHOWN { text } else { text.chars().take(MAX_SHOWN).chain(['…']).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wsguard::ConfigErrorKind;

    const TOKEN: &str = "0123456789abcdef0123456789abcdef";

    fn sample() -> String {
        text("127.0.0.1:0", "http://127.0.0.1:8000")
    }

    fn marked(policy: &str, path: &str, code: Code, event: Option<&str>, detail: &str) -> String {
        let line = source(policy, path, code, event, detail).unwrap().line.unwrap();
        policy.lines().nth(line - 1).unwrap().trim().to_owned()
    }

    #[test]
    fn the_policy_is_accepted() {
        assert!(wsguard::binding::compile(options(&sample(), TOKEN).unwrap()).is_ok());
    }

    #[test]
    fn tls_is_one_line_more() {
        let policy = with_tls(&sample(), "/c.pem", "/k.pem");
        assert_eq!(policy.lines().count(), sample().lines().count() + 1);
        assert!(options(&policy, TOKEN).unwrap().tls.is_some());
        assert_eq!(source(&policy, "/chat", Code::TlsFailed, None, "").unwrap().line, Some(2));
    }

    #[test]
    fn every_verdict_has_its_line() {
        let policy = sample();
        let marked = |code, event, detail: &str| marked(&policy, "/chat", code, event, detail);
        assert!(marked(Code::OriginDenied, None, "").starts_with("\"origins\""));
        assert!(marked(Code::SchemaMismatch, Some("say"), "data/text: type").starts_with("\"text\""));
        assert!(marked(Code::SchemaMismatch, Some("say"), "data: required").starts_with("\"say\""));
        assert!(marked(Code::UnknownEvent, Some("make_admin"), "").starts_with("\"events\""));
        assert!(marked(Code::EventDenied, Some("announce"), "").starts_with("\"announce\": {\"roles\""));
        assert!(marked(Code::BadEnvelope, None, "deeper than json_limits.max_depth").starts_with("\"json_limits\""));
        assert_eq!(source(&policy, "/chat", Code::BadFrame, None, ""), None);
    }

    #[test]
    fn what_a_route_states_is_marked_there() {
        let policy = sample();
        assert_eq!(marked(&policy, "/chat", Code::AuthFailed, None, ""), "\"auth\": \"callback\",");
        assert!(marked(&policy, "/moderator", Code::AuthFailed, None, "").starts_with("\"auth\": {\"tokens\""));
        assert_eq!(source(&policy, "/moderator", Code::AuthFailed, None, "").unwrap().option, "routes./moderator.auth");
        assert!(marked(&policy, "/moderator", Code::RateLimited, None, "").starts_with("\"rate_limit\""));
    }

    #[test]
    fn a_default_has_no_line() {
        let policy = r#"{"auth": "none", "origins": []}"#;
        let wanted = Source { option: "rate_limit".to_owned(), line: None };
        assert_eq!(source(policy, "/chat", Code::RateLimited, None, ""), Some(wanted));
    }

    #[test]
    fn a_member_is_found_however_the_text_is_laid_out() {
        let text = "{\"a\\\"}\": [\n{\"b\": \"c\\\\\"}], \"d\": {\n \"e\"\n: \"\\\"f\\\": {\"}, \"g\":1}";
        let path = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let wanted = [
            (path(&["a\"}"]), 1),
            (path(&["a\"}", "b"]), 2),
            (path(&["d"]), 2),
            (path(&["d", "e"]), 3),
            (path(&["g"]), 4),
        ];
        assert_eq!(places(text), wanted);
    }

    #[test]
    fn the_page_may_name_no_file_and_no_other_server() {
        assert!(edited(&sample(), TOKEN).is_ok());
        let refused = |policy: &str| edited(policy, TOKEN).unwrap_err().option;
        assert_eq!(refused(&with_tls(&sample(), "/c.pem", "/k.pem")), "tls");
        assert_eq!(refused(&with_tls(&sample(), "/c.pem", "/k.pem").replace("\"tls\"", r#""\u0074ls""#)), "tls");
        let jwt = r#"{"jwt": {"algorithms": ["RS256"], "jwks_url": "https://issuer.example/jwks.json"}}"#;
        assert_eq!(refused(&sample().replace("\"callback\"", jwt)), "auth.jwt");
        let mut on_a_route: Value = serde_json::from_str(&sample()).unwrap();
        on_a_route["routes"]["/moderator"]["auth"] = serde_json::from_str(jwt).unwrap();
        assert_eq!(refused(&on_a_route.to_string()), "routes./moderator.auth.jwt");
        // An event may have such names.
        assert!(edited(&sample().replace("\"announce\"", "\"tls\""), TOKEN).is_ok());
    }

    #[test]
    fn changes_name_the_option_and_both_values() {
        let after =
            sample().replace("\"per_second\": 10", "\"per_second\": 3").replace("  \"hosts\": [\"127.0.0.1\"],\n", "");
        let after = after.replacen('{', "{\"idle_timeout_ms\": 40000,", 1);
        let told = |option, before, after| json!({ "option": option, "before": before, "after": after });
        let wanted = [
            told("hosts", "[\"127.0.0.1\"]", "not stated"),
            told("rate_limit.per_second", "10", "3"),
            told("idle_timeout_ms", "not stated", "40000"),
        ];
        assert_eq!(changes(&sample(), &after), wanted);
        assert!(changes(&sample(), &sample()).is_empty());
        assert_eq!(edited(&sample().replace("4096", "\"x\""), TOKEN).unwrap_err().kind, ConfigErrorKind::InvalidOption);
    }
}
