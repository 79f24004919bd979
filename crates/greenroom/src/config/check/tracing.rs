//! Where traces are sent.

use greenroom_core::limits::TRACE_SAMPLE;

use super::super::Tracing;
use super::super::written::{self, Field};
use super::Checker;
use crate::trace::endpoint;

impl Checker<'_> {
    pub(super) fn tracing(&mut self, field: Field<written::Tracing>) -> Tracing {
        let written = field.present().map(|written| written.value).unwrap_or_default();
        if written.endpoint.is_absent() {
            self.note("tracing.endpoint", "that of the environment, or none", None);
        }
        let endpoint = self.text("tracing.endpoint", written.endpoint, endpoint);
        let (key, most) = ("tracing.sample_per_mille", TRACE_SAMPLE);
        Tracing {
            endpoint: endpoint.map(|endpoint| endpoint.value),
            sample_per_mille: self.number(key, written.sample_per_mille, most, most),
        }
    }
}
