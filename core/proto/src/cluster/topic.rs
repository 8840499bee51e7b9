//! Topics as channels of Redis: `wsguard:NAME:room:ROOM`, `…:user:USER`, `…:all`, `…:node:NODE`.

use std::sync::Arc;

use super::ops::{NodeId, Topic};

/// The longest name of a room or a user, in bytes.
pub(super) const MAX_NAME_BYTES: usize = 256;

impl Topic {
    /// The channel of this topic in the cluster `name`.
    pub fn channel(&self, name: &str) -> String {
        match self {
            Topic::All => format!("wsguard:{name}:all"),
            Topic::Room(room) => format!("wsguard:{name}:room:{room}"),
            Topic::User(user) => format!("wsguard:{name}:user:{user}"),
            Topic::Node(node) => format!("wsguard:{name}:node:{node}"),
        }
    }

    /// The topic of a channel; `None`: it is none of the cluster `name`.
    pub fn parse(name: &str, channel: &[u8]) -> Option<Self> {
        let rest = channel.strip_prefix(b"wsguard:")?.strip_prefix(name.as_bytes())?.strip_prefix(b":")?;
        if rest == b"all" {
            return Some(Topic::All);
        }
        let (kind, rest) = rest.split_at_checked(5)?;
        match kind {
            b"room:" => topic_name(rest).map(Topic::Room),
            b"user:" => topic_name(rest).map(Topic::User),
            b"node:" => node(rest).map(Topic::Node),
            _ => None,
        }
    }
}

/// The name of a room or a user, as bytes that anybody may have sent.
pub(super) fn topic_name(bytes: &[u8]) -> Option<Arc<str>> {
    let name = (1..=MAX_NAME_BYTES).contains(&bytes.len()).then(|| core::str::from_utf8(bytes).ok())??;
    Some(name.into())
}

fn node(hex: &[u8]) -> Option<NodeId> {
    let digits = core::str::from_utf8(hex).ok().filter(|hex| hex.len() == 32)?;
    if !digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    u128::from_str_radix(digits, 16).ok().map(|number| NodeId(number.to_be_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_channels_of_the_cluster_are_topics() {
        let parse = |channel: &str| Topic::parse("prod", channel.as_bytes());
        assert_eq!(parse("wsguard:prod:all"), Some(Topic::All));
        assert_eq!(parse("wsguard:prod:room:a:b"), Some(Topic::Room("a:b".into())));
        let node = NodeId(*b"0123456789abcdef");
        assert_eq!(Topic::parse("prod", Topic::Node(node).channel("prod").as_bytes()), Some(Topic::Node(node)));
        for none in [
            "",
            "wsguard:prod",
            "wsguard:prod:",
            "wsguard:prod:all2",
            "wsguard:prods:all",
            "wsguard:other:all",
            "wsguard:prod:room:",
            "wsguard:prod:user:",
            "wsguard:prod:node:00",
            "wsguard:prod:roo",
            "wsguard:prod:nodes:x",
            "wsguard:prod:node:+0112233445566778899aabbccddeeff",
            "wsguard:prod:node:00112233445566778899AABBCCDDEEFF",
        ] {
            assert_eq!(parse(none), None, "{none}");
        }
        assert_eq!(Topic::parse("prod", b"wsguard:prod:room:\xff"), None);
        assert_eq!(parse(&format!("wsguard:prod:room:{}", "x".repeat(257))), None);
    }

    proptest! {
        #[test]
        fn a_topic_is_found_again_by_its_channel(text in ".{1,60}", name in "[A-Za-z0-9._-]{1,64}", is_user: bool) {
            let topic = if is_user { Topic::User(text.into()) } else { Topic::Room(text.into()) };
            prop_assert_eq!(Topic::parse(&name, topic.channel(&name).as_bytes()), Some(topic));
        }

        #[test]
        fn no_bytes_panic(channel: Vec<u8>) {
            let whole = [b"wsguard:n:", &channel[..]].concat();
            prop_assert!(Topic::parse("n", &channel).is_none());
            let _ = Topic::parse("n", &whole);
        }
    }
}
