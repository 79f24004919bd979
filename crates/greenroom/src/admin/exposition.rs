//! How metrics are written: the text format of Prometheus (0.0.4), or OpenMetrics (1.0), as who asks prefers.
//!
//! The two differ in what names the family of a counter and of build information, in units, and in the last line. Both
//! are written in one pass, without a registry: figures are read when they are asked for. Bounded by the families and
//! labels that the caller writes.

use std::fmt::Write as _;

use crate::histogram::Histogram;

/// See the module's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// Text format 0.0.4: what every scraper reads, and `curl` gets.
    Text,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

/// What a family is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Gauge,
    Counter,
    Histogram,
    /// A gauge that is always 1 and says something by its labels.
    Info,
}

/// Units that a name may end with.
const UNITS: [&str; 2] = ["seconds", "bytes"];

impl Format {
    /// As an `Accept` field asks for (RFC 9110 §12.5.1). OpenMetrics is chosen where it is named, with at least the
    /// weight of plain text; what speaks neither gets plain text, as a scrape that says nothing does.
    pub(super) fn accepted<'a>(fields: impl Iterator<Item = &'a str>) -> Self {
        let (mut text, mut open): (f32, f32) = (0.0, 0.0);
        for range in fields.flat_map(|field| field.split(',')) {
            let mut parts = range.split(';').map(str::trim);
            let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
            let (mut weight, mut version) = (1.0_f32, None);
            for (name, value) in parts.filter_map(|part| part.split_once('=')) {
                let (name, value) = (name.trim(), value.trim().trim_matches('"'));
                if name.eq_ignore_ascii_case("q") {
                    weight = value.parse().ok().filter(|q| (0.0..=1.0).contains(q)).unwrap_or(0.0);
                } else if name.eq_ignore_ascii_case("version") {
                    version = Some(value);
                }
            }
            match (kind.as_str(), version) {
                ("application/openmetrics-text", None | Some("1.0.0")) => open = open.max(weight),
                ("text/plain", None | Some("0.0.4")) => text = text.max(weight),
                _ => {}
            }
        }
        if open > 0.0 && open >= text {
            Self::OpenMetrics
        } else {
            Self::Text
        }
    }

    /// What a page of it is (RFC 9110 §8.3).
    pub(super) const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Pairs of a label and its value.
pub(super) type Labels<'a> = &'a [(&'a str, &'a str)];

/// A page of metrics on its way.
pub(super) struct Page {
    format: Format,
    out: String,
}

/// A family whose samples are written now.
pub(super) struct Family<'p> {
    page: &'p mut Page,
    name: &'static str,
    kind: Kind,
}

impl Page {
    pub(super) fn new(format: Format) -> Self {
        Self {
            format,
            out: String::new(),
        }
    }

    /// Begins a family. Its name is without `_total` and `_info`; a unit is the name's last word. The help is one
    /// sentence without line breaks, quotes or backslashes.
    pub(super) fn family(&mut self, kind: Kind, name: &'static str, help: &str) -> Family<'_> {
        debug_assert!(!name.ends_with("_total") && !name.ends_with("_info"));
        debug_assert!(!help.contains(['\n', '"', '\\']), "{name}");
        let (shown, word) = match (self.format, kind) {
            (Format::OpenMetrics, Kind::Info) => ("", "info"),
            (Format::Text, Kind::Info) => ("_info", "gauge"),
            (Format::OpenMetrics, Kind::Counter) => ("", "counter"),
            (Format::Text, Kind::Counter) => ("_total", "counter"),
            (_, Kind::Gauge) => ("", "gauge"),
            (_, Kind::Histogram) => ("", "histogram"),
        };
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(self.out, "# HELP {name}{shown} {help}.\n# TYPE {name}{shown} {word}");
        let unit = UNITS.iter().find(|unit| name.rsplit('_').next() == Some(**unit));
        if let (Format::OpenMetrics, Some(unit)) = (self.format, unit) {
            let _ = writeln!(self.out, "# UNIT {name} {unit}");
        }
        Family { page: self, name, kind }
    }

    /// The page.
    pub(super) fn end(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.out.push_str("# EOF\n");
        }
        self.out
    }
}

