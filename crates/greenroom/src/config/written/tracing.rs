//! What can be written of traces.

use greenroom_core::limits::TRACE_SAMPLE;
use schemars::JsonSchema;

use super::{Field, Keys, Number, Read, Reader, Shape, join};
use crate::config::source::Place;
use crate::config::tree::Table;

written! {
    /// Traces of opening handshakes: one span for handshake, hold and dial, sent as OTLP (HTTP, protobuf). The client's
    /// `traceparent` is its parent, and the backend gets one of the same trace.
    struct Tracing {
        /// Where a collector takes them: `http://host:port`, to which `/v1/traces` is added, or with a path of its own. No TLS:
        /// let a collector on this machine send them on. A greenroom that was built without
        /// the feature `otlp` warns, and sends none.
        #[schemars(extend("x-default" = "`OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` or `OTEL_EXPORTER_OTLP_ENDPOINT` of the environment, else none", "examples" = ["http://127.0.0.1:4318"]))]
        endpoint: String,
        /// Of 1,000 handshakes without a valid `traceparent`, so many are traced; with one, its sampled flag decides.
        #[schemars(extend("default" = TRACE_SAMPLE, "minimum" = 1, "maximum" = TRACE_SAMPLE))]
        sample_per_mille: Number,
    }
}
