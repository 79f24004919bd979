//! Subprotocols and extensions: what a client may offer, and what a backend may
//! choose of it (RFC 6455 §9, §11.3; RFC 7692 §7.1).
//!
//! One pass over the bytes, no backtracking, at most
//! [`TOKENS_MAX`] names and parameters and [`NEGOTIATION_MAX`] bytes: parsers of
//! these two fields have been made to run for minutes.

use super::fault::{Fault, Nonsense};
use super::fields::{elements, is_token, single, trim, values};
use greenroom_core::limits::{NEGOTIATION_MAX, TOKENS_MAX};
use httparse::Header;

const PROTOCOL: &str = "sec-websocket-protocol";
const EXTENSIONS: &str = "sec-websocket-extensions";
const DEFLATE: &[u8] = b"permessage-deflate";

/// What both sides agreed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Agreed {
    /// permessage-deflate: RSV1 has a meaning.
    pub(super) deflate: bool,
    /// Another extension, which greenroom does not know.
    pub(super) other: bool,
}

/// A malformed extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Malformed;

/// One extension with its parameters.
struct Extension<'b> {
    name: &'b [u8],
    /// Everything from the first `;` on.
    params: &'b [u8],
}

/// Who speaks: a server may say less than a client.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Offer,
    Choice,
}

/// Checks what a client offers.
pub(super) fn check_offer(fields: &[Header<'_>]) -> Result<(), Fault> {
    let bytes: usize = values(fields, PROTOCOL)
        .chain(values(fields, EXTENSIONS))
        .map(<[u8]>::len)
        .sum();
    if bytes > NEGOTIATION_MAX {
        return Err(Fault::NegotiationTooLong);
    }
    let mut room = TOKENS_MAX;
    let mut seen: Vec<&[u8]> = Vec::new();
    for protocol in elements(fields, PROTOCOL) {
        room = room.checked_sub(1).ok_or(Fault::TooManyTokens)?;
        if !is_token(protocol) || seen.contains(&protocol) {
            return Err(Fault::Protocols);
        }
        seen.push(protocol);
    }
    for element in elements(fields, EXTENSIONS) {
        let names = element.split(|&byte| byte == b';').count();
        room = room.checked_sub(names).ok_or(Fault::TooManyTokens)?;
        let extension = parse(element).map_err(|Malformed| Fault::Extensions)?;
        if extension.name.eq_ignore_ascii_case(DEFLATE) {
            deflate_params(&extension, Side::Offer).map_err(|Malformed| Fault::Extensions)?;
        }
    }
    Ok(())
}

/// Checks what a backend chose of `offered`, which passed [`check_offer`].
pub(super) fn check_choice(offered: &[Header<'_>], chosen: &[Header<'_>]) -> Result<Agreed, Nonsense> {
    // Subprotocols compare with their case, as browsers do.
    if let Some(protocol) = single(chosen, PROTOCOL).map_err(|_| Nonsense::Protocol)?
        && !elements(offered, PROTOCOL).any(|offer| offer == protocol)
    {
        return Err(Nonsense::Protocol);
    }
    let bytes: usize = values(chosen, EXTENSIONS).map(<[u8]>::len).sum();
    if bytes > NEGOTIATION_MAX {
        return Err(Nonsense::Extensions);
    }
    let mut agreed = Agreed::default();
    let mut seen: Vec<&[u8]> = Vec::new();
    for element in elements(chosen, EXTENSIONS) {
        let extension = parse(element).map_err(|Malformed| Nonsense::Extensions)?;
        let offers = || {
            elements(offered, EXTENSIONS)
                .filter_map(|offer| parse(offer).ok())
                .filter(|offer| offer.name.eq_ignore_ascii_case(extension.name))
        };
        let twice = seen.iter().any(|name| name.eq_ignore_ascii_case(extension.name));
        if twice || seen.len() == TOKENS_MAX || offers().next().is_none() {
            return Err(Nonsense::Extensions);
        }
        seen.push(extension.name);
        if extension.name.eq_ignore_ascii_case(DEFLATE) {
            agreed.deflate = true;
            let limits_client = deflate_params(&extension, Side::Choice).map_err(|Malformed| Nonsense::Extensions)?;
            // A client that did not say so may be unable to use a smaller window.
            if limits_client && !offers().any(|offer| deflate_params(&offer, Side::Offer) == Ok(true)) {
                return Err(Nonsense::Extensions);
            }
        } else {
            agreed.other = true;
        }
    }
    Ok(agreed)
}

/// Reads `name *( ; param [ = value ] )`, the parameters only for their form.
fn parse(element: &[u8]) -> Result<Extension<'_>, Malformed> {
    let end = element.iter().position(|&byte| byte == b';').unwrap_or(element.len());
    let (name, params) = element.split_at(end);
    let extension = Extension {
        name: trim(name),
        params,
    };
    if !is_token(extension.name) || extension.params().any(|param| param.is_err()) {
        return Err(Malformed);
    }
    Ok(extension)
}

