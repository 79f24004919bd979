//! Where traces are sent.

use greenroom_core::limits::TRACE_SAMPLE;

use super::super::Tracing;
use super::super::problem::Problem;
use super::super::written::{self, Field};
use super::Checker;
use crate::trace::{CAN_EXPORT, endpoint};

impl Checker<'_> {
    pub(super) fn tracing(&mut self, field: Field<written::Tracing>) -> Tracing {
        let written = field.present().map(|written| written.value).unwrap_or_default();
        if written.endpoint.is_absent() {
            self.note(
                "tracing.endpoint",
                "none, unless OTEL_EXPORTER_OTLP_ENDPOINT says so",
                None,
            );
        }
        let place = written.endpoint.place().cloned();
        let endpoint = self.text("tracing.endpoint", written.endpoint, |text| endpoint(text));
        if let (false, Some(place)) = (CAN_EXPORT, &place) {
            let problem = Problem::new("`tracing.endpoint` is set, and this greenroom was built without traces");
            let help = "leave it out, or build greenroom with its feature `otlp`";
            self.problems.add(problem.at(place).help(help));
        }
        let (key, most) = ("tracing.sample_per_mille", TRACE_SAMPLE);
        Tracing {
            endpoint: endpoint.map(|endpoint| endpoint.value),
            sample_per_mille: self.number(key, written.sample_per_mille, most, most),
        }
    }
}
