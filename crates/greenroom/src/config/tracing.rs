//! Where traces of handshakes are sent, and of how many.

use greenroom_core::limits::TRACE_SAMPLE;

/// See the module's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tracing {
    /// Where a collector takes OTLP over HTTP: a whole URL. `None`: the environment says so, or nowhere.
    pub endpoint: Option<String>,
    /// Of 1,000 handshakes that bring no trace context of their own, so many are traced.
    pub sample_per_mille: usize,
}

impl Default for Tracing {
    fn default() -> Self {
        Self {
            endpoint: None,
            sample_per_mille: TRACE_SAMPLE,
        }
    }
}
