//! References between the parts of one schema document: RFC 3986 section 5.2, and JSON pointers.

/// What a document without an `$id` has as its base, so that relative identifiers inside it can meet.
pub(super) const NO_BASE: &str = "json-schema:///";

/// The five parts of a URI reference.
struct Parts<'u> {
    scheme: Option<&'u str>,
    authority: Option<&'u str>,
    path: &'u str,
    query: Option<&'u str>,
}

impl<'u> Parts<'u> {
    /// Of a reference without its fragment.
    fn of(uri: &'u str) -> Self {
        let named = |(scheme, _): &(&str, &str)| {
            let mut bytes = scheme.bytes();
            bytes.next().is_some_and(|first| first.is_ascii_alphabetic())
                && bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
        };
        let (scheme, rest) = match uri.split_once(':').filter(named) {
            Some((scheme, rest)) => (Some(scheme), rest),
            None => (None, uri),
        };
        let (rest, query) = match rest.split_once('?') {
            Some((rest, query)) => (rest, Some(query)),
            None => (rest, None),
        };
        let (authority, path) = match rest.strip_prefix("//") {
            Some(rest) => {
                let end = rest.find('/').unwrap_or(rest.len());
                let (authority, path) = rest.split_at(end);
                (Some(authority), path)
            }
            None => (None, rest),
        };
        Self { scheme, authority, path, query }
    }
}

/// A reference without its fragment, made absolute against a base.
pub(super) fn resolve(base: &str, reference: &str) -> String {
    if reference.is_empty() {
        return base.to_owned();
    }
    let (base, mut parts) = (Parts::of(base), Parts::of(reference));
    let mut path = String::new();
    if parts.scheme.is_some() || parts.authority.is_some() {
        path.push_str(parts.path);
    } else if parts.path.is_empty() {
        path.push_str(base.path);
        parts.query = parts.query.or(base.query);
    } else {
        if !parts.path.starts_with('/') {
            let end = base.path.rfind('/').map_or(0, |slash| slash + 1);
            path.push_str(base.path.get(..end).unwrap_or_default());
            if end == 0 && base.authority.is_some() {
                path.push('/');
            }
        }
        path.push_str(parts.path);
    }
    if parts.scheme.is_none() {
        parts.authority = parts.authority.or(base.authority);
    }
    let scheme = parts.scheme.or(base.scheme).unwrap_or_default().to_ascii_lowercase();
    let authority = parts.authority.map(|authority| format!("//{}", authority.to_ascii_lowercase()));
    let query = parts.query.map(|query| format!("?{query}"));
    format!("{scheme}:{}{}{}", authority.unwrap_or_default(), without_dots(&path), query.unwrap_or_default())
}

/// Section 5.2.4: `.` and `..` are followed.
fn without_dots(path: &str) -> String {
    if !path.starts_with('/') {
        return path.to_owned();
    }
    let mut kept: Vec<&str> = Vec::new();
    let mut ends_open = false;
    for segment in path.split('/').skip(1) {
        ends_open = matches!(segment, "." | "..");
        match segment {
            "." => {}
            ".." => drop(kept.pop()),
            other => kept.push(other),
        }
    }
    if ends_open {
        kept.push("");
    }
    format!("/{}", kept.join("/"))
}

/// A fragment with its percent-encoding undone; `None` where that is no UTF-8.
pub(super) fn decoded(fragment: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(fragment.len());
    let mut rest = fragment.as_bytes();
    while let [first, tail @ ..] = rest {
        let code = |digits: &[u8]| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok();
        match (first, tail.split_at_checked(2)) {
            (b'%', Some((digits, behind))) if digits.iter().all(u8::is_ascii_hexdigit) => {
                bytes.push(code(digits)?);
                rest = behind;
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 3986 section 5.4, without fragments.
    #[test]
    fn references_are_resolved_as_the_rfc_says() {
        for (reference, uri) in [
            ("g:h", "g:h"),
            ("g", "http://a/b/c/g"),
            ("./g", "http://a/b/c/g"),
            ("g/", "http://a/b/c/g/"),
            ("/g", "http://a/g"),
            ("//g", "http://g"),
            ("?y", "http://a/b/c/d;p?y"),
            ("g?y", "http://a/b/c/g?y"),
            (";x", "http://a/b/c/;x"),
            ("", "http://a/b/c/d;p?q"),
            (".", "http://a/b/c/"),
            ("..", "http://a/b/"),
            ("../g", "http://a/b/g"),
            ("../../g", "http://a/g"),
            ("../../../g", "http://a/g"),
            ("/./g", "http://a/g"),
            ("g;x=1/../y", "http://a/b/c/y"),
            ("HTTP://A/g", "http://a/g"),
        ] {
            assert_eq!(resolve("http://a/b/c/d;p?q", reference), uri, "{reference}");
        }
        assert_eq!(resolve("http://a", "g"), "http://a/g");
        assert_eq!(resolve(NO_BASE, "n"), "json-schema:///n");
        assert_eq!(resolve("urn:example:a", "urn:example:b"), "urn:example:b");
    }

    #[test]
    fn fragments_are_decoded() {
        assert_eq!(decoded("/a%25b/%22%C3%A9").as_deref(), Some("/a%b/\"é"));
        assert_eq!(decoded("%zz%2").as_deref(), Some("%zz%2"));
        assert_eq!(decoded("%ff"), None);
    }
}
