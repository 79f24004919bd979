//! Traces of opening handshakes: one span for handshake, hold and dial (docs/traces.md).
//!
//! ```text
//!  client ──traceparent──▶ Begun ──traceparent of the same trace, our span──▶ backend
//!                            │ at the end of the hold
//!                            ▼
//!                        try_send ──▶ export (feature `otlp`): batches to a collector
//! ```
//!
//! Who is not traced costs a look at one pointer; its `traceparent`, if it has one, passes untouched. A span is built when
//! the hold ends and put into a queue; where that is full it is dropped and counted, so a collector that is slow or
//! dead holds nobody up. Bounded by `TRACE_QUEUE`. No query, header value or address of a client is in a span.

mod context;
#[cfg(feature = "otlp")]
mod export;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use greenroom_core::limits::{TRACE_FLUSH, TRACE_QUEUE, TRACE_SAMPLE};
use greenroom_core::time::Time;
use tokio::sync::{mpsc, oneshot};

pub use context::{Context, Sent};

use crate::clock;
use crate::config::{Config, Tracing};
use crate::head::{Kind, Only};
use crate::telemetry::Log;

/// Whether this build can send traces anywhere.
pub const CAN_EXPORT: bool = cfg!(feature = "otlp");

/// A span's value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Text of the configuration or a word of greenroom's own.
    Text(String),
    /// A number.
    Number(i64),
    /// Yes or no.
    Flag(bool),
}

/// A span that is over.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// Which one.
    pub own: Context,
    /// The client's span, if it brought one.
    pub parent: Option<[u8; 8]>,
    /// What it is called: few names, as they are those of routes.
    pub name: String,
    /// When the handshake had arrived.
    pub start: SystemTime,
    /// When its hold was over.
    pub end: SystemTime,
    /// What is known of it.
    pub attributes: Vec<(&'static str, Value)>,
    /// A fault of the server or of greenroom.
    pub is_error: bool,
}

/// A handshake that is traced.
#[derive(Clone, Debug)]
pub struct Begun {
    own: Context,
    parent: Option<[u8; 8]>,
    at: (SystemTime, Time),
}

/// How a hold ended, and of whom.
#[derive(Clone, Debug)]
pub struct Ended {
    /// The route's path.
    pub path: String,
    /// Names of the configuration, numbers, words.
    pub attributes: Vec<(&'static str, Value)>,
    /// A fault of the server or of greenroom.
    pub is_error: bool,
}

/// To the exporter.
#[derive(Debug)]
#[cfg_attr(
    not(feature = "otlp"),
    allow(dead_code, reason = "without the feature there is no exporter to read it")
)]
pub(crate) enum Message {
    Span(Box<Span>),
    /// Tells when all that came before is sent, or given up.
    Flush(oneshot::Sender<()>),
}

/// What became of spans.
#[derive(Debug, Default)]
pub struct Counts {
    /// A collector has taken them.
    pub exported: AtomicU64,
    /// The queue was full.
    pub dropped: AtomicU64,
    /// The collector did not take them.
    pub failed: AtomicU64,
}

/// Where spans go.
#[derive(Debug)]
pub struct Tracer {
    sender: mpsc::Sender<Message>,
    sample_per_mille: usize,
    counts: Arc<Counts>,
}

impl Tracer {
    /// As the configuration and the environment have it; `None`: nothing is traced. Called within a runtime.
    pub fn start(config: &Config, log: &Log) -> Option<Self> {
        let Tracing {
            endpoint,
            sample_per_mille,
        } = &config.tracing;
        let found = match endpoint {
            Some(_) if !CAN_EXPORT => {
                log.warn("nothing is traced, although `tracing.endpoint` is set: this greenroom was built without the feature `otlp`");
                None
            }
            Some(url) => Some(url.clone()),
            None => of_environment(|name| std::env::var(name).ok()).unwrap_or_else(|problem| {
                log.warn(format!("nothing is traced: {problem}"));
                None
            }),
        };
        let (tracer, receiver) = Self::new(*sample_per_mille);
        begin_export(&found?, receiver, &tracer.counts, log).then_some(tracer)
    }

    fn new(sample_per_mille: usize) -> (Self, mpsc::Receiver<Message>) {
        let (sender, receiver) = mpsc::channel(TRACE_QUEUE);
        let tracer = Self {
            sender,
            sample_per_mille,
            counts: Arc::default(),
        };
        (tracer, receiver)
    }