impl<'b> Extension<'b> {
    /// The parameters, each with its value if it has one, out of its quotes.
    fn params(&self) -> impl Iterator<Item = Result<(&'b [u8], Option<&'b [u8]>), Malformed>> + use<'b> {
        self.params.split(|&byte| byte == b';').skip(1).map(|param| {
            let param = trim(param);
            let mut parts = param.splitn(2, |&byte| byte == b'=');
            let name = parts.next().filter(|name| is_token(name)).ok_or(Malformed)?;
            let value = match parts.next() {
                Some([b'"', inner @ .., b'"']) => Some(inner),
                bare => bare,
            };
            if value.is_some_and(|value| !is_token(value)) {
                return Err(Malformed);
            }
            Ok((name, value))
        })
    }
}

/// Checks the parameters of permessage-deflate; true when they limit the client's window.
///
/// An offer with a parameter that nobody knows is legal (a server declines it); a choice is not.
fn deflate_params(extension: &Extension<'_>, side: Side) -> Result<bool, Malformed> {
    const NAMES: [&str; 4] = [
        "server_no_context_takeover",
        "client_no_context_takeover",
        "server_max_window_bits",
        "client_max_window_bits",
    ];
    let mut seen = [false; NAMES.len()];
    for param in extension.params() {
        let (name, value) = param?;
        let known = NAMES
            .iter()
            .position(|known| name.eq_ignore_ascii_case(known.as_bytes()));
        let legal = match (known, value) {
            (Some(0 | 1), None) => true,
            (Some(2 | 3), Some(bits)) => is_window_bits(bits),
            (Some(3), None) | (None, _) => side == Side::Offer,
            _ => false,
        };
        let twice = known.is_some_and(|index| std::mem::replace(&mut seen[index], true));
        if !legal || twice {
            return Err(Malformed);
        }
    }
    Ok(seen[3])
}

