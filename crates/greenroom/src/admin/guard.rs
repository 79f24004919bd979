//! Who may ask, and tell.
//!
//! At the socket: processes of greenroom's own user, and root; its mode says so, and the
//! kernel's word about the peer once more. At the address: who brings the token. A page of
//! another site that a browser of this machine shows is kept out twice: it would send an
//! `Origin` or `Sec-Fetch-Site`, and a name that was bound anew to a loopback address
//! (DNS rebinding) would stand in `Host`; and each POST must be JSON, which no page sends unasked. Each answer there says that no page may read, embed or frame it.
//!
//! Who guesses tokens is not listened to for a while (`greenroom_core::guesses`). Health needs no token and no
//! certain Host, as platforms ask for it by names of their own; to a strange name it says yes or no and no words.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use greenroom_core::guesses::Guesses;
use greenroom_core::limits::ADDRESS_BITS;
use tokio::net::UnixStream;

use super::Asked;
use super::api::Problem;
use super::by::By;
use crate::clock;
use crate::config::Secret;
use crate::front::address_prefix;
use crate::telemetry::Log;

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
    /// The address as configured.
    pub(super) address: String,
    /// Who brought wrong tokens.
    pub(super) guesses: Arc<Mutex<Guesses>>,
    pub(super) log: Log,
}

/// Lets a request at the address through, or says why not.
pub(super) async fn at_address(
    State((rule, asked)): State<(Rule, Arc<Asked>)>,
    request: Request,
    next: Next,
) -> Response {
    let house = asked.house(); // a reload may have taken another token
    let token = house.config.admin.token.as_ref();
    match rule.judge(token, request.headers(), request.uri().authority(), peer(&request)) {
        Ok(()) => next.run(request).await,
        Err(refused) => refused.into_response(),
    }
}

/// Lets a request for health through, unless a page asks.
pub(super) async fn health_at_address(State(rule): State<Rule>, request: Request, next: Next) -> Response {
    // A person who looks by himself is no page.
    let site = request.headers().get("sec-fetch-site");
    if request.headers().contains_key(header::ORIGIN) || site.is_some_and(|site| site != "none") {
        return no_browser().into_response();
    }
    let is_told = rule.is_for_us(request.headers(), request.uri().authority());
    let mut answer = next.run(request).await;
    if !is_told {
        *answer.body_mut() = Body::empty();
        answer.headers_mut().remove(header::CONTENT_LENGTH);
    }
    answer
}

/// What stands in each answer at the address: a browser gives none of it to a page, and shows it in none.
pub(super) async fn fenced(request: Request, next: Next) -> Response {
    const FENCE: [(HeaderName, &str); 6] = [
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; frame-ancestors 'none'",
        ),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    let mut answer = next.run(request).await;
    for (name, value) in FENCE {
        answer.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    answer
}

/// Lets a POST through that is said to be JSON, or comes to the socket. It must say so also where its body may be left out: then a page
/// sends it nowhere without leave (Fetch §4.8), whatever a browser says of it else.
pub(super) async fn said_to_be_json(request: Request, next: Next) -> Response {
    let at_socket = matches!(request.extensions().get::<By>(), Some(By::Socket { .. }));
    let mut kinds = request.headers().get_all(header::CONTENT_TYPE).iter();
    let is_json = match (kinds.next(), kinds.next()) {
        (Some(only), None) => only.to_str().is_ok_and(is_json),
        (None, _) | (Some(_), Some(_)) => false,
    };
    if at_socket || is_json {
        return next.run(request).await;
    }
    let error = "the request is not said to be JSON";
    let help = "send `Content-Type: application/json`, also without a body";
    refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, error, help).into_response()
}

/// `application/json`, with parameters or not.
fn is_json(kind: &str) -> bool {
    let essence = kind.split(';').next().unwrap_or(kind);
    essence.trim().eq_ignore_ascii_case("application/json")
}

/// Where a peer is counted: a client of IPv6 has a network of addresses.
pub(super) fn network(peer: SocketAddr) -> IpAddr {
    address_prefix(peer.ip(), ADDRESS_BITS)
}

