//! What is weak about a policy that starts: decided by the policy and [`Facts`], without a look at the machine.

use serde_json::{Map, Value};

use super::credentials;
use super::facts::Facts;
use super::finding::{Finding, Severity, warn};
use super::machine;
use super::scope::Scope;
use crate::reach::{host_of, is_this_machine};
use Severity::{High, Low, Medium};

/// Everything that is weak, what matters most first.
pub(crate) fn of(stated: &Map<String, Value>, facts: &Facts) -> Vec<Finding> {
    let scopes = Scope::served(stated);
    let mut found = Vec::new();
    for scope in &scopes {
        origins(scope, &mut found);
        hosts(scope, &mut found);
        credentials::findings(scope, facts, &mut found);
        reporting(scope, &mut found);
        rates(scope, &mut found);
        sizes(scope, &mut found);
        times(scope, &mut found);
        contract(scope, &mut found);
    }
    machine::findings(&Scope::top(stated), facts, &mut found);
    if let Some(certificate) = &facts.certificate {
        for scope in &scopes {
            machine::names(scope, certificate, &mut found);
        }
    }
    found.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    // What several routes have from the top is said once.
    let mut said = std::collections::HashSet::new();
    found.retain(|finding| said.insert((finding.id, finding.option.clone())));
    found
}

/// Whether a browser sends a credential by itself: then `Origin` is all that stands between a foreign page and the visitor.
fn has_ambient_credential(scope: &Scope<'_>) -> bool {
    let by_cookie = |source: &String| source.starts_with("cookie:");
    let auth = scope.value("auth");
    auth == "callback" || scope.list("token_sources").unwrap_or_default().iter().any(by_cookie)
}

fn is_open(scope: &Scope<'_>) -> bool {
    scope.value("auth") == "none"
}

/// Whether this is the place to speak of an option that is worse here than at the top, by what is stated beside it.
fn speaks_of_worse(scope: &Scope<'_>, name: &str, is_worse: impl Fn(&Scope<'_>) -> bool) -> bool {
    scope.speaks_of(name) || (is_worse(scope) && scope.above().is_some_and(|top| !is_worse(&top)))
}

fn origins(scope: &Scope<'_>, found: &mut Vec<Finding>) {
    let acts_as_visitor = |scope: &Scope<'_>| has_ambient_credential(scope) || is_open(scope);
    if speaks_of_worse(scope, "dangerously_allow_any_origin", acts_as_visitor)
        && scope.flag("dangerously_allow_any_origin")
    {
        let severity = if acts_as_visitor(scope) { High } else { Medium };
        warn(
            found,
            severity,
            "any_origin",
            scope.path("dangerously_allow_any_origin"),
            "any page on the web may connect from the browser of its visitor",
            "list the origins of your pages in `origins`",
        );
    }
    if scope.speaks_of("origins") {
        for (index, origin) in scope.list("origins").unwrap_or_default().iter().enumerate() {
            if let Some((severity, id, what, instead)) = weak_origin(origin) {
                warn(found, severity, id, scope.path(&format!("origins[{index}]")), what, instead);
            }
        }
    }
    if speaks_of_worse(scope, "missing_origin", is_open) && scope.value("missing_origin") == "allow" {
        warn(
            found,
            if is_open(scope) { Medium } else { Low },
            "missing_origin",
            scope.path("missing_origin"),
            "clients without `Origin` are let in: whoever is no browser passes without that check",
            "leave it at \"deny\", or give programs a route of their own with credentials",
        );
    }
}

type WeakOrigin = (Severity, &'static str, String, &'static str);

fn weak_origin(origin: &str) -> Option<WeakOrigin> {
    if origin == "null" {
        let what =
            "\"null\" is the origin of every sandboxed frame and of every local file, whoever wrote it".to_owned();
        return Some((High, "null_origin", what, "serve the page from an origin of its own, and list that"));
    }
    let (scheme, rest) = origin.split_once("://")?;
    if rest.starts_with("*.") {
        let what = format!("every subdomain may connect: one that somebody else controls is enough ({origin})");
        return Some((Medium, "wildcard_origin", what, "list the hosts that have pages of yours"));
    }
    if rest == "*" {
        let what = format!("every extension of the visitor's browser, or every such program, may connect ({origin})");
        return Some((
            Medium,
            "wildcard_origin",
            what,
            "list the one that is yours, where its origin is the same everywhere",
        ));
    }
    let host = host_of(rest).to_ascii_lowercase();
    if is_this_machine(&host) || host.ends_with(".localhost") {
        let what = format!("a page of a program on the visitor's own machine may connect ({origin})");
        return Some((Low, "local_origin", what, "leave it out of the policy that goes live"));
    }
    scheme.eq_ignore_ascii_case("http").then(|| {
        let what = format!("{origin} is not https: who is on the visitor's network can write that page");
        (Medium, "http_origin", what, "serve the page by https, and list that origin")
    })
}

fn hosts(scope: &Scope<'_>, found: &mut Vec<Finding>) {
    if !speaks_of_worse(scope, "hosts", is_open) || scope.list("hosts").is_some() {
        return;
    }
    warn(
        found,
        if is_open(scope) { Medium } else { Low },
        "any_host",
        scope.path("hosts"),
        "any `Host` is served: a foreign page whose name leads here (DNS rebinding) is held off by `origins` alone",
        "list the names that your server is reached by, e.g. \"hosts\": [\"app.example.com\"]",
    );
}