/// 8 to 15, without leading zeros.
fn is_window_bits(value: &[u8]) -> bool {
    matches!(value, [b'8' | b'9'] | [b'1', b'0'..=b'5'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(protocol: &str, extensions: &str) -> Result<(), Fault> {
        check_offer(&fields(protocol, extensions))
    }

    fn fields<'a>(protocol: &'a str, extensions: &'a str) -> Vec<Header<'a>> {
        [
            ("Sec-WebSocket-Protocol", protocol),
            ("Sec-WebSocket-Extensions", extensions),
        ]
        .into_iter()
        .filter(|(_, value)| *value != "-")
        .map(|(name, value)| Header {
            name,
            value: value.as_bytes(),
        })
        .collect()
    }

    #[test]
    fn what_real_clients_offer_is_legal() {
        for extensions in [
            "permessage-deflate; client_max_window_bits",
            "permessage-deflate",
            "permessage-deflate; server_max_window_bits=12; client_max_window_bits=12",
            "permessage-deflate; client_max_window_bits, permessage-deflate",
            "permessage-deflate; client_max_window_bits=\"10\", x-webkit-deflate-frame",
            "bbf-usp-protocol; eid=\"proto::x\"",
            "",
        ] {
            let legal = !extensions.contains("::");
            assert_eq!(offer("-", extensions).is_ok(), legal, "{extensions}");
        }
        assert_eq!(offer("chat, superchat", "-"), Ok(()));
        assert_eq!(
            offer("base64url.bearer.authorization.k8s.io.ZXlK_-, v4.channel.k8s.io", "-"),
            Ok(())
        );
        assert_eq!(offer("", ""), Ok(()), "an empty list is the server's to judge");
    }

    #[test]
    fn illegal_offers_are_refused() {
        for protocol in ["a b", "a/b", "a, a", "\"a\"", "a;b", "ä", "a, b, a"] {
            assert_eq!(offer(protocol, "-"), Err(Fault::Protocols), "{protocol}");
        }
        for extensions in [
            "permessage-deflate; server_max_window_bits=7",
            "permessage-deflate; server_max_window_bits=16",
            "permessage-deflate; server_max_window_bits=08",
            "permessage-deflate; server_max_window_bits=99999999999999999999",
            "permessage-deflate; server_max_window_bits=-8",
            "permessage-deflate; server_max_window_bits",
            "permessage-deflate; client_max_window_bits=7",
            "PerMessage-Deflate; client_max_window_bits=7",
            "permessage-deflate; client_no_context_takeover=1",
            "permessage-deflate; client_no_context_takeover; client_no_context_takeover",
            "permessage-deflate; client_max_window_bits; client_max_window_bits=9",
            "permessage-deflate;",
            "permessage-deflate; =1",
            "permessage-deflate; a=\"b",
            "permessage-deflate; a=\"b,c\"",
            "permessage-deflate; a=\"\"",
            "; a",
            "a b",
            "a; b c",
            "a; b = c",
        ] {
            assert_eq!(offer("-", extensions), Err(Fault::Extensions), "{extensions}");
        }
    }

    #[test]
    fn offers_are_bounded_together() {
        let protocols: Vec<String> = (0..TOKENS_MAX - 2).map(|n| format!("p{n}")).collect();
        let protocols = protocols.join(",");
        assert_eq!(offer(&protocols, "x; y"), Ok(()));
        assert_eq!(offer(&protocols, "x; y; z"), Err(Fault::TooManyTokens));
        assert_eq!(offer(&protocols, "x; y, z"), Err(Fault::TooManyTokens));
        let long = "p".repeat(NEGOTIATION_MAX - 1);
        assert_eq!(offer(&long, "x"), Ok(()));
        assert_eq!(offer(&long, "xx"), Err(Fault::NegotiationTooLong));
    }

    #[test]
    fn a_choice_is_one_of_the_offers() {
        const YES: Result<(bool, bool), Nonsense> = Ok((true, false));
        const NO: Result<(bool, bool), Nonsense> = Err(Nonsense::Extensions);
        let pmd = "permessage-deflate";
        for (offered, chosen, verdict) in [
            ("-", "-", Ok((false, false))),
            (pmd, "-", Ok((false, false))),
            (pmd, "", Ok((false, false))),
            (pmd, pmd, YES),
            (pmd, "PERMESSAGE-DEFLATE", YES),
            ("-", pmd, NO),
            ("x", pmd, NO),
            ("x", "x; a=b", Ok((false, true))),
            (pmd, "permessage-deflate, permessage-deflate", NO),
            (
                pmd,
                "permessage-deflate; server_no_context_takeover; server_max_window_bits=15",
                YES,
            ),
            (pmd, "permessage-deflate; server_max_window_bits=16", NO),
            (pmd, "permessage-deflate; server_max_window_bits=7", NO),
            (pmd, "permessage-deflate; server_max_window_bits=2147483648", NO),
            (pmd, "permessage-deflate; server_max_window_bits", NO),
            (
                pmd,
                "permessage-deflate; server_max_window_bits=9; server_max_window_bits=9",
                NO,
            ),
            (pmd, "permessage-deflate; unknown", NO),
            (pmd, "permessage-deflate; client_max_window_bits=9", NO),
            (
                "permessage-deflate; client_max_window_bits",
                "permessage-deflate; client_max_window_bits=9",
                YES,
            ),
            (
                "permessage-deflate; client_max_window_bits",
                "permessage-deflate; client_max_window_bits",
                NO,
            ),
            (
                "permessage-deflate, permessage-deflate; client_max_window_bits",
                "permessage-deflate; client_max_window_bits=15",
                YES,
            ),
        ] {
            let agreed = check_choice(&fields("-", offered), &fields("-", chosen)).map(|a| (a.deflate, a.other));
            assert_eq!(agreed, verdict, "{offered} → {chosen}");
        }
        for (offered, chosen, legal) in [
            ("a, b", "b", true),
            ("a, b", "-", true),
            ("a, b", "B", false),
            ("a, b", "a, b", false),
            ("a, b", "", false),
            ("-", "a", false),
            ("a", "c", false),
        ] {
            let agreed = check_choice(&fields(offered, "-"), &fields(chosen, "-"));
            assert_eq!(agreed.is_ok(), legal, "{offered} → {chosen}");
        }
    }
}
