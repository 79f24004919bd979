//! Decides which origins are meant by what is written, and whether a request's Origin (RFC 6454 §7) is one of them.
//!
//! Only a browser's Origin says something, and a browser writes it in one way: `scheme://host`, in lower case, with a
//! port only where it is not the scheme's own. So texts are compared, and what looks like anything else (a list, a
//! user, a path, a dot at the end) is nobody's origin. Pure; the time is linear in what is written (`ALLOWED_MAX`).

use std::fmt;

use super::host::{bare, host_pattern};
use super::model::{AllowedOrigin, HostPattern};

impl AllowedOrigin {
    /// Whether the request's Origin is this, for a request with this Host.
    fn is_for(&self, origin: &str, host: &str) -> bool {
        match self {
            Self::Null => origin == "null",
            Self::Exact(exact) => without_default_port(origin).eq_ignore_ascii_case(exact),
            Self::Below(scheme, end) => split(origin).is_some_and(|(of, _)| {
                let authority = &without_default_port(origin)[of.len() + "://".len()..];
                let begin = authority.len().checked_sub(end.len()).filter(|&begin| begin > 0);
                of.eq_ignore_ascii_case(scheme)
                    && begin.is_some_and(|begin| {
                        authority.as_bytes()[begin..].eq_ignore_ascii_case(end.as_bytes())
                            && authority.as_bytes()[..begin].split(|byte| *byte == b'.').all(is_label)
                    })
            }),
            // Whoever stands in front may have taken the TLS away, so either scheme; a page that is no web page has no host.
            Self::Same => split(origin).is_some_and(|(scheme, authority)| {
                let port = match scheme.to_ascii_lowercase().as_str() {
                    "http" => ":80",
                    "https" => ":443",
                    _ => return false,
                };
                let plain = |text: &str| text.strip_suffix(port).unwrap_or(text).to_ascii_lowercase();
                !bare(authority).is_empty() && plain(authority) == plain(host)
            }),
        }
    }

    /// Reads an origin, or many.
    pub(super) fn of(text: &str) -> Result<Self, String> {
        let lower = text.to_ascii_lowercase();
        match lower.as_str() {
            "same" => return Ok(Self::Same),
            "null" => return Ok(Self::Null),
            "*" => return Err("\"*\" is every origin: leave `origins` out for that".into()),
            _ => {}
        }
        let example = "write \"https://example.org\", or \"https://*.example.org\" for all hosts below it, or \"same\"";
        let Some((scheme, authority)) = lower.split_once("://") else {
            return Err(match host_pattern(&lower) {
                Ok(_) => format!("{text:?} has no scheme: write \"https://{lower}\""),
                Err(_) => format!("{text:?} is no origin: {example}"),
            });
        };
        let begins = scheme.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic());
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
        if !begins || !scheme.bytes().all(legal) {
            return Err(format!("{text:?} is no origin: {example}"));
        }
        if let "ws" | "wss" = scheme {
            let of_page = if scheme == "ws" { "http" } else { "https" };
            return Err(format!(
                "{text:?} is where a WebSocket goes, and an origin is where the page is from: write \"{of_page}://{authority}\""
            ));
        }
        if let Some(end) = authority.find(['/', '?', '#']) {
            let authority = &authority[..end];
            return Err(format!(
                "{text:?} has a path, and an origin has none: write \"{scheme}://{authority}\""
            ));
        }
        if authority.contains('@') {
            return Err(format!("{text:?} has a user, and an origin has none: {example}"));
        }
        let (host, port) = host_and_port(authority);
        let port = match port {
            None => String::new(),
            Some(port) => match port.parse::<u16>() {
                Ok(number) if number > 0 && number.to_string() == port => format!(":{port}"),
                _ => {
                    return Err(format!(
                        "{text:?} has a port that is none: it is a number from 1 to 65535"
                    ));
                }
            },
        };
        if host.ends_with('.') {
            return Err(format!("{text:?} has a dot at the end of its host: take it away"));
        }
        match host_pattern(host)? {
            HostPattern::Any => Err(format!("{text:?} is no origin: {example}")),
            HostPattern::Exact(host) => {
                let origin = format!("{scheme}://{host}{port}");
                Ok(Self::Exact(without_default_port(&origin).to_owned()))
            }
            HostPattern::Wildcard(end) => {
                let origin = format!("{scheme}://{end}{port}");
                let end = without_default_port(&origin)[scheme.len() + "://".len()..].to_owned();
                Ok(Self::Below(scheme.to_owned(), end))
            }
        }
    }
}

