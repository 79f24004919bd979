//! Decides which request targets and hosts are legal, so that one authority
//! decides where a request goes (RFC 9112 §3.2).
//!
//! Stricter than the grammar where nothing real needs the rest: visible ASCII
//! only, no fragment, hosts of letters, digits, `-`, `.`, `_`, `~`, or an IPv6
//! address in brackets, and a port, if any, that is one. An absolute target is
//! legal when it is plain (`http` or `ws`), names exactly the Host, and has a
//! path; only its path is passed on.

use super::fault::Fault;
use std::net::Ipv6Addr;

/// Checks `target` and says where in it the part to pass on begins.
pub(super) fn check(method: &str, target: &str, host: Option<&str>) -> Result<usize, Fault> {
    if !target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
        return Err(Fault::Target);
    }
    let whole = match method {
        "CONNECT" => is_host(target) && target.contains(':'),
        "OPTIONS" if target == "*" => true,
        _ => target.starts_with('/'),
    };
    if whole {
        return Ok(0);
    }
    let rest = ["http://", "ws://"]
        .iter()
        .find(|scheme| super::fields::has_prefix(target, scheme))
        .map(|scheme| &target[scheme.len()..])
        .filter(|_| method != "CONNECT")
        .ok_or(Fault::Target)?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if !is_host(authority) {
        return Err(Fault::Target);
    }
    if host.is_some_and(|host| !host.eq_ignore_ascii_case(authority)) {
        return Err(Fault::OtherHost);
    }
    if !path.starts_with('/') {
        return Err(Fault::Target);
    }
    Ok(target.len() - path.len())
}

/// Whether `text` is `host` or `host:port`.
pub(super) fn is_host(text: &str) -> bool {
    let (name_is_legal, rest) = match text.strip_prefix('[') {
        Some(inner) => match inner.split_once(']') {
            Some((address, rest)) => (address.parse::<Ipv6Addr>().is_ok(), rest),
            None => return false,
        },
        None => {
            let (name, rest) = text.split_at(text.find(':').unwrap_or(text.len()));
            let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
            (!name.is_empty() && name.bytes().all(legal), rest)
        }
    };
    name_is_legal && (rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port))
}

/// What a reader that tidies paths up may do beside decoding percent-encoded letters and dots and resolving dot segments.
#[derive(Clone, Copy)]
#[allow(clippy::struct_excessive_bools)] // each reader does some of these, and no two the same
struct Tidying {
    /// `%2f` and `%5c` are decoded.
    slashes: bool,
    /// A backslash is a slash.
    backslash: bool,
    /// Parameters (`;x=1`) are dropped.
    params: bool,
    /// Empty segments are dropped.
    merge: bool,
}

/// How readers that tidy paths up would see `path`, where not as it stands. They differ: Node's `URL` keeps
/// empty segments, nginx merges them; some decode `%2f` before they resolve dot segments, some never.
#[must_use]
pub fn other_readings(path: &str) -> Vec<String> {
    let is_plain = !path.contains(['%', ';', '\\']) && !path.contains("//") && !path.contains("/.");
    if is_plain {
        return Vec::new();
    }
    let mut others = Vec::new();
    for bits in 0..16_u8 {
        let other = tidied(
            path,
            Tidying {
                slashes: bits & 1 != 0,
                backslash: bits & 2 != 0,
                params: bits & 4 != 0,
                merge: bits & 8 != 0,
            },
        );
        if other != path && !others.contains(&other) {
            others.push(other);
        }
    }
    others
}

fn tidied(path: &str, how: Tidying) -> String {
    let decoded = decode(path, how.slashes);
    let is_end = |c| c == '/' || how.backslash && c == '\\';
    let mut segments: Vec<&str> = Vec::new();
    let mut ends_open = false;
    for segment in decoded.strip_prefix('/').unwrap_or(&decoded).split(is_end) {
        let bare = match segment.split_once(';') {
            Some((bare, _)) if how.params => bare,
            Some(_) | None => segment,
        };
        ends_open = matches!(bare, "." | "..") || bare.is_empty() && how.merge;
        match bare {
            ".." => drop(segments.pop()),
            _ if ends_open => {}
            bare => segments.push(bare),
        }
    }
    let mut other = format!("/{}", segments.join("/"));
    if ends_open && other.len() > 1 {
        other.push('/');
    }
    other
}