/// Where a request comes from.
fn peer(request: &Request) -> Option<IpAddr> {
    match request.extensions().get::<By>() {
        Some(By::Address(peer)) => Some(network(*peer)),
        _ => None,
    }
}

/// Why a request is not served, and after how many seconds it may be.
#[derive(Debug)]
struct Refused {
    status: StatusCode,
    problem: Problem,
    after: Option<u64>,
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let mut answer = (self.status, axum::Json(self.problem)).into_response();
        if let Some(after) = self.after {
            answer
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(after));
        }
        answer
    }
}

fn refused(status: StatusCode, error: &str, help: &str) -> Refused {
    let problem = Problem {
        error: error.into(),
        help: help.into(),
    };
    let after = None;
    Refused { status, problem, after }
}

fn no_browser() -> Refused {
    let error = "a browser's request is not served here";
    refused(StatusCode::FORBIDDEN, error, "ask with a program such as curl")
}

impl Rule {
    fn judge(
        &self,
        token: Option<&Secret>,
        headers: &HeaderMap,
        target: Option<&Authority>,
        peer: Option<IpAddr>,
    ) -> Result<(), Refused> {
        let refuse = |status, error: &str, help: &str| Err(refused(status, error, help));
        if headers.contains_key(header::ORIGIN) || headers.contains_key("sec-fetch-site") {
            return Err(no_browser());
        }
        if !self.is_for_us(headers, target) {
            return refuse(
                StatusCode::FORBIDDEN,
                "the Host of the request is not this address",
                "ask by its IP address or as localhost",
            );
        }
        let Some(token) = token else {
            return Ok(());
        };
        let Some(brought) = headers.get(header::AUTHORIZATION) else {
            return Err(no_token());
        };
        self.not_guessing(peer)?;
        let brought = brought.as_bytes().strip_prefix(b"Bearer ");
        if brought.is_some_and(|brought| is_equal(brought, token.0.as_bytes())) {
            return Ok(());
        }
        self.guessed(peer);
        Err(no_token())
    }

    /// Whether its address may try a token now.
    fn not_guessing(&self, peer: Option<IpAddr>) -> Result<(), Refused> {
        let guesses = self.guesses.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(left) = peer.and_then(|peer| guesses.shut(clock::now(), peer)) else {
            return Ok(());
        };
        let error = "too many wrong tokens came from this address";
        let help = "wait as long as Retry-After says, and send the token of the configuration (admin.token)";
        Err(Refused {
            after: Some(left.as_secs() + 1),
            ..refused(StatusCode::TOO_MANY_REQUESTS, error, help)
        })
    }

    fn guessed(&self, peer: Option<IpAddr>) {
        let Some(peer) = peer else { return };
        let mut guesses = self.guesses.lock().unwrap_or_else(PoisonError::into_inner);
        let is_last = guesses.wrong(clock::now(), peer);
        drop(guesses);
        if is_last {
            self.log.warn(format!(
                "many wrong tokens came from {peer} to the admin address: nobody there is listened to for a while"
            ));
        }
    }

    /// Whether the one Host is the address itself; of a target in absolute form its authority counts in place of what
    /// Host says (RFC 9112 §3.2.2).
    fn is_for_us(&self, headers: &HeaderMap, target: Option<&Authority>) -> bool {
        let mut hosts = headers.get_all(header::HOST).iter();
        let (Some(only), None) = (hosts.next(), hosts.next()) else {
            return false;
        };
        let host = target.map(Authority::as_str).or_else(|| only.to_str().ok());
        host.is_some_and(|host| self.is_own(host))
    }

    /// An IP address, a loopback name, or the host that is configured; which port does not matter, but it must be one.
    fn is_own(&self, host: &str) -> bool {
        let Some(name) = without_port(host) else {
            return false;
        };
        let configured = self
            .address
            .rsplit_once(':')
            .map_or(self.address.as_str(), |(host, _)| host);
        let in_brackets = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        in_brackets.is_some_and(|address| address.parse::<Ipv6Addr>().is_ok())
            || name.parse::<Ipv4Addr>().is_ok()
            || name.eq_ignore_ascii_case("localhost")
            || name.eq_ignore_ascii_case(configured)
    }
}

