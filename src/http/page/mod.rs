//! Pages for people: how text gets into one, what a browser may do with it, who may show it in a frame, and the styles that
//! all of them share.
//!
//! A page is made whole on the server. Markup is text of the program, everything else is escaped on its way in. Styles
//! stand inside under a nonce of their own; a script is a file of this server, or there is none.

pub(super) mod agent;

use std::fmt::{Display, Write as _};

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use scoreline_domain::text::EscapedWriter;

/// Colours, light and dark, and the looks of what stands on more than one page.
const STYLES: &str = include_str!("page.css");

/// Content type of a page.
static HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
/// For browsers that do not know `frame-ancestors`.
static DENY: HeaderValue = HeaderValue::from_static("DENY");
static NO_REFERRER: HeaderValue = HeaderValue::from_static("no-referrer");

/// HTML in the making. Only text of the program becomes markup.
#[derive(Clone, Debug, Default)]
pub(crate) struct Markup(String);

impl Markup {
    /// Adds markup of the program.
    pub(crate) fn raw(&mut self, markup: &'static str) -> &mut Self {
        self.0.push_str(markup);
        self
    }

    /// Adds text, escaped: the content of an element, or an attribute's value between quotes.
    pub(crate) fn text(&mut self, text: impl Display) -> &mut Self {
        let _ = write!(EscapedWriter(&mut self.0), "{text}");
        self
    }

    /// Adds a part that was made apart.
    pub(crate) fn part(&mut self, part: &Self) -> &mut Self {
        self.0.push_str(&part.0);
        self
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// One page.
pub(crate) struct Page<'a> {
    /// Tag of its language.
    pub lang: &'static str,
    pub title: &'a str,
    /// Styles beside those of all pages.
    pub styles: &'static str,
    /// Path of its script on this server. With one, it may also ask this server for more.
    pub script: Option<&'static str>,
    /// Hosts whose pages may show it in a frame, as `frame-ancestors` has them; nobody may, when absent.
    pub framed_by: Option<&'a str>,
    pub body: &'a Markup,
}

impl Page<'_> {
    /// The response to be given. `observe` adds what every reply carries, `no-store` and `nosniff` among it.
    pub(crate) fn respond(&self, status: StatusCode) -> Response {
        let nonce = uuid::Uuid::new_v4().simple().to_string();
        let mut response = (status, self.html(&nonce)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HTML.clone());
        headers.insert(header::REFERRER_POLICY, NO_REFERRER.clone());
        if self.framed_by.is_none() {
            headers.insert(header::X_FRAME_OPTIONS, DENY.clone());
        }
        let policy = HeaderValue::from_str(&self.policy(&nonce));
        // Hosts are checked where the settings are read: what is no header here would be a page without a policy.
        headers
            .insert(POLICY, policy.unwrap_or(HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'")));
        response
    }

    fn html(&self, nonce: &str) -> String {
        let mut page = Markup(String::with_capacity(STYLES.len() + self.styles.len() + self.body.0.len() + 512));
        page.raw("<!doctype html>\n<html lang=\"").text(self.lang);
        page.raw(
            "\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">",
        );
        page.raw("<meta name=\"color-scheme\" content=\"light dark\"><title>").text(self.title).raw("</title>");
        page.raw("<style nonce=\"").text(nonce).raw("\">").raw(STYLES).raw(self.styles).raw("</style>");
        if let Some(script) = self.script {
            page.raw("<script src=\"").text(script).raw("\" defer></script><link rel=\"icon\" href=\"data:,\">");
        }
        page.raw("</head><body>").part(self.body).raw("</body></html>\n");
        page.0
    }

    /// What the browser may load, and where the page may stand.
    fn policy(&self, nonce: &str) -> String {
        let scripts =
            if self.script.is_some() { "script-src 'self'; connect-src 'self'; img-src 'self' data:; " } else { "" };
        let ancestors = self.framed_by.unwrap_or("'none'");
        format!(
            "default-src 'none'; {scripts}style-src 'nonce-{nonce}'; form-action 'self'; base-uri 'none'; \
             frame-ancestors {ancestors}"
        )
    }
}

const POLICY: HeaderName = header::CONTENT_SECURITY_POLICY;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a browser reads where the escaped text stands.
    fn read(escaped: &str) -> String {
        let named = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&amp;", "&")];
        named.iter().fold(escaped.to_owned(), |text, (name, character)| text.replace(name, character))
    }

    proptest! {
        #[test]
        fn text_stays_text(text in any::<String>()) {
            let mut html = Markup::default();
            let escaped = html.text(&text).as_str();
            prop_assert!(!escaped.contains(['<', '>', '"', '\'', '\0']), "{escaped}");
            for (at, _) in escaped.match_indices('&') {
                let is_ours = ["&amp;", "&lt;", "&gt;", "&quot;", "&#39;"].iter().any(|name| escaped[at..].starts_with(name));
                prop_assert!(is_ours, "{escaped}");
            }
            prop_assert_eq!(read(escaped), text.replace('\0', "\u{fffd}"));
        }

        #[test]
        fn no_text_leaves_its_place_in_a_page(text in "[<>\"'&/=a-z \\PC]{0,60}") {
            let mut body = Markup::default();
            body.raw("<p title=\"").text(&text).raw("\">").text(&text).raw("</p>");
            let mut empty = Markup::default();
            empty.raw("<p title=\"\"></p>");
            let page = |title, body| Page { lang: "en", title, styles: "", script: None, framed_by: None, body }.html("n");
            let (given, bare) = (page(&text, &body), page("", &empty));
            prop_assert_eq!(given.matches('<').count(), bare.matches('<').count());
            prop_assert_eq!(given.matches('"').count(), bare.matches('"').count());
        }
    }

    #[test]
    fn a_page_loads_nothing_and_stands_in_no_frame_unless_it_says_so() {
        let body = Markup::default();
        let page = Page { lang: "en", title: "", styles: "", script: None, framed_by: None, body: &body };
        let response = page.respond(StatusCode::OK);
        let policy = response.headers()[POLICY].to_str().expect("text");
        assert!(policy.starts_with("default-src 'none'; style-src 'nonce-"), "{policy}");
        assert!(policy.ends_with("form-action 'self'; base-uri 'none'; frame-ancestors 'none'"), "{policy}");
        assert_eq!(response.headers()["x-frame-options"], "DENY");
        let framed = Page { framed_by: Some("https://apps.mypurecloud.de"), script: Some("/page.js"), ..page };
        let response = framed.respond(StatusCode::OK);
        let policy = response.headers()[POLICY].to_str().expect("text");
        assert!(policy.contains("script-src 'self'; connect-src 'self'"), "{policy}");
        assert!(policy.ends_with("frame-ancestors https://apps.mypurecloud.de"), "{policy}");
        assert!(!response.headers().contains_key("x-frame-options"));
    }

    #[test]
    fn no_two_pages_have_the_same_nonce() {
        let body = Markup::default();
        let page = Page { lang: "en", title: "", styles: "", script: None, framed_by: None, body: &body };
        let policy = || page.respond(StatusCode::OK).headers()[POLICY].clone();
        assert_ne!(policy(), policy());
    }
}
