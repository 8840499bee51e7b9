//! Offers of permessage-deflate: the first that can be honoured is accepted, as a naive reader finds it, and no other.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wsguard_proto::deflate::negotiate;

/// Cuts at a separator that does not stand in a quoted string, letter by letter.
fn cut(text: &str, separator: char) -> Vec<String> {
    let (mut parts, mut quoted, mut escaped) = (vec![String::new()], false, false);
    for letter in text.chars() {
        if letter == separator && !quoted {
            parts.push(String::new());
            continue;
        }
        if escaped {
            escaped = false;
        } else if letter == '\\' && quoted {
            escaped = true;
        } else if letter == '"' {
            quoted = !quoted;
        }
        parts.last_mut().unwrap().push(letter);
    }
    parts.iter().map(|part| part.trim_matches([' ', '\t', '\n', '\r', '\x0c']).to_owned()).collect()
}

/// Every way to write a window.
fn window(value: &str) -> Option<u8> {
    let unquoted = match value.strip_prefix('"') {
        Some(rest) => {
            let (mut text, mut letters) = (String::new(), rest.strip_suffix('"')?.chars());
            while let Some(letter) = letters.next() {
                text.push(if letter == '\\' { letters.next()? } else { letter });
            }
            text
        }
        None => value.to_owned(),
    };
    (8..=15).find(|bits: &u8| bits.to_string() == unquoted)
}

/// The window that is answered, if the offer can be honoured.
fn naive(offer: &str) -> Option<Option<u8>> {
    let parts = cut(offer, ';');
    if parts[0] != "permessage-deflate" {
        return None;
    }
    let (mut names, mut answered) = (Vec::new(), None);
    for part in &parts[1..] {
        let (name, value) = part.split_once('=').map_or((&part[..], None), |(name, value)| (name, Some(value)));
        if names.contains(&name) {
            return None;
        }
        names.push(name);
        match (name, value) {
            ("server_no_context_takeover" | "client_no_context_takeover" | "client_max_window_bits", None) => {}
            ("client_max_window_bits", Some(value)) => drop(window(value)?),
            ("server_max_window_bits", Some(value)) => answered = Some(window(value).filter(|bits| *bits > 8)?),
            _ => return None,
        }
    }
    Some(answered)
}

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else {
        let _ = negotiate([input].into_iter());
        return;
    };
    if !text.is_ascii() || text.len() > 120 {
        return;
    }
    let headers: Vec<&str> = text.split('\n').collect();
    let expected = headers.iter().flat_map(|header| cut(header, ',')).find_map(|offer| naive(&offer));
    let accepted = negotiate(headers.iter().map(|header| header.as_bytes()));
    assert_eq!(accepted.is_some(), expected.is_some(), "{text:?}");
    let (Some(accepted), Some(window)) = (accepted, expected) else { return };
    assert_eq!(accepted.agreed.server_window_bits, window.unwrap_or(15));
    let answer = accepted.answer();
    assert_eq!(naive(&answer), Some(window), "{answer}");
    assert_eq!(negotiate([answer.as_bytes()].into_iter()), Some(accepted));
});