/// Decodes what stands for itself in a path, and, with `slashes`, what separates its segments; the rest
/// keeps its meaning only encoded.
fn decode(path: &str, slashes: bool) -> String {
    let mut out = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        let byte = rest
            .get(at + 1..at + 3)
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match byte {
            Some(byte) if byte.is_ascii_graphic() && byte != b'%' && (slashes || !matches!(byte, b'/' | b'\\')) => {
                out.push(char::from(byte));
                rest = &rest[at + 3..];
            }
            Some(_) | None => {
                out.push('%');
                rest = &rest[at + 1..];
            }
        }
    }
    out.push_str(rest);
    out
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.len() <= 5 && text.parse::<u16>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        for legal in [
            "a",
            "a.b:80",
            "localhost:8080",
            "127.0.0.1",
            "[::1]",
            "[::1]:80",
            "my_app",
            "A-b.C.",
            "a:0",
        ] {
            assert!(is_host(legal), "{legal}");
        }
        for illegal in [
            "", ":80", "a:", "a:b", "a:+1", "a:65536", "a:000080", "a@b", "a:80@b", "u:p@b", "a/b", "a b", "a,b",
            "::1", "[::1", "[::1]80", "[a]", "a?b", "a#b", "a%00", "ä", "a\\b", "[::1]:",
        ] {
            assert!(!is_host(illegal), "{illegal}");
        }
    }

    #[test]
    fn a_path_that_can_be_read_in_two_ways_is_known() {
        for same in [
            "/",
            "/a",
            "/a/",
            "/a/b.c",
            "/a%20b",
            "/a%25b",
            "/a/...",
            "/.well-known/x",
        ] {
            assert_eq!(other_readings(same), [""; 0], "{same}");
        }
        for (path, other) in [
            ("/ws/../admin", "/admin"),
            ("/ws/%2e%2E/admin", "/admin"),
            ("/ws%2f..%2Fadmin", "/admin"),
            ("//admin", "/admin"),
            ("/ws//x", "/ws/x"),
            ("/ws\\..\\admin", "/admin"),
            ("/%61dmin", "/admin"),
            ("/admin;x=1/y", "/admin/y"),
            ("/a;/..;/b", "/b"),
            ("/./a/.", "/a/"),
            ("/../..", "/"),
            ("/a/b/..", "/a/"),
            ("/%2", "/%2"),
        ]
        .into_iter()
        .filter(|(path, other)| path != other)
        {
            assert!(other_readings(path).iter().any(|reading| reading == other), "{path}");
        }
    }

    #[test]
    fn targets() {
        for (method, target, verdict) in [
            ("GET", "/", Ok(0)),
            ("GET", "/a/../b?x={}|y", Ok(0)),
            ("GET", "//other/x", Ok(0)),
            ("GET", "*", Err(Fault::Target)),
            ("OPTIONS", "*", Ok(0)),
            ("GET", "a/b", Err(Fault::Target)),
            ("GET", "/a#b", Err(Fault::Target)),
            ("GET", "/ä", Err(Fault::Target)),
            ("GET", "/\u{7f}", Err(Fault::Target)),
            ("GET", "http://host:80/x", Ok(14)),
            ("GET", "HTTP://HOST:80/x", Ok(14)),
            ("GET", "ws://host:80/x", Ok(12)),
            ("GET", "wss://host:80/x", Err(Fault::Target)),
            ("GET", "http://host/x", Err(Fault::OtherHost)),
            ("GET", "http://other:80/x", Err(Fault::OtherHost)),
            ("GET", "http://u@host:80/x", Err(Fault::Target)),
            ("GET", "http://host:80@evil/x", Err(Fault::Target)),
            ("GET", "http://host:80", Err(Fault::Target)),
            ("GET", "http://host:80?/x", Err(Fault::Target)),
            ("GET", "http:///x", Err(Fault::Target)),
            ("CONNECT", "host:80", Ok(0)),
            ("CONNECT", "host", Err(Fault::Target)),
            ("CONNECT", "http://host:80/", Err(Fault::Target)),
        ] {
            assert_eq!(check(method, target, Some("host:80")), verdict, "{method} {target}");
        }
        assert_eq!(
            check("GET", "http://any/x", None),
            Ok(10),
            "HTTP/1.0 may come without Host"
        );
    }
}
