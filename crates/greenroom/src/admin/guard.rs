//! Who may ask, and tell.
//!
//! At the socket: processes of greenroom's own user, and root; its mode says so, and the
//! kernel's word about the peer once more. At the address: who brings the token. A page of
//! another site that a browser of this machine shows is kept out twice: it would send an
//! `Origin` or `Sec-Fetch-Site`, and a name that was bound anew to a loopback address
//! (DNS rebinding) would stand in `Host`.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::net::UnixStream;

use super::api::Problem;
use crate::config::Secret;

/// Whether the other end of the socket is of our own user, or root.
pub(super) fn is_ours(stream: &UnixStream) -> bool {
    let own = rustix::process::geteuid().as_raw();
    stream
        .peer_cred()
        .is_ok_and(|peer| peer.uid() == own || peer.uid() == 0)
}

/// What the address asks of whoever comes.
#[derive(Clone)]
pub(super) struct Rule {
    pub(super) token: Option<Secret>,
    /// The address as configured.
    pub(super) address: String,
}

/// Lets a request at the address through, or says why not.
pub(super) async fn at_address(State(rule): State<Rule>, request: Request, next: Next) -> Response {
    match rule.judge(request.headers()) {
        Ok(()) => next.run(request).await,
        Err((status, problem)) => (status, axum::Json(problem)).into_response(),
    }
}

impl Rule {
    fn judge(&self, headers: &HeaderMap) -> Result<(), (StatusCode, Problem)> {
        let refuse = |status, error: &str, help: &str| {
            Err((
                status,
                Problem {
                    error: error.into(),
                    help: help.into(),
                },
            ))
        };
        if headers.contains_key(header::ORIGIN) || headers.contains_key("sec-fetch-site") {
            return refuse(
                StatusCode::FORBIDDEN,
                "a browser's request is not served here",
                "ask with a program such as curl",
            );
        }
        let mut hosts = headers.get_all(header::HOST).iter();
        let host = match (hosts.next(), hosts.next()) {
            (Some(only), None) => only.to_str().ok(),
            (None, _) | (Some(_), Some(_)) => None,
        };
        if !host.is_some_and(|host| self.is_own(host)) {
            return refuse(
                StatusCode::FORBIDDEN,
                "the Host of the request is not this address",
                "ask by its IP address or as localhost",
            );
        }
        let Some(token) = &self.token else {
            return Ok(());
        };
        let brought = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let brought = brought.and_then(|value| value.strip_prefix("Bearer "));
        if brought.is_some_and(|brought| is_equal(brought.as_bytes(), token.0.as_bytes())) {
            return Ok(());
        }
        refuse(
            StatusCode::UNAUTHORIZED,
            "the request brings no token, or a wrong one",
            "send `Authorization: Bearer TOKEN` with the token of the configuration (admin.token)",
        )
    }

    /// An IP address, a loopback name, or the host that is configured; a port does not matter.
    fn is_own(&self, host: &str) -> bool {
        let name = match host.rfind(']') {
            Some(end) => &host[..=end],
            None => host.split(':').next().unwrap_or(host),
        };
        let configured = self
            .address
            .rsplit_once(':')
            .map_or(self.address.as_str(), |(host, _)| host);
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        bare.parse::<std::net::IpAddr>().is_ok()
            || name.eq_ignore_ascii_case("localhost")
            || name.eq_ignore_ascii_case(configured)
    }
}

/// Compares without telling by its time how much was right.
fn is_equal(a: &[u8], b: &[u8]) -> bool {
    let differences = a.iter().zip(b).fold(0, |sum, (a, b)| sum | (a ^ b));
    a.len() == b.len() && std::hint::black_box(differences) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(pairs: &[(&'static str, &'static str)]) -> u16 {
        let rule = Rule {
            token: Some(Secret("sesame".into())),
            address: "admin.test:9090".into(),
        };
        let headers = pairs.iter().map(|(name, value)| {
            let name = header::HeaderName::from_static(name);
            (name, header::HeaderValue::from_static(value))
        });
        match rule.judge(&headers.collect()) {
            Ok(()) => 200,
            Err((status, _)) => status.as_u16(),
        }
    }

    #[test]
    fn only_who_brings_the_token_and_is_no_page_of_another_site_is_served() {
        let token = ("authorization", "Bearer sesame");
        for host in [
            "127.0.0.1:9090",
            "[::1]:9090",
            "localhost",
            "10.0.0.7:1",
            "admin.test:9090",
            "ADMIN.test",
        ] {
            assert_eq!(judged(&[("host", host), token]), 200, "{host}");
        }
        for host in [
            "evil.test",
            "evil.test:9090",
            "127.0.0.1.evil.test",
            "admin.test.evil",
            "",
        ] {
            assert_eq!(judged(&[("host", host), token]), 403, "{host}");
        }
        assert_eq!(judged(&[token]), 403, "no Host");
        let two = [("host", "localhost"), ("host", "evil.test"), token];
        assert_eq!(judged(&two), 403, "whose is it?");
        let host = ("host", "localhost");
        for origin in ["http://localhost:9090", "null", "https://evil.test"] {
            assert_eq!(judged(&[host, token, ("origin", origin)]), 403, "{origin}");
        }
        assert_eq!(judged(&[host, token, ("sec-fetch-site", "cross-site")]), 403);
        for wrong in ["Bearer sesam", "Bearer sesame2", "Bearer ", "sesame", "Basic sesame"] {
            assert_eq!(judged(&[host, ("authorization", wrong)]), 401, "{wrong}");
        }
        assert_eq!(judged(&[host]), 401);
    }
}
