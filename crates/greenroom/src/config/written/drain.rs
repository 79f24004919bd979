//! What can be written about how clients are closed when greenroom stops or drains.

use greenroom_core::limits::{DRAIN_RATE_MAX, DRAIN_REASON_MAX, DRAIN_WINDOW_MAX, DRAIN_WITHIN_MIN, GRACE_MAX};
use schemars::JsonSchema;
use std::time::Duration;

use super::super::source::Place;
use super::super::tree::Table;
use super::kinds::{Field, Number, Read, Reader, Shape, Span, join, range_of};
use super::tables::Keys;

written! {
    /// How clients are closed when greenroom stops.
    ///
    /// The tables below it are for drains by command (`greenroom drain --kind …`), each for one kind; what one
    /// does not say is as here, but for `code`.
    struct Drain {
        /// Over how long the closes are spread, evenly, in an order that is drawn. At most `grace`.
        #[schemars(extend("x-default" = "2 ms for each client, and at most half of `grace` and 5 s", "x-values" = range_of(Duration::ZERO, DRAIN_WINDOW_MAX)))]
        window: Span,
        /// So many closes in a second, instead of `window`. Who is left shortly before `grace` is over is closed then.
        #[schemars(extend("x-default" = "as `window` says", "minimum" = 1, "maximum" = DRAIN_RATE_MAX))]
        rate: Number,
        /// The code of the Close. 1001 says that greenroom goes away, 1012 that it comes back.
        #[schemars(extend("default" = 1001, "minimum" = 1000, "maximum" = 4999))]
        code: Number,
        /// Words in front of the hint `retry-after-ms=N` in the Close.
        #[schemars(extend("x-default" = "none", "maxLength" = DRAIN_REASON_MAX, "examples" = ["a new version is coming"]))]
        reason: String,
        /// How long whoever stops greenroom waits before it kills: Kubernetes' `terminationGracePeriodSeconds`, systemd's `TimeoutStopSec`,
        /// Docker's `stop_grace_period`. Closing the clients, and then the `grace` of a process, must fit into it.
        #[schemars(extend("x-default" = "the default of the platform, where one is recognised: then it is a warning", "x-values" = range_of(DRAIN_WITHIN_MIN, GRACE_MAX)))]
        within: Span,
        /// Drains for a new version. Code 1012 unless it says another.
        deploy: Manner,
        /// Drains for a new configuration. Code 1012 unless it says another.
        reload: Manner,
        /// Drains before this greenroom goes away for good. Code 1001 unless it says another.
        #[schemars(rename = "scale-down")]
        scale_down as "scale-down": Manner,
        /// Drains of a part of the clients, which go elsewhere. Code 1012 unless it says another.
        evict: Manner,
    }
}

written! {
    /// How one kind of drain closes.
    struct Manner {
        /// Over how long the closes are spread.
        #[schemars(extend("x-default" = "as `drain.window`", "x-values" = range_of(Duration::ZERO, DRAIN_WINDOW_MAX)))]
        window: Span,
        /// So many closes in a second, instead of `window`.
        #[schemars(extend("x-default" = "as `drain.rate`", "minimum" = 1, "maximum" = DRAIN_RATE_MAX))]
        rate: Number,
        /// The code of the Close.
        #[schemars(extend("x-default" = "1001 for `scale-down`, else 1012", "minimum" = 1000, "maximum" = 4999))]
        code: Number,
        /// Words in front of the hint `retry-after-ms=N` in the Close.
        #[schemars(extend("x-default" = "as `drain.reason`", "maxLength" = DRAIN_REASON_MAX))]
        reason: String,
    }
}
