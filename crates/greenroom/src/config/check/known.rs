//! What clients are known by: who their user is, and their tags.
//!
//! Only a header can say it. A cookie, a token or a value of the query is a secret or is chosen by the client, so it must
//! neither be shown nor believed: what is in front of greenroom and can check it says in a header whose it is.

use std::collections::BTreeSet;

use greenroom_core::limits::{CONFIG_NAME_MAX, DESCRIPTORS_MAX, TAGS_MAX, USER_MAX};
use greenroom_core::users::{OnLimit, Rule};

use super::super::model::{KnownBy, Route, Tag};
use super::super::problem::Problem;
use super::super::source::Place;
use super::super::written::{Field, Limits, Number, Texts, is_secret, join};
use super::Checker;
use crate::head::{is_hop_by_hop, is_token};
use crate::known::is_plain;

const EXAMPLE: &str = "write \"header:NAME\" with a header that something in front of greenroom sets, such as \"header:X-Auth-Request-User\"";

/// Where the limit of a user is written.
pub(super) fn place_of_limit(limits: &Field<Limits>) -> Option<Place> {
    limits.get()?.value.max_connections_per_user.place().cloned()
}

impl Checker<'_> {
    pub(super) fn known_by(&mut self, path: &str, user: Field<String>, tags: Field<Texts>) -> KnownBy {
        let key = join(path, "user");
        if user.is_absent() {
            self.note(&key, "nobody says so", None);
        }
        let user = self
            .text(&key, user, |text| header(text).map(Header))
            .map(|user| user.value.0);
        let key = join(path, "tags");
        let place = tags.place().cloned();
        let tags = self.list(&key, tags, "none", TAGS_MAX, tag).unwrap_or_default();
        let mut seen = BTreeSet::new();
        for tag in &tags {
            if !seen.insert(name_of(tag)) {
                let problem = format!("`{key}` has two tags with the name {:?}", name_of(tag));
                let problem = Problem::new(problem).near(place.as_ref());
                self.problems
                    .add(problem.help("give one of them another name, or take it away"));
            }
        }
        KnownBy { user, tags }
    }

    pub(super) fn user_limit(&mut self, most: Field<Number>, on_limit: Field<String>) -> Option<Rule> {
        let (is_absent, place) = (most.is_absent(), on_limit.place().cloned());
        let most = self.at_will("limits.max_connections_per_user", most, "no limit", DESCRIPTORS_MAX);
        let on_limit = self.word("limits.on_user_limit", on_limit, OnLimit::default());
        if let (true, Some(place)) = (is_absent, &place) {
            let problem =
                Problem::new("`limits.on_user_limit` is for `limits.max_connections_per_user`, and there is none");
            self.problems.add(
                problem
                    .at(place)
                    .help("say how many WebSockets a user may have, or take the key away"),
            );
        }
        most.map(|most| Rule { most, on_limit })
    }

    /// A limit of users where nobody says who they are limits nobody.
    pub(super) fn somebody_is_known(&mut self, limit: Option<&Place>, routes: &[Route]) {
        if limit.is_some() && self.problems.is_empty() && routes.iter().all(|route| route.known_by.user.is_none()) {
            let problem = "`limits.max_connections_per_user` limits nobody: no route says who its user is";
            let help =
                "add user = \"header:NAME\" to a [[route]], with a header that something in front of greenroom sets";
            self.problems.add(Problem::new(problem).near(limit).help(help));
        }
    }
}

/// A header's name as it is shown.
struct Header(String);

impl From<Header> for String {
    fn from(header: Header) -> Self {
        format!("header:{}", header.0)
    }
}

fn name_of(tag: &Tag) -> &str {
    match tag {
        Tag::Fixed(text) => text.split('=').next().unwrap_or_default(),
        Tag::Header(name) => name,
    }
}

/// `header:NAME`, in lower case.
fn header(text: &str) -> Result<String, String> {
    let (kind, name) = text.split_once(':').unwrap_or((text, ""));
    if matches!(kind, "cookie" | "query") {
        return Err(format!(
            "{text:?} is not offered: it may be a secret, which must not be shown, and clients write what they like there; let what can check it say the user in a header, and {EXAMPLE}"
        ));
    }
    if kind != "header" {
        return Err(format!("{text:?} is not known: {EXAMPLE}"));
    }
    let lower = name.to_ascii_lowercase();
    let why = if !is_token(name.as_bytes()) || name.len() > CONFIG_NAME_MAX {
        "is no name of a header field"
    } else if name.contains('_') {
        "has an underscore, which many servers take for -"
    } else if matches!(lower.as_str(), "authorization" | "cookie" | "proxy-authorization")
        || lower.starts_with("sec-websocket-")
        || is_secret(name)
    {
        "may hold a secret, which must not be shown"
    } else if is_hop_by_hop(name)
        || matches!(lower.as_str(), "host" | "content-length")
        || lower.starts_with("greenroom-")
    {
        "is about the connection or greenroom's own"
    } else {
        return Ok(lower);
    };
    Err(format!("{name:?} {why}: {EXAMPLE}"))
}

fn tag(text: &str) -> Result<Tag, String> {
    if ["header:", "cookie:", "query:"]
        .iter()
        .any(|kind| text.starts_with(kind))
    {
        return header(text).map(Tag::Header);
    }
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    match text.split_once('=') {
        Some((name, value))
            if !name.is_empty()
                && name.len() <= CONFIG_NAME_MAX
                && name.bytes().all(legal)
                && !value.is_empty()
                && value.len() <= USER_MAX
                && value.chars().all(is_plain) =>
        {
            Ok(Tag::Fixed(text.to_owned()))
        }
        _ => Err(format!(
            "{text:?} is no tag: write \"name=value\", with letters, digits and -._ in the name and at most {USER_MAX} bytes of value that can be seen, or \"header:NAME\""
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_header_that_holds_no_secret_says_who_the_user_is() {
        for (text, name) in [
            ("header:X-Auth-Request-User", "x-auth-request-user"),
            ("header:Remote-User", "remote-user"),
            ("header:X-Forwarded-User", "x-forwarded-user"),
        ] {
            assert_eq!(header(text), Ok(name.to_owned()));
        }
        for text in ["", "x-user", "header", "header:", "header:a b", "Header:X", "user:x"] {
            assert!(header(text).unwrap_err().contains("header:NAME"), "{text}");
        }
        for text in [
            "header:Authorization",
            "header:cookie",
            "header:Proxy-Authorization",
            "header:X-Auth-Token",
            "header:X-Password",
            "header:Sec-WebSocket-Protocol",
            "cookie:session",
            "query:token",
        ] {
            assert!(header(text).unwrap_err().contains("secret"), "{text}");
        }
        for text in [
            "header:X_User",
            "header:Host",
            "header:Connection",
            "header:Greenroom-User",
        ] {
            assert!(header(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_tag_is_the_same_for_all_or_from_a_header() {
        assert_eq!(tag("header:X-Tenant"), Ok(Tag::Header("x-tenant".into())));
        assert_eq!(tag("plan=free"), Ok(Tag::Fixed("plan=free".into())));
        assert_eq!(tag("note=a=b c"), Ok(Tag::Fixed("note=a=b c".into())));
        let long = format!("a={}", "b".repeat(USER_MAX + 1));
        for text in [
            "",
            "plan",
            "=x",
            "plan=",
            "a b=c",
            "a=\u{1b}",
            "a=b\u{a0}",
            "a=\u{200b}",
            "cookie:x",
            &long,
        ] {
            assert!(tag(text).is_err(), "{text}");
        }
    }
}
