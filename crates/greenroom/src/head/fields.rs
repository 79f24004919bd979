//! Header fields: tokens, token lists, and which fields end at this hop.
//!
//! A list may stand in several lines of one name; they count as one list (RFC
//! 9110 §5.3). Empty elements are skipped (§5.6.1.2). Names and options compare
//! without case.

use greenroom_core::limits::{HEADERS_MAX, TOKENS_MAX};
use httparse::{EMPTY_HEADER, Header};

/// Room for the fields of one head, on the stack of who parses it.
pub(super) type Slots<'a> = [Header<'a>; HEADERS_MAX];

/// Empty [`Slots`].
pub(super) const fn slots<'a>() -> Slots<'a> {
    [EMPTY_HEADER; HEADERS_MAX]
}

/// Why a list could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ListFault {
    /// An element is no token.
    NoToken,
    /// More than [`TOKENS_MAX`] elements.
    TooMany,
}

/// Whether `byte` may stand in a token (RFC 9110 §5.6.2).
pub(super) const fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
        )
}

/// Whether `text` is one token.
pub(crate) fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().copied().all(is_token_byte)
}

/// `text` without the spaces and tabs around it.
pub(super) fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

/// The values of all lines called `name`.
pub(super) fn values<'h, 'b>(fields: &'h [Header<'b>], name: &'h str) -> impl Iterator<Item = &'b [u8]> + use<'h, 'b> {
    fields
        .iter()
        .filter(move |field| field.name.eq_ignore_ascii_case(name))
        .map(|field| field.value)
}

/// The one value of `name`; `Err` when there are several.
pub(super) fn single<'b>(fields: &[Header<'b>], name: &str) -> Result<Option<&'b [u8]>, Several> {
    let mut values = values(fields, name);
    let first = values.next();
    if values.next().is_some() {
        return Err(Several);
    }
    Ok(first)
}

/// A field that may be there once is there several times.
#[derive(Clone, Copy, Debug)]
pub(super) struct Several;

/// The elements of the list in all lines called `name`, checked or not.
pub(super) fn elements<'h, 'b>(
    fields: &'h [Header<'b>],
    name: &'h str,
) -> impl Iterator<Item = &'b [u8]> + use<'h, 'b> {
    values(fields, name).flat_map(split)
}

/// The elements of one line's list.
pub(super) fn split(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value
        .split(|&byte| byte == b',')
        .map(trim)
        .filter(|element| !element.is_empty())
}

/// Checks that all elements of `name` are `legal` and not too many.
pub(super) fn check_list(fields: &[Header<'_>], name: &str, legal: fn(&[u8]) -> bool) -> Result<(), ListFault> {
    for (count, element) in elements(fields, name).enumerate() {
        if count == TOKENS_MAX {
            return Err(ListFault::TooMany);
        }
        if !legal(element) {
            return Err(ListFault::NoToken);
        }
    }
    Ok(())
}

/// Whether `text` is a protocol as Upgrade names it: a token, or `token/token`.
pub(super) fn is_protocol(text: &[u8]) -> bool {
    let mut parts = text.splitn(2, |&byte| byte == b'/');
    parts.next().is_some_and(is_token) && parts.next().is_none_or(is_token)
}

/// Whether the list in `name` holds `wanted`.
pub(super) fn lists(fields: &[Header<'_>], name: &str, wanted: &str) -> bool {
    elements(fields, name).any(|element| element.eq_ignore_ascii_case(wanted.as_bytes()))
}

/// Whether Upgrade names `websocket`, once, and nothing else.
pub(super) fn only_websocket(fields: &[Header<'_>]) -> bool {
    let mut elements = elements(fields, "upgrade");
    elements.next().is_some_and(|e| e.eq_ignore_ascii_case(b"websocket")) && elements.next().is_none()
}

/// Whether a field is about one connection only and so never passes (RFC 9110 §7.6.1, §7.8).
///
/// Content-Length is not here: each side decides by itself what to do with it.
pub(crate) fn is_hop_by_hop(name: &str) -> bool {
    [
        "connection",
        "keep-alive",
        "proxy-connection",
        "proxy-authenticate",
        "proxy-authentication-info",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "http2-settings",
    ]
    .iter()
    .any(|hop| name.eq_ignore_ascii_case(hop))
}

/// Whether Connection nominates `name`, which then ends at this hop.
pub(super) fn is_nominated(fields: &[Header<'_>], name: &str) -> bool {
    lists(fields, "connection", name)
}

/// Whether `name` begins with `prefix`, without case.
pub(super) fn has_prefix(name: &str, prefix: &str) -> bool {
    name.as_bytes()
        .get(..prefix.len())
        .is_some_and(|begin| begin.eq_ignore_ascii_case(prefix.as_bytes()))
}

/// Whether `name` is one that only greenroom may set, towards either side.
///
/// With an underscore too: CGI-like servers make one variable of both.
pub(super) fn is_own(name: &str) -> bool {
    has_prefix(name, "greenroom-") || has_prefix(name, "greenroom_")
}

/// Writes one field.
pub(super) fn write(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_over_several_lines_is_one_list() {
        let fields = [
            Header {
                name: "Connection",
                value: b"keep-alive ,\t, Upgrade",
            },
            Header {
                name: "Other",
                value: b"x",
            },
            Header {
                name: "CONNECTION",
                value: b",TE",
            },
        ];
        let all: Vec<_> = elements(&fields, "connection").collect();
        assert_eq!(all, [&b"keep-alive"[..], b"Upgrade", b"TE"]);
        assert!(lists(&fields, "connection", "upgrade") && is_nominated(&fields, "te"));
        assert!(!lists(&fields, "connection", "upgrad"));
        assert_eq!(check_list(&fields, "connection", is_token), Ok(()));
    }

    #[test]
    fn a_list_has_at_most_so_many_tokens() {
        let value = |n: usize| vec!["a"; n].join(",").into_bytes();
        let (fits, over) = (value(TOKENS_MAX), value(TOKENS_MAX + 1));
        let check = |value: &[u8]| check_list(&[Header { name: "Upgrade", value }], "upgrade", is_token);
        assert_eq!(check(&fits), Ok(()));
        assert_eq!(check(&over), Err(ListFault::TooMany));
        assert_eq!(check(b"a b"), Err(ListFault::NoToken));
        assert_eq!(check(b"\"a\""), Err(ListFault::NoToken));
    }

    #[test]
    fn trims_both_ends_only() {
        assert_eq!(trim(b" \ta b\t "), b"a b");
        assert_eq!(trim(b" \t "), b"");
    }
}
