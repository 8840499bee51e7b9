use proptest::prelude::*;

use super::*;

fn answer(headers: &[&str]) -> Option<String> {
    negotiate(headers.iter().map(|header| header.as_bytes())).map(AcceptedOffer::answer)
}

const ANSWER: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

#[test]
fn offers_that_are_accepted() {
    for offer in [
        "permessage-deflate",
        "permessage-deflate; client_max_window_bits",
        "permessage-deflate;client_max_window_bits=8",
        "permessage-deflate ;\tclient_max_window_bits=\"15\" ",
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
        ", ,permessage-deflate,",
        "x-webkit-deflate-frame, permessage-deflate",
        "foo; bar=\"a, permessage-deflate; x=\\\"\", permessage-deflate",
        "permessage-deflate; server_max_window_bits=8, permessage-deflate",
        "permessage-deflate; unknown, permessage-deflate; client_max_window_bits=16, permessage-deflate",
    ] {
        assert_eq!(answer(&[offer]).as_deref(), Some(ANSWER), "{offer}");
    }
    assert_eq!(answer(&["foo", "bar, permessage-deflate"]).as_deref(), Some(ANSWER), "in the second header");
}

#[test]
fn a_window_is_answered_to_whoever_asks() {
    for bits in 9..=15 {
        for offer in [
            format!("server_max_window_bits={bits}"),
            format!("client_max_window_bits; server_max_window_bits=\"{bits}\""),
        ] {
            let accepted = negotiate([format!("permessage-deflate; {offer}").as_bytes()].into_iter()).unwrap();
            assert_eq!(accepted.agreed.server_window_bits, bits);
            assert_eq!(accepted.answer(), format!("{ANSWER}; server_max_window_bits={bits}"));
        }
    }
    let first = "permessage-deflate; server_max_window_bits=10, permessage-deflate; server_max_window_bits=12";
    assert_eq!(answer(&[first]).unwrap(), format!("{ANSWER}; server_max_window_bits=10"), "the client's favourite");
}

#[test]
fn offers_that_are_passed_over() {
    for offer in [
        "",
        "permessage-deflat",
        "Permessage-Deflate",
        "permessage-deflate;",
        "permessage-deflate; ;client_max_window_bits",
        "permessage-deflate=1",
        "permessage-deflate; unknown",
        "permessage-deflate; server_no_context_takeover=1",
        "permessage-deflate; client_no_context_takeover=\"\"",
        "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
        "permessage-deflate; client_max_window_bits; client_max_window_bits=10",
        "permessage-deflate; server_max_window_bits=10; server_max_window_bits=10",
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; server_max_window_bits=8",
        "permessage-deflate; server_max_window_bits=7",
        "permessage-deflate; server_max_window_bits=16",
        "permessage-deflate; server_max_window_bits=010",
        "permessage-deflate; server_max_window_bits=+9",
        "permessage-deflate; server_max_window_bits=9.",
        "permessage-deflate; server_max_window_bits = 9",
        "permessage-deflate; server_max_window_bits=\"9",
        "permessage-deflate; server_max_window_bits=\"9\\\"",
        "permessage-deflate; server_max_window_bits=\"9 \"",
        "permessage-deflate; server_max_window_bits=110",
        "permessage-deflate; client_max_window_bits=",
        "permessage-deflate; client_max_window_bits=16",
        "foo; x=\"permessage-deflate, permessage-deflate",
    ] {
        assert_eq!(answer(&[offer]), None, "{offer}");
    }
    assert_eq!(answer(&[&"x,".repeat(MAX_OFFERS), "permessage-deflate"]), None, "so many are not looked at");
}

proptest! {
    #[test]
    fn what_is_answered_was_asked_for(header in "(permessage-deflate|[a-z_=0-9\"\\\\;, ]|; ?|server_max_window_bits=|1[0-5]){0,12}") {
        if let Some(accepted) = negotiate([header.as_bytes()].into_iter()) {
            prop_assert!(header.contains("permessage-deflate"));
            prop_assert!((9..=15).contains(&accepted.agreed.server_window_bits));
            prop_assert!(accepted.agreed.server_window_bits == 15 || accepted.names_window);
            prop_assert!(!accepted.names_window || header.contains("server_max_window_bits"));
        }
    }
}