fn reporting(scope: &Scope<'_>, found: &mut Vec<Finding>) {
    if scope.speaks_of("on_violation") && scope.value("on_violation") == "report" {
        warn(
            found,
            Medium,
            "report_only",
            scope.path("on_violation"),
            "rates and the contract of messages are only reported: nothing is held off",
            "set \"enforce\" when the log shows nothing that you want to let through",
        );
    }
    if scope.speaks_of("report_handshakes") && scope.flag("report_handshakes") {
        warn(
            found,
            High,
            "report_handshakes",
            scope.path("report_handshakes"),
            "a wrong `Origin`, `Host` or credential is only reported: everybody is let in",
            "set false when the log shows nobody that you want to let in",
        );
    }
}

fn rates(scope: &Scope<'_>, found: &mut Vec<Finding>) {
    let rules = [
        ("rate_limit", "no_rate_limit", Medium, "messages have no rate: one client can keep the application busy"),
        ("control_rate_limit", "no_control_rate_limit", Low, "pings and pongs have no rate"),
        (
            "handshakes_per_ip",
            "no_handshake_rate",
            Medium,
            "handshakes have no rate: credentials can be tried at full speed",
        ),
    ];
    for (name, id, severity, what) in rules {
        if scope.speaks_of(name) && scope.value(name).is_null() {
            warn(found, severity, id, scope.path(name), what, "leave it out: the default is a rate");
        }
    }
    let limit = scope.value("rate_limit");
    if scope.speaks_of("rate_limit") && limit.get("bytes_per_second").is_some_and(Value::is_null) {
        let what = "bytes have no rate: each message may be of the largest size";
        let option = scope.path("rate_limit.bytes_per_second");
        warn(found, Low, "no_byte_rate", option, what, "leave it out: the default is 262144");
    }
    if scope.speaks_of("rate_limit")
        && limit.get("per_second").and_then(Value::as_f64).is_some_and(|rate| rate > 10_000.0)
    {
        let what = "the rate is more than one client can mean";
        warn(
            found,
            Low,
            "huge_rate",
            scope.path("rate_limit.per_second"),
            what,
            "state what an honest client sends, doubled",
        );
    }
}

/// A message of a chat or a game is far smaller; files go by HTTP. In bytes.
const LARGE_MESSAGE: u64 = 16 * 1024 * 1024;
/// What one client that does not read may cost. In bytes.
const LARGE_OUTBOX: u64 = 64 * 1024 * 1024;

fn sizes(scope: &Scope<'_>, found: &mut Vec<Finding>) {
    let rules = [
        (
            "max_message_bytes",
            "huge_messages",
            LARGE_MESSAGE,
            "one message may take that much memory, for each connection at once",
        ),
        ("max_outbox_bytes", "huge_outbox", LARGE_OUTBOX, "one client that does not read may take that much memory"),
    ];
    for (name, id, most, what) in rules {
        let value = scope.number(name);
        if scope.states(name) && value > most {
            warn(found, Medium, id, scope.path(name), format!("{value} bytes: {what}"), format!("at most {most}"));
        }
    }
    let (per_ip, all) = (scope.number("max_connections_per_ip"), scope.number("max_connections"));
    if (scope.states("max_connections_per_ip") || scope.states("max_connections")) && per_ip >= all {
        let what = format!("one address may take every connection of the server ({per_ip})");
        let instead = "state a small part of `max_connections`";
        warn(found, Medium, "address_takes_all", scope.path("max_connections_per_ip"), what, instead);
    }
}

fn times(scope: &Scope<'_>, found: &mut Vec<Finding>) {
    if scope.speaks_of("idle_timeout_ms") && scope.number("idle_timeout_ms") == 0 {
        let what = "a peer that is gone without a word keeps its place for ever";
        warn(
            found,
            Medium,
            "no_idle_timeout",
            scope.path("idle_timeout_ms"),
            what,
            "leave it out: the default is 45000",
        );
    }
    if scope.states("handshake_timeout_ms") && scope.number("handshake_timeout_ms") > 60_000 {
        let what = "who never ends a handshake keeps its place for more than a minute";
        warn(found, Medium, "slow_handshakes", scope.path("handshake_timeout_ms"), what, "at most 60000");
    }
}

fn contract(scope: &Scope<'_>, found: &mut Vec<Finding>) {
    if scope.value("protocol") == "raw" {
        return;
    }
    let events = scope.value("events");
    let events = events.as_object();
    let is_here = scope.speaks_of("events") && (scope.route.is_some() || !routes_state(scope, "events"));
    if is_here && events.is_none_or(Map::is_empty) {
        let what = "no event is stated: every message of a client closes its connection";
        warn(
            found,
            Low,
            "no_events",
            scope.path("events"),
            what,
            "state the events that clients send, each with a schema",
        );
    }
    if scope.speaks_of("events") {
        for (name, event) in events.into_iter().flatten() {
            if event.get("schema").is_none_or(takes_anything) {
                let what = format!(
                    "any data passes: the application has to look at what {} brings",
                    crate::terminal::harmless(name, 64)
                );
                let option = scope.path(&format!("events.{}", crate::terminal::harmless(name, 64)));
                warn(
                    found,
                    Low,
                    "no_schema",
                    option,
                    what,
                    "state a JSON Schema; additionalProperties: false keeps the unknown out",
                );
            }
        }
    }
}

/// Whether a schema says nothing.
fn takes_anything(schema: &Value) -> bool {
    schema.is_null() || *schema == true || schema.as_object().is_some_and(Map::is_empty)
}

fn routes_state(scope: &Scope<'_>, name: &str) -> bool {
    let routes = scope.value("routes");
    routes
        .as_object()
        .into_iter()
        .flatten()
        .any(|(_, route)| route.get(name).is_some() || route.get("protocol").is_some())
}

#[cfg(test)]
#[path = "warnings_tests.rs"]
mod tests;