impl fmt::Display for AllowedOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(origin) => f.write_str(origin),
            Self::Below(scheme, end) => write!(f, "{scheme}://*{end}"),
            Self::Same => f.write_str("same"),
            Self::Null => f.write_str("null"),
        }
    }
}

/// Whether one of them is this request's Origin. `host` is its Host as it came.
pub(crate) fn is_allowed(allowed: &[AllowedOrigin], origin: &[u8], host: &str) -> bool {
    let Ok(origin) = std::str::from_utf8(origin) else {
        return false;
    };
    allowed.iter().any(|allowed| allowed.is_for(origin, host))
}

fn split(origin: &str) -> Option<(&str, &str)> {
    origin.split_once("://")
}

/// Host and port of an authority; an IPv6 address keeps its brackets.
fn host_and_port(authority: &str) -> (&str, Option<&str>) {
    let colon = match authority.rfind(']') {
        Some(end) => authority[end..].find(':').map(|at| end + at),
        None => authority.rfind(':'),
    };
    colon.map_or((authority, None), |at| (&authority[..at], Some(&authority[at + 1..])))
}

/// The origin without the port that is its scheme's own. A browser never writes it, a script may.
fn without_default_port(origin: &str) -> &str {
    let begins = |scheme: &str| {
        let begin = origin.as_bytes().get(..scheme.len());
        begin.is_some_and(|begin| begin.eq_ignore_ascii_case(scheme.as_bytes()))
    };
    let port = if begins("http://") {
        ":80"
    } else if begins("https://") {
        ":443"
    } else {
        return origin;
    };
    origin.strip_suffix(port).unwrap_or(origin)
}

