//! Whether a secret looks like one that a machine drew, or like one that somebody typed.

/// How many letters of a secret are judged.
const ENOUGH: usize = 1024;

/// What is weak about a secret, in words; `None`: nothing that can be seen.
///
/// It judges the text, not how it came about: 16 random bytes in hexadecimal or base64 pass, words and patterns do not.
pub(crate) fn weakness(secret: &str) -> Option<&'static str> {
    // Whoever has this much that looks drawn needs no more; and looking for repetition takes the square of the length.
    let secret = secret.char_indices().nth(ENOUGH).map_or(secret, |(at, _)| &secret[..at]);
    let bytes = secret.as_bytes();
    if bytes.len() < 16 {
        return Some("is shorter than 16 bytes, and can be guessed");
    }
    if is_example(secret) && !has_drawn_part(secret) {
        return Some("is made of words that examples and lists of passwords have");
    }
    if repeats(bytes) {
        return Some("repeats itself");
    }
    if follows_a_sequence(bytes) {
        return Some("follows the alphabet, the digits or the keyboard");
    }
    (bits(bytes) < 36.0).then_some("has few different letters for its length")
}

/// Words that stand for "put a secret here", or head every list of passwords. A random text has one of eight letters by chance
/// once in 2^40; the shorter ones have to be most of it.
fn is_example(secret: &str) -> bool {
    let plain: String = secret.to_ascii_lowercase().chars().filter(char::is_ascii_alphanumeric).collect();
    let long = [
        "changeme",
        "password",
        "yoursecret",
        "mysecret",
        "supersecret",
        "example",
        "qwertyui",
        "letmein",
        "placeholder",
        "secretkey",
        "jwtsecret",
        "256bitsecret",
        "atleast256bits",
        "changethis",
        "replaceme",
        "inproduction",
        "donotuse",
        "ssw0rd",
        "todotodo",
        "hunter2",
        "yourtoken",
        "changeit",
        "replaceit",
        "beforedeploying",
        "beforegoing",
        "beforelaunch",
        "ultrasecure",
        "goeshere",
        "processenv",
        "osenviron",
        "randomtoken",
        "inserttoken",
        "generateatoken",
        // Tutorials of Spring, Flask, FastAPI and Express, which thousands have copied.
        "9a4f2c8d3b7a1e6f45c8a0b3f267d8b1d4e6f3c8a9d2b5f8e3a9c8b5f6v8a3d9",
        "5367566b59703373367639792f423f4528482b4d6251655468576d5a71347437",
        "3cfa76ef14937c1c0ea519f8fc057a80fcd04a7420f8e8bcd0a7567c272e007b",
        "inivdmhlpua223sqsfhqgbmrdrj1pvkh",
        "404e635266556a586e3272357538782f413f4428472b4b6250645367566b5970",
        "192b9bdd22ab9ed4d12e236c78afcb9a393ec15f71bbf5dc987d54727823bcbf",
        "09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7",
    ];
    let short = ["secret", "token", "test", "key", "admin", "demo", "dev", "jwt", "hmac", "my", "the", "super", "very"];
    if plain.is_empty() || is_to_be_filled_in(secret) || long.iter().any(|word| plain.contains(word)) {
        return true;
    }
    let rest = short.iter().fold(plain.clone(), |rest, word| rest.replace(word, ""));
    rest.len() * 2 <= plain.len()
}

/// Whether it names what should stand there: a variable, or a place for it.
fn is_to_be_filled_in(secret: &str) -> bool {
    let ends = |begin: &str, end: &str| secret.starts_with(begin) && secret.ends_with(end);
    let is_name =
        |text: &str| text.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_');
    let variable = secret.strip_prefix('$').or_else(|| secret.strip_prefix("env:"));
    ends("${", "}") || ends("{{", "}}") || ends("<", ">") || ends("%", "%") || variable.is_some_and(is_name)
}

/// Whether something stands in it that a machine may have drawn, behind a readable beginning for instance.
fn has_drawn_part(secret: &str) -> bool {
    const LEAST: usize = 22;
    let is_drawn = |part: &str| {
        let bytes = part.as_bytes();
        let is_word = !bytes.iter().any(u8::is_ascii_digit) || is_example(part);
        bytes.len() >= LEAST && !is_word && !repeats(bytes) && !follows_a_sequence(bytes)
    };
    secret.split(|letter: char| !letter.is_ascii_alphanumeric()).any(is_drawn)
}

/// Whether a beginning of at most half its length is all there is to it.
fn repeats(bytes: &[u8]) -> bool {
    (1..=bytes.len() / 2).any(|period| bytes.iter().zip(&bytes[period..]).all(|(one, next)| one == next))
}

