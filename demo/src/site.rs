//! What the two page servers show: the files of `page/`, compiled in, with this run's ports and this visit's tokens.

use std::borrow::Cow;
use std::sync::Arc;

use crate::http::Content;
use crate::visits::Visits;

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// Both origins of the demo.
pub(crate) struct Site {
    pub(crate) page_host: String,
    pub(crate) foreign_host: String,
    pub(crate) server_host: String,
    /// The policy in force, as JSON text.
    pub(crate) policy: String,
    pub(crate) visits: Arc<Visits>,
}

impl Site {
    /// The page with the chat.
    pub(crate) fn page(&self, path: &str) -> Option<Content> {
        let (media_type, body) = match path {
            "/" => (HTML, Cow::Owned(self.begin_visit()?)),
            "/style.css" => (CSS, include_str!("../page/style.css").into()),
            "/main.js" => (SCRIPT, include_str!("../page/main.js").into()),
            "/chat.js" => (SCRIPT, include_str!("../page/chat.js").into()),
            "/attacks.js" => (SCRIPT, include_str!("../page/attacks.js").into()),
            "/cards.js" => (SCRIPT, include_str!("../page/cards.js").into()),
            "/verdicts.js" => (SCRIPT, include_str!("../page/verdicts.js").into()),
            "/icon.svg" => (SVG, include_str!("../page/icon.svg").into()),
            _ => return None,
        };
        let policy = format!(
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src ws://{}; \
             frame-src http://{}; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
            self.server_host, self.foreign_host
        );
        Some(Content { media_type, policy, body })
    }

    /// The page of another origin: the attacker's.
    pub(crate) fn foreign(&self, path: &str) -> Option<Content> {
        let (media_type, body) = match path {
            "/" => (HTML, self.fill(include_str!("../page/foreign.html")).into()),
            "/foreign.js" => (SCRIPT, include_str!("../page/foreign.js").into()),
            _ => return None,
        };
        let policy = format!(
            "default-src 'none'; script-src 'self'; connect-src ws://{}; frame-ancestors http://{}; \
             base-uri 'none'; form-action 'none'",
            self.server_host, self.page_host
        );
        Some(Content { media_type, policy, body })
    }

    /// The page for a new guest; `None`: the system has no randomness.
    fn begin_visit(&self) -> Option<String> {
        let visit = self.visits.begin().ok()?;
        let page = self.fill(include_str!("../page/index.html"));
        let fields = [
            ("{{guest}}", &visit.guest.user),
            ("{{guest_token}}", &visit.guest.token),
            ("{{intruder}}", &visit.intruder.user),
            ("{{intruder_token}}", &visit.intruder.token),
            ("{{policy}}", &escape(&self.policy)),
        ];
        Some(fields.into_iter().fold(page, |page, (field, value)| page.replace(field, value)))
    }

    fn fill(&self, page: &str) -> String {
        page.replace("{{page}}", &self.page_host)
            .replace("{{foreign}}", &self.foreign_host)
            .replace("{{server}}", &self.server_host)
    }
}

/// Text for the inside of an HTML element.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site() -> Site {
        let host = |port: u16| format!("127.0.0.1:{port}");
        Site {
            page_host: host(8000),
            foreign_host: host(8002),
            server_host: host(8001),
            policy: r#"{"a": "<b>&"}"#.to_owned(),
            visits: Arc::default(),
        }
    }

    #[test]
    fn every_field_is_filled_and_every_load_is_a_new_guest() {
        let site = site();
        let pages = [site.page("/"), site.page("/"), site.foreign("/")].map(|page| page.unwrap().body);
        for page in &pages {
            assert!(!page.contains("{{"), "{page}");
        }
        assert!(pages[0].contains("guest-1") && pages[1].contains("guest-2"));
        assert!(pages[0].contains("&lt;b>&amp;"));
    }

    #[test]
    fn neither_origin_serves_what_belongs_to_the_other() {
        let site = site();
        assert!(site.page("/foreign.js").is_none() && site.foreign("/main.js").is_none());
        assert!(site.page("/page/index.html").is_none());
    }
}