/// Whether it can be between two dots of a host: nothing in it ends the host, or begins another.
fn is_label(label: &[u8]) -> bool {
    let legal = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    !label.is_empty() && label.iter().all(legal)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(written: &[&str]) -> Vec<AllowedOrigin> {
        written.iter().map(|text| AllowedOrigin::of(text).unwrap()).collect()
    }

    #[test]
    fn an_origin_is_kept_as_browsers_write_it() {
        for (text, kept) in [
            ("https://example.org", "https://example.org"),
            ("HTTPS://Example.ORG:443", "https://example.org"),
            ("http://example.org:80", "http://example.org"),
            ("http://example.org:443", "http://example.org:443"),
            ("https://*.Example.org", "https://*.example.org"),
            ("https://*.example.org:443", "https://*.example.org"),
            ("https://*.example.org:8443", "https://*.example.org:8443"),
            ("http://localhost:3000", "http://localhost:3000"),
            ("http://[0::1]:80", "http://[::1]"),
            ("chrome-extension://abcdef", "chrome-extension://abcdef"),
            ("SAME", "same"),
            ("null", "null"),
        ] {
            let read = AllowedOrigin::of(text).unwrap();
            assert_eq!(read.to_string(), kept, "{text}");
            assert_eq!(AllowedOrigin::of(kept), Ok(read), "{text}");
        }
    }

    #[test]
    fn what_is_no_origin_says_what_to_write() {
        for (text, said) in [
            ("example.org", "write \"https://example.org\""),
            ("*.example.org", "write \"https://*.example.org\""),
            ("https://example.org/", "write \"https://example.org\""),
            ("https://example.org/chat", "has a path"),
            ("https://example.org?x", "has a path"),
            ("wss://example.org", "write \"https://example.org\""),
            ("ws://example.org:81", "write \"http://example.org:81\""),
            ("https://user@example.org", "has a user"),
            ("https://example.org:0", "1 to 65535"),
            ("https://example.org:080", "1 to 65535"),
            ("https://example.org:99999", "1 to 65535"),
            ("https://example.org:", "1 to 65535"),
            ("https://example.org.", "dot"),
            ("https://bücher.example", "xn--"),
            ("https://*", "https://example.org"),
            ("https://", "*.example.org"),
            ("://example.org", "https://example.org"),
            ("*", "leave `origins` out"),
            ("", "https://example.org"),
            ("all", "https://all"),
        ] {
            let error = AllowedOrigin::of(text).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }

    #[test]
    fn an_exact_origin_is_that_and_nothing_that_looks_like_it() {
        let some = allowed(&["https://example.org", "http://localhost:3000"]);
        for origin in [
            "https://example.org",
            "HTTPS://EXAMPLE.ORG",
            "https://example.org:443",
            "http://localhost:3000",
        ] {
            assert!(is_allowed(&some, origin.as_bytes(), "h"), "{origin}");
        }
        for origin in [
            "",
            "null",
            "same",
            "https://",
            "http://example.org",
            "https://example.org:8443",
            "https://example.org.",
            "https://example.org/",
            "https://example.org.evil.example",
            "https://evil.example/https://example.org",
            "https://user@example.org",
            "https://example.org@evil.example",
            "https://example.org https://evil.example",
            "https://xexample.org",
            "https://a.example.org",
            "http://localhost",
            "http://localhost:30000",
            "example.org",
        ] {
            assert!(!is_allowed(&some, origin.as_bytes(), "example.org"), "{origin}");
        }
        assert!(!is_allowed(&some, b"https://example.org\xff", "h"));
    }

    #[test]
    fn hosts_below_one_have_a_label_before_it_and_nothing_else() {
        let some = allowed(&["https://*.example.org", "http://*.dev.example:8080"]);
        for origin in [
            "https://a.example.org",
            "https://a.b.Example.org",
            "https://a.example.org:443",
            "http://x.dev.example:8080",
        ] {
            assert!(is_allowed(&some, origin.as_bytes(), "h"), "{origin}");
        }
        for origin in [
            "https://example.org",
            "https://.example.org",
            "https://a..example.org",
            "http://a.example.org",
            "https://a.example.org:8443",
            "https://a.example.org.",
            "https://evil.example/.example.org",
            "https://evil.example#.example.org",
            "https://evil.example?a.example.org",
            "https://evil.example:80.example.org",
            "https://evil@a.example.org",
            "https://evil.example\\a.example.org",
            "https://a.example.org, https://evil.example",
            "http://x.dev.example",
            "http://xdev.example:8080",
        ] {
            assert!(!is_allowed(&some, origin.as_bytes(), "a.example.org"), "{origin}");
        }
    }

    #[test]
    fn the_same_is_the_requests_own_host_and_port() {
        let same = allowed(&["same"]);
        for (origin, host) in [
            ("https://example.org", "example.org"),
            ("https://example.org", "Example.org:443"),
            ("http://example.org", "example.org:80"),
            ("http://example.org:8080", "example.org:8080"),
            ("http://[::1]:8080", "[::1]:8080"),
        ] {
            assert!(is_allowed(&same, origin.as_bytes(), host), "{origin} {host}");
        }
        for (origin, host) in [
            ("https://example.org", "example.org:8443"),
            ("https://example.org:8443", "example.org"),
            ("https://example.org", "example.org:80"),
            ("http://example.org:8080", "example.org"),
            ("https://evil.example", "example.org"),
            ("chrome-extension://example.org", "example.org"),
            ("https://", ""),
            ("https://:443", ""),
            ("null", "null"),
            ("null", ""),
            ("https://user@example.org", "example.org"),
        ] {
            assert!(!is_allowed(&same, origin.as_bytes(), host), "{origin} {host}");
        }
        assert!(is_allowed(&allowed(&["null"]), b"null", ""));
        assert!(!is_allowed(&[], b"null", ""));
    }
}
