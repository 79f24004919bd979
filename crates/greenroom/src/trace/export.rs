//! Sends spans to a collector: OTLP over HTTP with protobuf, in batches.
//!
//! One task, one request at a time. A collector that does not take a batch within `TRACE_EXPORT` has lost it: spans that
//! are sent again later would keep those that come now from being sent. That is counted, and said once until
//! it works again. The wire format is opentelemetry-otlp's; the connection is ours, one for each batch.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use greenroom_core::limits::{TRACE_ANSWER_MAX, TRACE_BATCH, TRACE_EXPORT, TRACE_GATHER};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::{Counts, Message, Span, Value};
use crate::telemetry::Log;

/// For one collector.
pub(super) fn exporter(url: &str) -> Result<SpanExporter, String> {
    let built = SpanExporter::builder()
        .with_http()
        .with_http_client(Client)
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(url)
        .with_timeout(TRACE_EXPORT)
        .build();
    let mut exporter = built.map_err(|error| error.to_string())?;
    // With what OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say.
    let mut resource = Resource::builder().with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
    if !["OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES"].iter().any(|name| {
        std::env::var(name).is_ok_and(|text| *name == "OTEL_SERVICE_NAME" || text.contains("service.name="))
    }) {
        resource = resource.with_service_name("greenroom");
    }
    exporter.set_resource(&resource.build());
    Ok(exporter)
}

/// Sends what comes, until nobody can say any more.
pub(super) async fn run(
    exporter: SpanExporter,
    url: String,
    mut receiver: mpsc::Receiver<Message>,
    counts: Arc<Counts>,
    log: Log,
) {
    let scope = InstrumentationScope::builder("greenroom")
        .with_version(env!("CARGO_PKG_VERSION"))
        .build();
    let mut is_well = true;
    while let Some((batch, flushed)) = gather(&mut receiver).await {
        let count = batch.len() as u64; // no usize is wider
        let spans: Vec<SpanData> = batch.into_iter().map(|span| exported(*span, &scope)).collect();
        if count > 0 {
            let sent = match timeout(TRACE_EXPORT, exporter.export(spans)).await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err(format!("no answer within {TRACE_EXPORT:?}")),
            };
            match &sent {
                Ok(()) => counts.exported.fetch_add(count, Ordering::Relaxed),
                Err(_) => counts.failed.fetch_add(count, Ordering::Relaxed),
            };
            if let (Err(why), true) = (&sent, is_well) {
                log.warn(format!(
                    "traces are lost, and no client waits for that: the collector at {url} does not take them ({why}); this is said once until it does"
                ));
            }
            is_well = sent.is_ok();
        }
        for done in flushed {
            let _ = done.send(());
        }
    }
}

type Gathered = (Vec<Box<Span>>, Vec<oneshot::Sender<()>>);

/// Waits for the first, and then a little for others. `None`: there will be none.
async fn gather(receiver: &mut mpsc::Receiver<Message>) -> Option<Gathered> {
    let (mut batch, mut flushed) = (Vec::new(), Vec::new());
    let mut next = receiver.recv().await;
    next.as_ref()?;
    let mut enough = pin!(tokio::time::sleep(TRACE_GATHER));
    loop {
        match next {
            Some(Message::Span(span)) => batch.push(span),
            Some(Message::Flush(done)) => flushed.push(done),
            None => break,
        }
        if batch.len() >= TRACE_BATCH || !flushed.is_empty() {
            break;
        }
        next = tokio::select! {
            next = receiver.recv() => next,
            () = &mut enough => break,
        };
    }
    Some((batch, flushed))
}

fn exported(span: Span, scope: &InstrumentationScope) -> SpanData {
    let attribute = |(name, value): (&'static str, Value)| match value {
        Value::Text(text) => KeyValue::new(name, text),
        Value::Number(number) => KeyValue::new(name, number),
        Value::Flag(flag) => KeyValue::new(name, flag),
    };
    SpanData {
        span_context: SpanContext::new(
            TraceId::from_bytes(span.own.trace),
            SpanId::from_bytes(span.own.span),
            TraceFlags::new(span.own.flags),
            false,
            TraceState::default(),
        ),
        parent_span_id: span.parent.map_or(SpanId::INVALID, SpanId::from_bytes),
        parent_span_is_remote: span.parent.is_some(),
        span_kind: SpanKind::Server,
        name: span.name.into(),
        start_time: span.start,
        end_time: span.end,
        attributes: span.attributes.into_iter().map(attribute).collect(),
        dropped_attributes_count: 0,
        events: Default::default(),
        links: Default::default(),
        status: if span.is_error {
            Status::error("")
        } else {
            Status::Unset
        },
        instrumentation_scope: scope.clone(),
    }
}

/// One connection for each request.
#[derive(Debug)]
struct Client;

impl HttpClient for Client {
    fn send_bytes<'c, 'f>(
        &'c self,
        request: Request<Bytes>,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'f>>
    where
        'c: 'f,
        Self: 'f,
    {
        Box::pin(send(request))
    }
}

async fn send(request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
    let (mut parts, body) = request.into_parts();
    let authority = parts.uri.authority().ok_or("the endpoint has no host")?.clone();
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((host, authority.port_u16().unwrap_or(80))).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    parts.uri = path.parse()?;
    parts.headers.insert(http::header::HOST, authority.as_str().parse()?);
    parts.headers.insert(http::header::CONNECTION, "close".parse()?);
    let exchange = async {
        let answer = sender.send_request(Request::from_parts(parts, Full::new(body))).await?;
        let (parts, body) = answer.into_parts();
        let body = Limited::new(body, TRACE_ANSWER_MAX).collect().await?.to_bytes();
        Ok::<_, HttpError>(Response::from_parts(parts, body))
    };
    let mut exchange = pin!(exchange);
    tokio::select! {
        answer = &mut exchange => answer,
        ended = connection => {
            ended?;
            exchange.await // its end may be told before its last bytes are taken
        }
    }
}
