//! Request paths as the policy names them: exact ones, and patterns such as `/room/{name}`.
//!
//! A parameter stands for one whole segment that is not empty. Of several patterns that match, the one counts that has a literal
//! segment where the other has a parameter, from the left; an exact path counts before any pattern.
//!
//! Literal text is compared as it was sent, parameters are told decoded. So that nobody reaches a wider pattern by another
//! spelling (`/room/%73taff` where `/room/staff` has rules of its own, and `/room/{name}` would say `staff`), a path that some
//! router takes for one that counts before the pattern leads nowhere: routers decode, many do not heed case or a slash at the end
//! (Express), some end a path at `;` (find-my-way, for Fastify), and URL parsers take `\` for `/`, as browsers do.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// The parameters of a path, percent-decoded, in its order.
pub type Params = Box<[(Arc<str>, String)]>;

/// The longest name of a parameter, in bytes.
const MAX_NAME: usize = 64;

#[derive(Debug, PartialEq, Eq)]
enum Segment {
    Literal(Box<str>),
    Parameter(Arc<str>),
}

#[derive(Debug)]
struct Pattern(Box<[Segment]>);

impl Pattern {
    /// Reads a path with parameters; `None`: it has none.
    fn parse(path: &str) -> Result<Option<Self>, &'static str> {
        let mut names: Vec<&str> = Vec::new();
        let mut segments = Vec::new();
        for segment in self::segments(path) {
            if !segment.contains(['{', '}']) {
                segments.push(Segment::Literal(segment.into()));
                continue;
            }
            let name = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
            let name = name.filter(|name| is_name(name)).ok_or(
                "has a brace that is no parameter: a parameter is a whole segment, such as {name}, of letters, digits and _",
            )?;
            if names.contains(&name) {
                return Err("has two parameters of the same name");
            }
            names.push(name);
            segments.push(Segment::Parameter(name.into()));
        }
        Ok((!names.is_empty()).then(|| Self(segments.into())))
    }

    /// Whether the segments of a path fit; literal text is compared by `same`.
    fn fits(&self, parts: &[&str], same: impl Fn(&str, &str) -> bool) -> bool {
        let fits = |(segment, part): (&Segment, &&str)| match segment {
            Segment::Literal(text) => same(text, part),
            Segment::Parameter(_) => !part.is_empty(),
        };
        parts.len() == self.0.len() && self.0.iter().zip(parts).all(fits)
    }

    /// The parameters of a path that fits. `None`: one stands for nothing that a parameter may be.
    fn params(&self, parts: &[&str]) -> Option<Params> {
        let parameters = self.0.iter().zip(parts).filter_map(|(segment, part)| match segment {
            Segment::Literal(_) => None,
            Segment::Parameter(name) => Some(decode(part).map(|value| (Arc::clone(name), value))),
        });
        parameters.collect()
    }

    /// Whether each segment is a parameter: patterns are looked at in this order, literal segments first.
    fn order(&self) -> impl Iterator<Item = bool> {
        self.0.iter().map(|segment| matches!(segment, Segment::Parameter(_)))
    }

    /// The same with its literal text as it is meant, and without a slash at the end.
    fn meant(&self) -> Self {
        let empty = Segment::Literal(Box::default());
        let len = self.0.iter().rposition(|segment| *segment != empty).map_or(0, |last| last + 1);
        let meant = self.0[..len].iter().map(|segment| match segment {
            Segment::Literal(text) => Segment::Literal(meaning(text).into()),
            Segment::Parameter(name) => Segment::Parameter(Arc::clone(name)),
        });
        Self(meant.collect())
    }

    /// Whether both match exactly the same paths.
    fn is_as_wide_as(&self, other: &Self) -> bool {
        let same = |(own, others): (&Segment, &Segment)| match (own, others) {
            (Segment::Parameter(_), Segment::Parameter(_)) => true,
            (own, others) => own == others,
        };
        self.0.len() == other.0.len() && self.0.iter().zip(&other.0).all(same)
    }
}

