//! What a connection is known by beside its address: its user and its tags, as its request says.
//!
//! Read where a request has its route, from the headers that the route names. Two readers must agree about them, greenroom and the backend: so a
//! request that has such a header several times, or names it in `Connection` (it would end here), is refused, and so is
//! one whose value is not text that can be shown and told from any other: what is around it that is no part of it are spaces and
//! tabs (RFC 9110 §5.6.3), other white space and what nobody sees would make two users of what looks like one. A request without the header has no user, or not that tag.
//!
//! Bounded by `USER_MAX` bytes a value and `TAGS_MAX` tags. Kept with the connection, and only where its route asks for it.

use std::sync::Arc;

use greenroom_core::limits::USER_MAX;

use crate::config::{KnownBy, Tag};
use crate::head::{Kind, Only};
use crate::telemetry::is_safe;

/// See the module's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Who the user is.
    pub user: Option<Arc<str>>,
    /// Each `name=value`.
    pub tags: Box<[Box<str>]>,
}

impl Known {
    /// Whether it has this tag: `name=value`, or any with this name.
    #[must_use]
    pub fn has_tag(tags: &[impl AsRef<str>], wanted: &str) -> bool {
        tags.iter().map(AsRef::as_ref).any(|tag| {
            let rest = tag.strip_prefix(wanted);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('=') && !wanted.contains('='))
        })
    }
}

/// What is known of the client of a request; `None`: nothing, as its route asks for nothing or it says nothing. An
/// error says why nobody can tell; it holds no value.
pub(crate) fn of(by: &KnownBy, request: &Kind) -> Result<Option<Box<Known>>, String> {
    if by.user.is_none() && by.tags.is_empty() {
        return Ok(None);
    }
    let user = match &by.user {
        Some(name) => value(name, request)?,
        None => None,
    };
    let mut tags = Vec::new();
    for tag in &by.tags {
        match tag {
            Tag::Fixed(tag) => tags.push(tag.as_str().into()),
            Tag::Header(name) => tags.extend(value(name, request)?.map(|value| format!("{name}={value}").into())),
        }
    }
    if user.is_none() && tags.is_empty() {
        return Ok(None);
    }
    Ok(Some(Box::new(Known {
        user: user.map(Into::into),
        tags: tags.into(),
    })))
}

/// Whether a character is seen, is a space that all readers take for one, and can be printed.
pub(crate) fn is_plain(c: char) -> bool {
    is_safe(c) && (c == ' ' || !c.is_whitespace()) && !is_unseen(c)
}

/// What is by itself not seen: Unicode's Default_Ignorable_Code_Point, the marks of annotations, and the empty Braille cell.
fn is_unseen(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
        | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e0fff}')
}

/// The value of a header; `None` where it is not there, or empty.
fn value(name: &str, request: &Kind) -> Result<Option<String>, String> {
    request.with_only(name, |only| match only {
        Only::Absent => Ok(None),
        Only::Several => Err(format!("there are several {name}")),
        Only::Ends => Err(format!("Connection names {name}, which says who the client is")),
        Only::Value(value) => match str::from_utf8(value).map(|text| text.trim_matches([' ', '\t'])) {
            Ok("") => Ok(None),
            Ok(text) if text.len() <= USER_MAX && text.chars().all(is_plain) => Ok(Some(text.to_owned())),
            Ok(text) if text.len() > USER_MAX => {
                Err(format!("{name} has {} bytes; at most {USER_MAX} may be", text.len()))
            }
            Ok(_) | Err(_) => Err(format!("{name} holds what cannot be printed or seen")),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::parse_head;

    fn known(fields: &str) -> Result<Option<Box<Known>>, String> {
        let by = KnownBy {
            user: Some("x-user".into()),
            tags: vec![Tag::Fixed("plan=free".into()), Tag::Header("x-tenant".into())],
        };
        let head = format!("GET / HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
        of(&by, &parse_head(head.as_bytes()).unwrap())
    }

    #[test]
    fn a_user_and_tags_are_read_from_the_headers_that_are_named() {
        let all = known("X-USER: \tann \r\nx-tenant: acme & co\r\nX-Other: x\r\n")
            .unwrap()
            .unwrap();
        assert_eq!(all.user.as_deref(), Some("ann"));
        assert_eq!(*all.tags, ["plan=free".into(), "x-tenant=acme & co".into()]);
        for fields in ["", "X-User:\r\n", "X_User: ann\r\n"] {
            let nobody = known(fields).unwrap().unwrap();
            assert_eq!((nobody.user, nobody.tags.len()), (None, 1), "{fields:?}");
        }
        let longest = "ü".repeat(USER_MAX / 2);
        let user = known(&format!("X-User: {longest}\r\n")).unwrap().unwrap().user;
        assert_eq!(user.as_deref(), Some(&*longest));
        let request = parse_head(b"GET / HTTP/1.1\r\nHost: h\r\nX-User: ann\r\n\r\n").unwrap();
        assert_eq!(
            of(&KnownBy::default(), &request),
            Ok(None),
            "nothing for who asks for nothing"
        );
    }

    #[test]
    fn where_two_readers_could_disagree_or_nothing_can_be_shown_nobody_is_known() {
        let long = format!("X-User: {}\r\n", "a".repeat(USER_MAX + 1));
        for fields in [
            "X-User: zoe\r\nx-user: bob\r\n",
            "X-User: zoe\r\nX-User: zoe\r\n",
            "X-User: zoe\r\nX-User:\r\n",
            "X-User: zoe\r\nConnection: X-USER\r\n",
            "Connection: close, x-user\r\n",
            "X-User: a\u{202e}b\r\n",
            "X-User: a\u{9b}31m\r\n",
            "X-Tenant: a\r\nX-Tenant: b\r\n",
            "X-User: \u{a0}zoe\r\n",
            "X-User: zoe\u{2003}\r\n",
            "X-User: zoe\u{3000}b\r\n",
            "X-User: \u{85}zoe\r\n",
            "X-User: zoe\tb\r\n",
            "X-User: \u{a0}\r\n",
            "X-User: zo\u{200b}e\r\n",
            "X-User: zoe\u{feff}\r\n",
            "X-User: zo\u{ad}e\r\n",
            "X-User: zoe\u{e0041}\r\n",
            "X-User: \u{3164}\r\n",
            "X-Tenant: \u{a0}zoe\r\n",
            "X-Tenant: zo\u{2060}e\r\n",
            &long,
        ] {
            let why = known(fields).unwrap_err();
            assert!(!why.contains("zoe") && !why.contains("aaa"), "{fields:?}: {why}");
        }
        let head = b"GET / HTTP/1.1\r\nHost: h\r\nX-User: \xff\r\n\r\n";
        let by = KnownBy {
            user: Some("x-user".into()),
            tags: Vec::new(),
        };
        assert!(of(&by, &parse_head(head).unwrap()).is_err());
    }

    #[test]
    fn a_tag_is_looked_for_by_its_name_or_with_its_value() {
        let tags = ["plan=free", "x-tenant=a=b"];
        for wanted in ["plan", "plan=free", "x-tenant", "x-tenant=a=b"] {
            assert!(Known::has_tag(&tags, wanted), "{wanted}");
        }
        for wanted in ["", "pla", "plan=", "plan=fre", "free", "x-tenant=a", "=free"] {
            assert!(!Known::has_tag(&tags, wanted), "{wanted}");
        }
    }
}
