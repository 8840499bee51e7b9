//! Whether what shows a credential reaches the server: of each place that the policy takes one from, a made-up value is sent.

use wsguard::binding::Policy;
use wsguard_proto::auth::{Authenticator, TokenSource, cookies};

use super::stand_in::Request;

/// What stands in each place: nobody's credential.
const MADE_UP: &str = "wsguard-doctor-no-credential";

/// The places to look at: headers and cookies. A query passes if the doctor's own does, and `subprotocol` is looked at by itself.
pub(super) fn places(policy: &Policy) -> Vec<TokenSource> {
    let is_sent = |source: &&TokenSource| !matches!(source, TokenSource::Subprotocol | TokenSource::Query(_));
    match &*policy.authenticator {
        Authenticator::None => Vec::new(),
        Authenticator::Tokens(_) | Authenticator::Jwt(_) => {
            policy.token_sources.iter().filter(is_sent).cloned().collect()
        }
        // The application looks where it likes: at what browsers and programs have, at any rate.
        Authenticator::Callback => {
            let mut places: Vec<TokenSource> = policy.token_sources.iter().filter(is_sent).cloned().collect();
            for usual in [TokenSource::Bearer, TokenSource::Cookie("wsguard-doctor".into())] {
                if !places.iter().any(|known| std::mem::discriminant(known) == std::mem::discriminant(&usual)) {
                    places.push(usual);
                }
            }
            places
        }
    }
}

/// The headers that show it there, all cookies in one.
pub(super) fn headers(places: &[TokenSource]) -> Vec<(String, String)> {
    let mut headers = Vec::new();
    let mut pairs = Vec::new();
    for place in places {
        match place {
            TokenSource::Bearer => headers.push(("Authorization".to_owned(), format!("Bearer {MADE_UP}"))),
            TokenSource::Header(name) => headers.push((name.clone(), MADE_UP.to_owned())),
            TokenSource::Cookie(name) => pairs.push(format!("{name}={MADE_UP}")),
            TokenSource::Subprotocol | TokenSource::Query(_) => {}
        }
    }
    if !pairs.is_empty() {
        headers.push(("Cookie".to_owned(), pairs.join("; ")));
    }
    headers
}

/// What is wrong with what came of it. The value that came may be a secret of the proxy's: it is not shown.
pub(super) fn faults(places: &[TokenSource], request: &Request) -> Vec<String> {
    places.iter().filter_map(|place| fault(place, request).map(|fault| format!("{place} {fault}"))).collect()
}

fn fault(place: &TokenSource, request: &Request) -> Option<&'static str> {
    let came: Vec<String> = match place {
        TokenSource::Bearer => values(request, "authorization", "Bearer "),
        TokenSource::Header(name) => values(request, name, ""),
        TokenSource::Cookie(name) => request
            .all("cookie")
            .flat_map(|line| cookies(line.as_bytes()))
            .filter(|(own, _)| own == name)
            .map(|(_, value)| value.to_owned())
            .collect(),
        TokenSource::Subprotocol | TokenSource::Query(_) => return None,
    };
    if came.is_empty() {
        return Some("does not come");
    }
    came.iter().any(|value| value != MADE_UP).then_some("comes with another value")
}

/// The values of a header behind what they begin with.
fn values(request: &Request, name: &str, before: &str) -> Vec<String> {
    request.all(name).map(|value| value.strip_prefix(before).unwrap_or(value).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use wsguard::binding::{Options, compile};

    use super::*;

    fn of(more: &Value) -> Vec<TokenSource> {
        let mut stated = json!({"origins": ["https://app.example"]});
        stated.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        places(&compile(Options::from_value(&stated).unwrap()).unwrap().top)
    }

    fn shown(places: &[TokenSource]) -> Vec<String> {
        places.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_the_policy_reads_is_sent() {
        let tokens = json!({"tokens": [{"token": "9f86d081884c7d659a2feaa0c55ad015", "user": "alice"}]});
        assert!(of(&json!({"auth": "none"})).is_empty());
        assert_eq!(shown(&of(&json!({"auth": tokens}))), ["bearer", "header:x-auth-token"]);
        let sources = json!(["cookie:a", "query:t", "subprotocol", "cookie:b"]);
        let places = of(&json!({"auth": tokens, "token_sources": sources}));
        assert_eq!(shown(&places), ["cookie:a", "cookie:b"]);
        assert_eq!(headers(&places), [("Cookie".to_owned(), format!("a={MADE_UP}; b={MADE_UP}"))]);
        let asked = of(&json!({"auth": "callback", "token_sources": ["cookie:sid"]}));
        assert_eq!(shown(&asked), ["cookie:sid", "bearer"]);
    }

    #[test]
    fn what_does_not_come_is_told_and_no_value_is() {
        let places = [TokenSource::Bearer, TokenSource::Header("x-key".into()), TokenSource::Cookie("sid".into())];
        let lower = |(name, value): (String, String)| (name.to_ascii_lowercase(), value);
        let all: Vec<_> = headers(&places).into_iter().map(lower).collect();
        assert!(faults(&places, &Request::new("/", all)).is_empty());
        let changed = [("authorization", "Basic c2VjcmV0"), ("cookie", "other=1; lb=2")];
        let changed = changed.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(
            faults(&places, &Request::new("/", changed.to_vec())),
            ["bearer comes with another value", "header:x-key does not come", "cookie:sid does not come"]
        );
    }
}