fn is_name(name: &str) -> bool {
    let letters = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    (1..=MAX_NAME).contains(&name.len())
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && name.bytes().all(letters)
}

/// The text that a segment stands for. `None`: it is no text, or one that a parameter must not be: `.` and `..`, which an
/// application may take for places among files, and control characters. Nor is it if it holds `\` as it is, which no URL does
/// (RFC 3986 section 3.3): what parses one reads it as `/`, and then resolves `a\..\admin`.
fn decode(segment: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.bytes();
    while let Some(byte) = rest.next() {
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16).map(|value| value as u8);
        bytes.push(match byte {
            b'%' => digit(rest.next())? << 4 | digit(rest.next())?,
            b'\\' => return None,
            byte => byte,
        });
    }
    let text = String::from_utf8(bytes).ok()?;
    (!matches!(text.as_str(), "." | "..") && !text.chars().any(char::is_control)).then_some(text)
}

/// The segments of a path.
fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.strip_prefix('/').unwrap_or(path).split('/')
}

/// What a segment is, however it is spelled, to a router that does not heed case.
fn meaning(segment: &str) -> Cow<'_, str> {
    let decoded = match segment.contains('%').then(|| decode(segment)).flatten() {
        Some(text) => Cow::Owned(text),
        None => Cow::Borrowed(segment),
    };
    // Also where a letter outside ASCII has a small one within it: the Kelvin sign is a `k`.
    let is_small = decoded.is_ascii() && !decoded.bytes().any(|byte| byte.is_ascii_uppercase());
    if is_small { decoded } else { decoded.to_lowercase().into() }
}

/// What a path is, however it is spelled. No decoded segment has a control character: this is one path alone.
fn meaning_of(path: &str) -> Box<str> {
    let meanings: Vec<Cow<'_, str>> = segments(path.trim_end_matches('/')).map(meaning).collect();
    meanings.join("\n").into()
}

/// Whether nobody reads a path otherwise than as it is spelled.
fn is_plain(path: &str) -> bool {
    !path.ends_with('/') && !path.bytes().any(|byte| byte.is_ascii_uppercase() || matches!(byte, b'%' | b';'))
}

/// What each path leads to.
#[derive(Debug)]
pub(super) struct PathTable<T> {
    exact: HashMap<Box<str>, T>,
    /// What the exact paths are, however they are spelled.
    exact_meanings: HashSet<Box<str>>,
    /// The most segments that a pattern has.
    longest: usize,
    /// Some path here could be spelled otherwise than it is.
    has_spellings: bool,
    /// In the order in which they are tried.
    patterns: Vec<(Pattern, Box<str>, T)>,
    /// The same as they are meant.
    meant: Vec<Pattern>,
}

impl<T> Default for PathTable<T> {
    fn default() -> Self {
        Self {
            exact: HashMap::new(),
            exact_meanings: HashSet::new(),
            longest: 0,
            has_spellings: false,
            patterns: Vec::new(),
            meant: Vec::new(),
        }
    }
}

impl<T> PathTable<T> {
    /// Adds a path, unless it is there already.
    ///
    /// # Errors
    /// Says what is wrong with the path.
    pub(super) fn add(&mut self, path: &str, value: T) -> Result<(), String> {
        check_path(path)?;
        let Some(pattern) = Pattern::parse(path)? else {
            self.exact.entry(path.into()).or_insert(value);
            self.exact_meanings.insert(meaning_of(path));
            self.has_spellings |= !is_plain(path);
            return Ok(());
        };
        match self.patterns.iter().find(|(other, ..)| other.is_as_wide_as(&pattern)) {
            Some((_, same, _)) if **same == *path => return Ok(()),
            Some((_, other, _)) => return Err(format!("matches the same paths as {other}")),
            None => {}
        }
        let at = self.patterns.partition_point(|(other, ..)| other.order().lt(pattern.order()));
        self.longest = self.longest.max(pattern.0.len());
        self.has_spellings |=
            pattern.0.iter().any(|segment| matches!(segment, Segment::Literal(text) if !is_plain(text)))
                || path.ends_with('/');
        self.meant.insert(at, pattern.meant());
        self.patterns.insert(at, (pattern, path.into(), value));
        Ok(())
    }