    /// A handshake has arrived. `None`: it is not traced.
    pub(crate) fn begin(&self, request: &Kind) -> Option<Box<Begun>> {
        let parent = request.with_only("traceparent", |field| match field {
            Only::Value(value) => Context::parse(value),
            Only::Absent | Only::Several | Only::Ends => None,
        });
        if parent.is_some_and(|parent| !parent.is_sampled()) {
            return None; // its client's decision, which passes with its traceparent
        }
        let mut random = [0; 26];
        getrandom::fill(&mut random).ok()?;
        let (ids, chance) = random.split_at(24);
        let chance = usize::from(u16::from_ne_bytes(chance.try_into().ok()?));
        // Of 65,536 numbers 536 are over the last whole thousand: an error of 1 in 10,000 of a rate that is a guess.
        if parent.is_none() && chance % TRACE_SAMPLE >= self.sample_per_mille {
            return None;
        }
        let own = Context::new(parent, ids.try_into().ok()?);
        Some(Box::new(Begun {
            own,
            parent: parent.map(|parent| parent.span),
            at: (SystemTime::now(), clock::now()),
        }))
    }

    /// Its hold is over. Never waits.
    pub(crate) fn end(&self, begun: &Begun, ended: Ended) {
        let (start, arrived) = begun.at;
        let span = Span {
            own: begun.own,
            parent: begun.parent,
            name: format!("websocket {}", ended.path),
            start,
            end: start + clock::now().since(arrived),
            attributes: ended.attributes,
            is_error: ended.is_error,
        };
        if self.sender.try_send(Message::Span(Box::new(span))).is_err() {
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits, bounded, until what was said is sent: greenroom ends.
    pub async fn flush(&self) {
        let (done, told) = oneshot::channel();
        let flushed = async {
            if self.sender.send(Message::Flush(done)).await.is_ok() {
                let _ = told.await;
            }
        };
        let _ = tokio::time::timeout(TRACE_FLUSH, flushed).await;
    }

    /// Where nothing is traced.
    pub const NO_COUNTS: [(&'static str, u64); 3] = [("exported", 0), ("dropped", 0), ("failed", 0)];

    /// What became of spans, by word: a collector has taken them, the queue was full, the collector did not take them.
    pub fn counts(&self) -> [(&'static str, u64); 3] {
        let Counts {
            exported,
            dropped,
            failed,
        } = &*self.counts;
        let mut counts = Self::NO_COUNTS;
        for ((_, value), count) in counts.iter_mut().zip([exported, dropped, failed]) {
            *value = count.load(Ordering::Relaxed);
        }
        counts
    }
}

impl Begun {
    /// What the backend hears.
    pub(crate) fn sent(&self) -> Sent {
        Sent {
            context: self.own,
            is_root: self.parent.is_none(),
        }
    }

    /// How long ago it arrived.
    pub(crate) fn elapsed(&self, until: Time) -> Duration {
        until.since(self.at.1)
    }
}

#[cfg(feature = "otlp")]
fn begin_export(url: &str, receiver: mpsc::Receiver<Message>, counts: &Arc<Counts>, log: &Log) -> bool {
    match export::exporter(url) {
        Ok(exporter) => {
            tokio::spawn(export::run(
                exporter,
                url.to_owned(),
                receiver,
                Arc::clone(counts),
                log.clone(),
            ));
            true
        }
        Err(problem) => {
            log.warn(format!("nothing is traced: {problem}"));
            false
        }
    }
}

#[cfg(not(feature = "otlp"))]
fn begin_export(_: &str, _: mpsc::Receiver<Message>, _: &Arc<Counts>, _: &Log) -> bool {
    false
}

/// The whole URL of an endpoint, as it is written in a configuration.
pub fn endpoint(text: &str) -> Result<String, String> {
    let wrong = |why: &str| Err(format!("{why}: write it as http://host:port"));
    let Ok(uri) = text.parse::<http::Uri>() else {
        return wrong("it is no URL");
    };
    match (uri.scheme_str(), uri.authority()) {
        (Some("https"), _) => {
            return Err("traces are sent without TLS: name a collector on this machine, http://host:port, and let that send them on".into());
        }
        (Some("http"), Some(authority)) if !authority.as_str().contains('@') => {}
        (Some("http"), Some(_)) => return wrong("a login is not sent"),
        _ => return wrong("it is no http:// URL"),
    }
    if uri.query().is_some() {
        return wrong("a query is not sent");
    }
    let base = text.trim_end_matches('/');
    Ok(match uri.path() {
        "" | "/" => format!("{base}/v1/traces"),
        _ => text.to_owned(),
    })
}

/// What the standard variables of OpenTelemetry say.
fn of_environment(variable: impl Fn(&str) -> Option<String>) -> Result<Option<String>, String> {
    let get = |name: &str| variable(name).filter(|value| !value.is_empty());
    let is_off = get("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"))
        || get("OTEL_TRACES_EXPORTER").is_some_and(|value| value == "none");
    if is_off || !CAN_EXPORT {
        return Ok(None);
    }
    for (name, is_whole) in [
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", true),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", false),
    ] {
        if let Some(url) = get(name) {
            let base = if is_whole || url.ends_with("/v1/traces") {
                url
            } else {
                format!("{}/v1/traces", url.trim_end_matches('/'))
            };
            return endpoint(&base).map(Some).map_err(|why| format!("{name}: {why}"));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::parse_head;

    fn request(extra: &str) -> Kind {
        let head = format!(
            "GET /ws?token=secret HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{extra}\r\n"
        );
        parse_head(head.as_bytes()).unwrap()
    }

    #[test]
    fn the_client_decides_where_it_brings_a_context_and_a_broken_one_is_none() {
        let (tracer, _kept) = Tracer::new(TRACE_SAMPLE);
        let (rarely, _kept_too) = Tracer::new(1);
        let sampled = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n";
        for _ in 0..100 {
            let begun = rarely.begin(&request(sampled)).unwrap();
            let sent = begun.sent().context.to_string();
            assert!(
                sent.starts_with("00-0af7651916cd43dd8448eb211c80319c-") && sent.ends_with("-01"),
                "{sent}"
            );
            assert!(!sent.contains("b7ad6b7169203331") && !begun.sent().is_root);
        }
        let not = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00\r\n";
        assert!(tracer.begin(&request(not)).is_none());
        for broken in [
            "traceparent: 00-nonsense\r\n".to_owned(),
            sampled.repeat(2),
            String::new(),
        ] {
            let begun = tracer.begin(&request(&broken)).unwrap();
            let sent = begun.sent();
            assert!(
                sent.is_root && !sent.context.to_string().contains("0af7651916cd43dd"),
                "{broken}"
            );
        }
        let traced = (0..2_000).filter(|_| rarely.begin(&request("")).is_some()).count();
        assert!(traced < 50, "{traced} of 2000, at 1 of 1000");
    }

    #[test]
    fn what_does_not_fit_into_the_queue_is_dropped_and_counted() {
        let (tracer, _nobody_reads) = Tracer::new(TRACE_SAMPLE);
        let begun = tracer.begin(&request("")).unwrap();
        let ended = || Ended {
            path: "/ws".into(),
            attributes: Vec::new(),
            is_error: false,
        };
        for _ in 0..TRACE_QUEUE + 3 {
            tracer.end(&begun, ended());
        }
        assert_eq!(tracer.counts()[1], ("dropped", 3));
    }

    #[test]
    fn an_endpoint_is_a_url_without_tls_and_its_path_is_added_where_it_has_none() {
        let ok = |text: &str| endpoint(text).unwrap();
        assert_eq!(ok("http://127.0.0.1:4318"), "http://127.0.0.1:4318/v1/traces");
        assert_eq!(ok("http://collector:4318/"), "http://collector:4318/v1/traces");
        assert_eq!(ok("http://[::1]:4318/own"), "http://[::1]:4318/own");
        for wrong in [
            "https://a:1",
            "a:1",
            "http://",
            "grpc://a:1",
            "http://u:p@a:1",
            "http://a:1/x?y",
            "",
        ] {
            assert!(endpoint(wrong).is_err(), "{wrong}");
        }
    }

    #[cfg(feature = "otlp")]
    #[test]
    fn the_standard_variables_are_understood() {
        let of = |pairs: &[(&str, &str)]| {
            of_environment(|name| {
                pairs
                    .iter()
                    .find(|(key, _)| *key == name)
                    .map(|(_, value)| (*value).to_owned())
            })
        };
        let (base, whole) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT");
        let url = |text: &str| Ok(Some(text.to_owned()));
        assert_eq!(of(&[]), Ok(None));
        assert_eq!(of(&[(base, "http://a:1/x/")]), url("http://a:1/x/v1/traces"));
        assert_eq!(
            of(&[(base, "http://a:1"), (whole, "http://b:2/y")]),
            url("http://b:2/y")
        );
        assert_eq!(of(&[(base, "http://a:1"), ("OTEL_SDK_DISABLED", "TRUE")]), Ok(None));
        assert_eq!(of(&[(base, "http://a:1"), ("OTEL_TRACES_EXPORTER", "none")]), Ok(None));
        assert!(of(&[(base, "https://a:1")]).is_err());
    }
}
