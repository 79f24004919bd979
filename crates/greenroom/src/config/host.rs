//! Decides which hosts are meant by what is written, and whether a request's Host is one of them.
//!
//! A Host is taken as the head has it: any case, with or without a port or the root's dot. Pure, and without
//! allocation where it is compared.

use std::net::Ipv6Addr;

use super::model::HostPattern;

impl HostPattern {
    /// Whether it is for `host`, which has no port.
    pub(crate) fn is_for(&self, host: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(exact) => exact.eq_ignore_ascii_case(host),
            Self::Wildcard(end) => {
                // Bytes, as `host` may be cut within a character; more than the end, so that a label is before it.
                let begin = host.len().checked_sub(end.len()).filter(|&begin| begin > 0);
                begin.is_some_and(|begin| host.as_bytes()[begin..].eq_ignore_ascii_case(end.as_bytes()))
            }
        }
    }
}

/// Reads the hosts that something is for.
pub(super) fn host_pattern(text: &str) -> Result<HostPattern, String> {
    let lower = text.to_ascii_lowercase();
    if lower == "*" {
        return Ok(HostPattern::Any);
    }
    let example = "write example.org, or *.example.org for all hosts below it, or * for all";
    if let Some((_, rest)) = lower.split_once("://") {
        return Err(format!(
            "{text:?} is a URL: write the host alone, {:?}",
            rest.split(['/', ':']).next().unwrap_or("")
        ));
    }
    let name = lower.strip_suffix('.').unwrap_or(&lower);
    if let Some(inner) = name.strip_prefix('[') {
        let address = inner.strip_suffix(']').and_then(|inner| inner.parse::<Ipv6Addr>().ok());
        return match address {
            Some(address) => Ok(HostPattern::Exact(format!("[{address}]"))),
            None => Err(format!(
                "{text:?} is no host: write an IPv6 address in brackets and without port"
            )),
        };
    }
    if let Some((host, port)) = name.rsplit_once(':')
        && port.bytes().all(|byte| byte.is_ascii_digit())
    {
        return Err(format!(
            "{text:?} has a port: write {host:?}; the port is the listener's"
        ));
    }
    if !name.is_ascii() {
        return Err(format!(
            "{text:?} is not ASCII: browsers send such a name as xn--…, so write that"
        ));
    }
    let (end, is_wildcard) = match name.strip_prefix("*.") {
        Some(end) => (end, true),
        None => (name, false),
    };
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~');
    let is_label = |label: &str| !label.is_empty() && label.bytes().all(legal);
    if end.len() > 253 || !end.split('.').all(is_label) {
        return Err(format!("{text:?} is no host: {example}"));
    }
    Ok(if is_wildcard {
        HostPattern::Wildcard(format!(".{end}"))
    } else {
        HostPattern::Exact(end.to_owned())
    })
}

/// The host without port and without the root's dot.
pub(crate) fn bare(host: &str) -> &str {
    let name = match host.rfind(']') {
        Some(end) => &host[..=end],
        None => host.split(':').next().unwrap_or(host),
    };
    name.strip_suffix('.').unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_kept_as_it_is_compared() {
        for (text, expected) in [
            ("*", HostPattern::Any),
            ("Example.ORG", HostPattern::Exact("example.org".into())),
            ("example.org.", HostPattern::Exact("example.org".into())),
            ("*.Example.org", HostPattern::Wildcard(".example.org".into())),
            ("127.0.0.1", HostPattern::Exact("127.0.0.1".into())),
            ("[0::1]", HostPattern::Exact("[::1]".into())),
            ("my_app", HostPattern::Exact("my_app".into())),
        ] {
            assert_eq!(host_pattern(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_host_says_what_to_write() {
        for (text, said) in [
            ("https://example.org/x", "\"example.org\""),
            ("example.org:80", "write \"example.org\""),
            ("[::1]:80", "without port"),
            ("bücher.example", "xn--"),
            ("*.*.org", "*.example.org"),
            ("foo*.org", "*.example.org"),
            ("", "*.example.org"),
            (".org", "*.example.org"),
            ("a..b", "*.example.org"),
            ("a b", "*.example.org"),
        ] {
            let error = host_pattern(text).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }

    #[test]
    fn a_host_is_compared_without_case_port_and_the_roots_dot() {
        let exact = HostPattern::Exact("example.org".into());
        let wild = HostPattern::Wildcard(".example.org".into());
        for host in ["example.org", "EXAMPLE.org:8080", "example.org.", "example.org.:80"] {
            assert!(exact.is_for(bare(host)) && !wild.is_for(bare(host)), "{host}");
        }
        for host in ["a.example.org", "a.b.Example.ORG:1"] {
            assert!(wild.is_for(bare(host)) && !exact.is_for(bare(host)), "{host}");
        }
        for host in ["", "org", "xexample.org", ".example.org", "é.example.orgx"] {
            assert!(!wild.is_for(bare(host)) && !exact.is_for(bare(host)), "{host}");
        }
        assert!(HostPattern::Exact("[::1]".into()).is_for(bare("[::1]:80")));
    }
}