    /// Whether no path is named.
    pub(super) fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.patterns.is_empty()
    }

    /// What all paths lead to.
    pub(super) fn values(&self) -> impl Iterator<Item = &T> {
        self.exact.values().chain(self.patterns.iter().map(|(_, _, value)| value))
    }

    /// What `path` leads to, and its parameters.
    pub(super) fn find(&self, path: &str) -> Option<(&T, Params)> {
        if let Some(value) = self.exact.get(path) {
            return Some((value, Params::default()));
        }
        let parts: Vec<&str> = segments(path).take(self.longest + 1).collect();
        let as_sent = |text: &str, part: &str| text == part;
        let at = self.patterns.iter().position(|(pattern, ..)| pattern.fits(&parts, as_sent))?;
        if (self.has_spellings || !is_plain(path)) && self.leads_elsewhere(path, at) {
            return None;
        }
        let (pattern, _, value) = &self.patterns[at];
        Some((value, pattern.params(&parts)?))
    }

    /// Whether some router takes a path that fits a pattern for one of another.
    fn leads_elsewhere(&self, path: &str, at: usize) -> bool {
        let before_semicolon = path.split_once(';').map(|(before, _)| before);
        [Some(path), before_semicolon].into_iter().flatten().any(|read| {
            let read = read.trim_end_matches('/');
            let meanings: Vec<Cow<'_, str>> = segments(read).take(self.longest + 1).map(meaning).collect();
            let meant: Vec<&str> = meanings.iter().map(|part| &**part).collect();
            let same = |text: &str, part: &str| text == part;
            let first = self.meant.iter().find(|pattern| pattern.fits(&meant, same));
            self.exact_meanings.contains(&meaning_of(read))
                || first.is_some_and(|pattern| !pattern.is_as_wide_as(&self.meant[at]))
        })
    }
}