/// Whether two thirds of the letters are what one would type next.
fn follows_a_sequence(bytes: &[u8]) -> bool {
    const ROWS: [&[u8]; 5] = [b"qwertyuiop", b"asdfghjkl", b"zxcvbnm", b"1234567890", b"9abcdef0"];
    let is_next = |pair: &[u8]| {
        let (one, two) = (pair[0].to_ascii_lowercase(), pair[1].to_ascii_lowercase());
        two == one
            || two == one.wrapping_add(1)
            || one == two.wrapping_add(1)
            || ROWS.iter().any(|row| row.windows(2).any(|next| next == [one, two]))
    };
    let next = bytes.windows(2).filter(|pair| is_next(pair)).count();
    next * 3 >= (bytes.len() - 1) * 2
}

/// Shannon's entropy of the letters, times their number: an upper bound that patterns do not lower.
fn bits(bytes: &[u8]) -> f64 {
    let mut counts = [0_u32; 256];
    for byte in bytes {
        counts[usize::from(*byte)] += 1;
    }
    let len = bytes.len() as f64;
    let of = |count: &u32| if *count == 0 { 0.0 } else { -(f64::from(*count) / len).log2() * f64::from(*count) };
    counts.iter().map(of).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_machine_drew_passes() {
        for good in [
            "9f86d081884c7d659a2feaa0c55ad015",
            "kX2/9sLpQ0vTz7Wb/3cYhJ4mNdRf8AeGuVo1iSxPqKw",
            "3q2+7wEjRWeJq83v",
            "correct horse battery staple and more",
            "d1f8c0a2-5b7e-4f39-9c64-0e8ab3d27f15",
            "secretkey:9f86d081884c7d659a2feaa0c55ad0159f86d081884c7d659a2feaa0c55ad016",
            "password:kX2z9sLpQ0vTz7WbW3cYhJ4mNdRf8A",
        ] {
            assert_eq!(weakness(good), None, "{good}");
        }
    }

    #[test]
    fn what_somebody_typed_does_not() {
        for (bad, word) in [
            ("", "shorter"),
            ("s3cret", "shorter"),
            ("change-me-change-me", "words"),
            ("my-super-secret-key", "words"),
            ("secret-token-test-key", "words"),
            ("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "repeats"),
            ("xk3fxk3fxk3fxk3fxk3f", "repeats"),
            ("0123456789abcdef0123456789abcdeg", "follows"),
            ("qwertyuiopasdfghjkl", "words"),
            ("a-string-secret-at-least-256-bits-long", "words"),
            ("your-256-bit-secret", "words"),
            ("<the token of alice here>", "words"),
            ("TODO-set-this-before-deploying-to-prod", "words"),
            ("changeit-changeit-changeit-1", "words"),
            ("$ALICE_WS_TOKEN_1", "words"),
            ("%WS_ALICE_PASS_1%", "words"),
            ("os.environ[\"WS_PASS\"]", "words"),
            ("${ALICE_WEBSOCKET_PASS}", "words"),
            ("my-32-character-ultra-secure-and-ultra-long", "words"),
            ("iNivDmHLpUA223sqsfhqGbMRdRj1PVkH", "words"),
            ("DO NOT USE THIS VALUE. INSTEAD, CREATE A COMPLEX SECRET", "words"),
            ("404E635266556A586E3272357538782F413F4428472B4B6250645367566B5970", "words"),
            ("please-change-this-key-in-production-ok", "words"),
            ("1234567890123456789x", "follows"),
            ("xxyyxyxyyxxyxyxyxxyyx", "follows"),
            ("kqkqvkvvqkqvvkqqkvvk", "few"),
        ] {
            assert!(weakness(bad).is_some_and(|why| why.contains(word)), "{bad}: {:?}", weakness(bad));
        }
    }

    #[test]
    fn a_secret_of_megabytes_takes_no_longer() {
        let began = std::time::Instant::now();
        let long = format!("{}b", "x".repeat(4 << 20));
        assert!(weakness(&long).is_some_and(|why| why.contains("repeats")), "{:?}", weakness(&long));
        assert!(began.elapsed() < std::time::Duration::from_secs(5), "{:?}", began.elapsed());
    }

    /// A false alarm on a real secret would teach people to ignore the command.
    #[test]
    #[expect(clippy::format_collect, reason = "a test")]
    fn random_secrets_are_hardly_ever_suspected() {
        use base64::Engine as _;
        let mut suspected = 0;
        for _ in 0..2000 {
            let mut bytes = [0; 16];
            aws_lc_rs::rand::fill(&mut bytes).unwrap();
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            let base64 = base64::engine::general_purpose::STANDARD.encode(bytes);
            // As generators of passwords draw them: lower case and digits, 16 of them.
            let letters: String =
                bytes.iter().map(|byte| b"abcdefghijklmnopqrstuvwxyz234567"[usize::from(byte % 32)] as char).collect();
            suspected += [hex, base64, letters].iter().filter(|text| weakness(text).is_some()).count();
        }
        assert_eq!(suspected, 0);
    }
}
