//! The query part of a request target: its parameters, and their redaction before anything is logged.

use std::borrow::Cow;

use super::tokens::hex_value;

/// Parameters that carry a credential by custom, so that they are redacted whether or not they are configured.
const ALWAYS_REDACTED: [&str; 7] = ["access_token", "token", "auth", "jwt", "api_key", "password", "secret"];

/// What stands in place of a redacted value.
const REDACTED: &str = "[redacted]";

/// The raw values of the parameter `name`, in order; empty for a parameter without `=`.
///
/// Names are compared after percent-decoding, as every framework behind us would: `%74oken` is `token`.
pub(super) fn values<'q>(query: &'q str, name: &str) -> impl Iterator<Item = &'q str> {
    query.split('&').filter_map(move |pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (percent_decode(key)? == name).then_some(value)
    })
}

/// `text` with its percent-encoding undone; `None` when it is malformed or not UTF-8 behind it. `+` stays `+`.
pub(super) fn percent_decode(text: &str) -> Option<Cow<'_, str>> {
    let Some(first) = text.find('%') else {
        return Some(Cow::Borrowed(text));
    };
    let (plain, mut rest) = text.as_bytes().split_at(first);
    let mut decoded = Vec::with_capacity(text.len());
    decoded.extend_from_slice(plain);
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte == b'%' {
            let (&[high, low], tail) = rest.split_first_chunk()?;
            decoded.push(hex_value(high)? << 4 | hex_value(low)?);
            rest = tail;
        } else {
            decoded.push(byte);
        }
    }
    String::from_utf8(decoded).ok().map(Cow::Owned)
}

/// `query` with the value of every parameter in `names`, and of those that carry a credential by custom, replaced.
///
/// Names are compared without regard to case: redacting too much costs less than too little.
pub(super) fn redact<'q>(query: &'q str, names: &[&str]) -> Cow<'q, str> {
    let secret = |pair: &str| {
        pair.split_once('=')
            .and_then(|(key, _)| percent_decode(key))
            .is_some_and(|key| ALWAYS_REDACTED.iter().chain(names).any(|name| key.eq_ignore_ascii_case(name)))
    };
    if !query.split('&').any(secret) {
        return Cow::Borrowed(query);
    }
    let mut shown = String::with_capacity(query.len());
    for (index, pair) in query.split('&').enumerate() {
        if index > 0 {
            shown.push('&');
        }
        match pair.split_once('=') {
            Some((key, _)) if secret(pair) => shown.extend([key, "=", REDACTED]),
            _ => shown.push_str(pair),
        }
    }
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_decoding_is_strict_and_leaves_plus_alone() {
        for (text, decoded) in [
            ("", Some("")),
            ("a+b", Some("a+b")),
            ("a%2Bb", Some("a+b")),
            ("%61%62", Some("ab")),
            ("%c3%A9", Some("é")),
            ("%25", Some("%")),
            ("%2525", Some("%25")),
            ("%", None),
            ("a%2", None),
            ("%zz", None),
            ("%+1", None),
            ("%ff", None),
            ("é%", None),
        ] {
            assert_eq!(percent_decode(text).as_deref(), decoded, "{text}");
        }
    }

    #[test]
    fn values_are_found_by_decoded_name() {
        let found = |query, name| values(query, name).collect::<Vec<_>>();
        assert_eq!(found("a=1&b=2&a=3", "a"), ["1", "3"]);
        assert_eq!(found("%61=1&a", "a"), ["1", ""]);
        assert_eq!(found("A=1&aa=2&%zz=3&=4", "a"), [""; 0]);
        assert_eq!(found("a=b=c", "a"), ["b=c"]);
        assert_eq!(found("", "a"), [""; 0]);
    }

    #[test]
    fn secrets_are_redacted_and_the_rest_kept() {
        for (query, shown) in [
            ("", ""),
            ("room=1&x", "room=1&x"),
            ("token=abc", "token=[redacted]"),
            ("a=1&token=abc&b=2", "a=1&token=[redacted]&b=2"),
            ("token=a&token=b=c", "token=[redacted]&token=[redacted]"),
            ("%74oken=abc", "%74oken=[redacted]"),
            ("ToKeN=abc", "ToKeN=[redacted]"),
            ("ticket=abc", "ticket=[redacted]"),
            ("&&access_token=a&&", "&&access_token=[redacted]&&"),
            (
                "auth=1&jwt=2&api_key=3&password=4&secret=5",
                "auth=[redacted]&jwt=[redacted]&api_key=[redacted]&password=[redacted]&secret=[redacted]",
            ),
            ("tokens=1&mytoken=2", "tokens=1&mytoken=2"),
            ("token", "token"),
            ("token=", "token=[redacted]"),
            ("token=%zz", "token=[redacted]"),
        ] {
            assert_eq!(redact(query, &["ticket"]), shown, "{query}");
        }
        assert!(matches!(redact("room=1", &[]), Cow::Borrowed(_)));
    }
}