fn check_path(path: &str) -> Result<(), &'static str> {
    let plain = path.starts_with('/') && path.bytes().all(|b| b.is_ascii_graphic() && b != b'?' && b != b'#');
    if !plain {
        return Err(
            "must start with / and hold no query, fragment or space, and other letters than ASCII as in a URL (%d0%b0)",
        );
    }
    if path.split('/').any(|segment| matches!(segment, "." | "..")) {
        return Err("holds `.` or `..`, which browsers resolve before they send a path: it would match nothing");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn table(paths: &[&str]) -> PathTable<String> {
        let mut table = PathTable::default();
        for path in paths {
            table.add(path, (*path).to_owned()).unwrap();
        }
        table
    }

    fn found(table: &PathTable<String>, path: &str) -> String {
        table.find(path).map_or_else(String::new, |(pattern, params)| {
            let params: Vec<String> = params.iter().map(|(name, value)| format!(" {name}={value}")).collect();
            pattern.clone() + &params.concat()
        })
    }

    #[test]
    fn the_more_literal_pattern_counts() {
        let paths = ["/{a}/{b}", "/room/{name}", "/room/lobby", "/{x}/lobby", "/room/{name}/{tail}", "/{all}"];
        for order in
            [&paths[..], &["/{x}/lobby", "/room/lobby", "/{a}/{b}", "/{all}", "/room/{name}/{tail}", "/room/{name}"]]
        {
            let table = table(order);
            for (path, expected) in [
                ("/room/lobby", "/room/lobby"),
                ("/room/1", "/room/{name} name=1"),
                ("/house/lobby", "/{x}/lobby x=house"),
                ("/house/1", "/{a}/{b} a=house b=1"),
                ("/house", "/{all} all=house"),
                ("/room/1/2", "/room/{name}/{tail} name=1 tail=2"),
                ("/room/", ""),
                ("/", ""),
                ("//", ""),
                ("/room//2", ""),
                ("/room/1/2/3", ""),
                ("/Rooms/1", "/{a}/{b} a=Rooms b=1"),
            ] {
                assert_eq!(found(&table, path), expected, "{path}");
            }
        }
    }

    #[test]
    fn parameters_are_decoded_and_harmless() {
        let table = table(&["/r/{name}"]);
        for (path, expected) in [
            ("/r/%D0%B0b", "/r/{name} name=аb"),
            ("/r/a%2fb", "/r/{name} name=a/b"),
            ("/r/a%20b+c", "/r/{name} name=a b+c"),
            ("/r/%2525", "/r/{name} name=%25"),
            ("/r/%", ""),
            ("/r/%4", ""),
            ("/r/%zz", ""),
            ("/r/%ff", ""),
            ("/r/%00", ""),
            ("/r/a%0d%0ab", ""),
            ("/r/..", ""),
            ("/r/%2e%2E", ""),
            ("/r/a\\..\\b", ""),
            ("/r/\\", ""),
            ("/r/%5c", "/r/{name} name=\\"),
            ("/r/.", ""),
            ("/r/...", "/r/{name} name=..."),
        ] {
            assert_eq!(found(&table, path), expected, "{path}");
        }
    }

    #[test]
    fn another_spelling_reaches_no_wider_pattern() {
        let table = table(&[
            "/admin",
            "/{name}",
            "/room/staff",
            "/room/{name}",
            "/{a}/{b}",
            "/{a}/caf%c3%a9",
            "/r/a%2fb",
            "/r/{x}",
        ]);
        for path in [
            "/%61dmin",
            "/adm%69n",
            "/%61%64%6D%69%6e",
            "/room/%73taff",
            "/%72oom/staff",
            // Decoded they are what `/room/{name}` is for, which has no such literal text.
            "/%72oom/7",
            "/x/caf%C3%A9",
            "/%72/a%2Fb",
            "/r/a%2Fb",
            "/r/%61%2fb",
        ] {
            assert_eq!(found(&table, path), "", "{path}");
        }
        for (path, expected) in [
            ("/admin", "/admin"),
            ("/%2561dmin", "/{name} name=%61dmin"),
            ("/adm%2fin", "/{name} name=adm/in"),
            ("/%41dmins", "/{name} name=Admins"),
            ("/room/%73taf", "/room/{name} name=staf"),
            ("/room/st%61ff%20", "/room/{name} name=staff "),
            ("/x/caf%c3%a9", "/{a}/caf%c3%a9 a=x"),
            ("/r/a%2fb", "/r/a%2fb"),
            ("/room%2fstaff", "/{name} name=room/staff"),
            ("/%zz/%73", ""),
        ] {
            assert_eq!(found(&table, path), expected, "{path}");
        }
    }

    /// As Express, Fastify and Nest read paths, whose routes would be reached by the rules of others.
    #[test]
    fn letters_are_small_in_every_alphabet() {
        let table = table(&["/{one}", "/work", "/caf%c3%a9"]);
        for path in ["/wor%E2%84%AA", "/caf%C3%89", "/CAF%c3%89", "/WORK"] {
            assert_eq!(found(&table, path), "", "{path}");
        }
        assert_eq!(found(&table, "/caf%c3%a9"), "/caf%c3%a9");
    }

    #[test]
    fn what_a_router_takes_for_another_path_is_not_served() {
        let table =
            table(&["/", "/{one}", "/admin", "/admin/{x}", "/room/staff", "/room/{name}", "/room/{name}/{tab}"]);
        for path in [
            "/Admin",
            "/%41dmin",
            "/room/STAFF",
            "/admin\\x",
            "/x\\..\\admin",
            "/room/x\\..\\staff",
            "/admin;x",
            "/room/staff;x",
            "/room/Staff;/x",
            "/room/staff/;x",
            "/;x",
            "/admin/x;/y",
            "/Room/1",
        ] {
            assert_eq!(found(&table, path), "", "{path}");
        }
        for (path, expected) in [
            ("/", "/"),
            ("/Lobby", "/{one} one=Lobby"),
            ("/lobby;x", "/{one} one=lobby;x"),
            ("/room/STAFFS", "/room/{name} name=STAFFS"),
            ("/room/a;b", "/room/{name} name=a;b"),
            ("/room/Staff/x", "/room/{name}/{tab} name=Staff tab=x"),
            ("/admin/X", "/admin/{x} x=X"),
        ] {
            assert_eq!(found(&table, path), expected, "{path}");
        }
    }

    #[test]
    fn every_spelling_that_is_named_is_served() {
        let table =
            table(&["/Room/{a}", "/room/{b}", "/room/{c}/", "/room/STAFF", "/x/%73", "/x/{d}", "/y/{e}/", "/y/z"]);
        for (path, expected) in [
            ("/Room/1", "/Room/{a} a=1"),
            ("/room/1", "/room/{b} b=1"),
            ("/room/1/", "/room/{c}/ c=1"),
            ("/room/STAFF", "/room/STAFF"),
            ("/room/staff", ""),
            ("/Room/staff", ""),
            ("/x/%73", "/x/%73"),
            ("/x/s", ""),
            ("/x/t", "/x/{d} d=t"),
            ("/y/1/", "/y/{e}/ e=1"),
            ("/y/z/", ""),
        ] {
            assert_eq!(found(&table, path), expected, "{path}");
        }
    }

    #[test]
    fn paths_that_could_not_match_are_refused() {
        for (path, why) in [
            ("x", "must start with /"),
            ("/a?b", "must start with /"),
            ("/a b", "must start with /"),
            ("/a/../b", "browsers resolve"),
            ("/{}", "no parameter"),
            ("/{a", "no parameter"),
            ("/a}", "no parameter"),
            ("/a{b}", "no parameter"),
            ("/{a}{b}", "no parameter"),
            ("/{a-b}", "no parameter"),
            ("/{1a}", "no parameter"),
            ("/{a}/{a}", "two parameters"),
        ] {
            let error = PathTable::default().add(path, ()).unwrap_err();
            assert!(error.contains(why), "{path}: {error}");
        }
        let mut table = table(&["/a/{b}"]);
        assert!(table.add("/a/{b}", String::new()).is_ok(), "the same again");
        assert_eq!(table.add("/a/{c}", String::new()).unwrap_err(), "matches the same paths as /a/{b}");
        assert!(table.add("/{a}/b", String::new()).is_ok() && !table.is_empty());
    }

    proptest! {
        /// Whatever path comes: an exact path is itself, and a parameter's value is what stands there, decoded.
        #[test]
        fn what_is_found_is_what_was_asked_for(parts in prop::collection::vec("[a-c{}%2e.]{0,4}", 0..5)) {
            let table = table(&["/{a}", "/a/{b}", "/{a}/b/{c}", "/a/b", "/c"]);
            let path = format!("/{}", parts.join("/"));
            if let Some((pattern, params)) = table.find(&path) {
                prop_assert_eq!(pattern.split('/').count(), path.split('/').count());
                let mut params = params.iter();
                for (segment, part) in pattern.split('/').zip(path.split('/')) {
                    match segment.strip_prefix('{') {
                        None => prop_assert_eq!(segment, part),
                        Some(name) => {
                            let (own, value) = params.next().unwrap();
                            prop_assert_eq!(&**own, name.trim_end_matches('}'));
                            prop_assert_eq!(decode(part), Some(value.clone()));
                            prop_assert!(!value.is_empty());
                        }
                    }
                }
                prop_assert!(params.next().is_none());
            }
        }
    }
}