/// The host of `uri-host [ ":" port ]` (RFC 9110 §7.2), brackets included; `None`: it is not written so.
fn without_port(host: &str) -> Option<&str> {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => {
            let is_port = port.bytes().all(|byte| byte.is_ascii_digit()) && port.len() <= 5;
            is_port.then_some(name)?
        }
        Some(_) | None => host,
    };
    (!name.contains(':') || name.starts_with('[') && name.ends_with(']')).then_some(name)
}

fn no_token() -> Refused {
    refused(
        StatusCode::UNAUTHORIZED,
        "the request brings no token, or a wrong one",
        "send `Authorization: Bearer TOKEN` with the token of the configuration (admin.token)",
    )
}

/// Compares without telling by its time how much was right.
fn is_equal(a: &[u8], b: &[u8]) -> bool {
    let differences = a.iter().zip(b).fold(0, |sum, (a, b)| sum | (a ^ b));
    a.len() == b.len() && std::hint::black_box(differences) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Format;
    use greenroom_core::limits::GUESSES_MAX;

    fn rule() -> Rule {
        Rule {
            address: "admin.test:9090".into(),
            guesses: Arc::default(),
            log: Log::start(Format::Json),
        }
    }

    fn judged(pairs: &[(&'static str, &'static str)]) -> u16 {
        judged_by(&rule(), None, pairs)
    }

    fn judged_by(rule: &Rule, peer: Option<IpAddr>, pairs: &[(&'static str, &'static str)]) -> u16 {
        let headers = pairs.iter().map(|(name, value)| {
            let name = header::HeaderName::from_static(name);
            (name, header::HeaderValue::from_static(value))
        });
        match rule.judge(Some(&Secret("sesame".into())), &headers.collect(), None, peer) {
            Ok(()) => 200,
            Err(refused) => refused.status.as_u16(),
        }
    }

    /// A20. The right token is no exception, or a guess would still tell whether it was right.
    #[test]
    fn who_guesses_tokens_is_not_listened_to_and_nobody_else_suffers() {
        let rule = rule();
        let (one, other) = (Some(IpAddr::from([10, 0, 0, 1])), Some(IpAddr::from([10, 0, 0, 2])));
        let host = ("host", "localhost");
        let (right, wrong) = (("authorization", "Bearer sesame"), ("authorization", "Bearer nothing"));
        for _ in 0..GUESSES_MAX {
            assert_eq!(judged_by(&rule, one, &[host]), 401, "who brings none guesses nothing");
        }
        for _ in 1..GUESSES_MAX {
            assert_eq!(judged_by(&rule, one, &[host, wrong]), 401);
        }
        assert_eq!(judged_by(&rule, one, &[host, right]), 200);
        assert_eq!(judged_by(&rule, one, &[host, wrong]), 401);
        for token in [wrong, right] {
            assert_eq!(judged_by(&rule, one, &[host, token]), 429);
        }
        assert_eq!(judged_by(&rule, other, &[host, right]), 200);
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
            "[::1]evil.test",
            "[::1]:80evil.test",
            "[127.0.0.1",
            "127.0.0.1]",
            "[127.0.0.1]",
            "::1",
            "[::1",
            "127.0.0.1:80.evil",
            "127.0.0.1:80:80",
            "127.0.0.1:123456",
            "localhost:evil",
            "evil.test@localhost",
            "",
        ] {
            assert_eq!(judged(&[("host", host), token]), 403, "{host}");
        }
        assert_eq!(judged(&[token]), 403, "no Host");
        let absolute = |target: &str, host: &'static str| {
            let headers = [("host", host), token].map(|(name, value)| {
                let value = header::HeaderValue::from_static(value);
                (header::HeaderName::from_static(name), value)
            });
            let target = target.parse().unwrap();
            rule()
                .judge(
                    Some(&Secret("sesame".into())),
                    &headers.into_iter().collect(),
                    Some(&target),
                    None,
                )
                .is_ok()
        };
        assert!(absolute("localhost:9090", "evil.test"), "the target counts");
        assert!(!absolute("evil.test", "localhost"));
        assert!(!absolute("evil@localhost", "localhost"));
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