impl Family<'_> {
    /// One sample.
    pub(super) fn is(&mut self, labels: Labels<'_>, value: impl Into<Value>) -> &mut Self {
        let suffix = match self.kind {
            Kind::Counter => "_total",
            Kind::Info => "_info",
            Kind::Gauge | Kind::Histogram => "",
        };
        self.sample(suffix, labels, None, value.into());
        self
    }

    /// The samples of one histogram, in seconds.
    pub(super) fn observed(&mut self, labels: Labels<'_>, histogram: &Histogram) -> &mut Self {
        for (ms, within) in histogram.cumulative() {
            let le = format!("{:?}", ms as f64 / 1e3); // `1.0`, as OpenMetrics wants it
            self.sample("_bucket", labels, Some(&le), within.into());
        }
        let count = histogram.count();
        self.sample("_bucket", labels, Some("+Inf"), count.into());
        self.sample("_sum", labels, None, histogram.sum().as_secs_f64().into());
        self.sample("_count", labels, None, count.into());
        self
    }

    fn sample(&mut self, suffix: &str, labels: Labels<'_>, le: Option<&str>, value: Value) {
        let out = &mut self.page.out;
        out.push_str(self.name);
        out.push_str(suffix);
        let mut before = '{';
        let bound = le.map(|le| ("le", le));
        for (label, value) in labels.iter().copied().chain(bound) {
            out.push(before);
            before = ',';
            let _ = write!(out, "{label}=\"");
            for c in value.chars() {
                match c {
                    '\\' => out.push_str("\\\\"),
                    '"' => out.push_str("\\\""),
                    '\n' => out.push_str("\\n"),
                    c => out.push(c),
                }
            }
            out.push('"');
        }
        if before == ',' {
            out.push('}');
        }
        let _ = match value {
            Value::Whole(value) => writeln!(out, " {value}"),
            Value::Real(value) => writeln!(out, " {value}"),
        };
    }
}

/// A sample's value.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value {
    Whole(u64),
    Real(f64),
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Self::Whole(value)
    }
}

impl From<usize> for Value {
    fn from(value: usize) -> Self {
        Self::Whole(value as u64) // no usize is wider
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Whole(value.into())
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Real(value)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn page(format: Format) -> String {
        let mut page = Page::new(format);
        page.family(Kind::Info, "greenroom_build", "What it is")
            .is(&[("version", "1")], 1_u64);
        page.family(Kind::Counter, "greenroom_relayed_bytes", "What went")
            .is(&[("backend", "a\"\\\nb")], 7_u64);
        let mut histogram = Histogram::new(&[1, 1_000]);
        histogram.observe(Duration::from_millis(2));
        page.family(Kind::Histogram, "greenroom_wait_seconds", "Waits")
            .observed(&[], &histogram);
        page.end()
    }

    #[test]
    fn both_formats_are_as_their_specifications_have_them() {
        insta::assert_snapshot!(format!("{}\n---\n{}", page(Format::Text), page(Format::OpenMetrics)));
    }

    #[test]
    fn who_asks_gets_what_it_prefers_and_plain_text_where_nothing_is_said() {
        let prometheus2 = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        let prometheus3 = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.7,application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        let victoria = "text/plain;version=0.0.4;q=1,*/*;q=0.1";
        for (accept, format) in [
            (prometheus2, Format::OpenMetrics),
            (prometheus3, Format::OpenMetrics),
            (
                "application/openmetrics-text; version=\"1.0.0\"; charset=utf-8",
                Format::OpenMetrics,
            ),
            ("Application/OpenMetrics-Text", Format::OpenMetrics),
            (victoria, Format::Text),
            ("*/*", Format::Text),
            ("", Format::Text),
            ("application/json", Format::Text),
            ("application/openmetrics-text;version=0.0.1", Format::Text),
            ("application/openmetrics-text;q=0", Format::Text),
            ("application/openmetrics-text;q=NaN", Format::Text),
            ("application/openmetrics-text;q=0.4, text/plain;q=0.5", Format::Text),
        ] {
            assert_eq!(Format::accepted([accept].into_iter()), format, "{accept}");
        }
        assert_eq!(
            Format::accepted(["text/plain;q=0.5", "application/openmetrics-text"].into_iter()),
            Format::OpenMetrics,
            "two fields are one list"
        );
    }
}
