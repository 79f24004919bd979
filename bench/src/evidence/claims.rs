//! The claims of the founding report, quoted: every one that it makes. The only place where their words stand.

/// What is claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum About {
    Variance,
    Interval,
    Queueing,
    Degradation,
    OneManager,
    NoFallback,
    Tests,
    Reliability,
    Diagrams,
    Production,
    Resolved,
    Documentation,
    GoldenPath,
    NothingLeft,
    Example,
}

/// A claim.
pub(crate) struct Claim {
    pub(crate) about: About,
    pub(crate) title: &'static str,
    /// Word for word, spelled and emphasised as there.
    pub(crate) quotes: &'static [&'static str],
}

pub(crate) const CLAIMS: [Claim; 15] = [
    Claim {
        about: About::Variance,
        title: "Variance of the wait",
        quotes: &[
            "99.9% Timing Variance Improvement: Reduced from 2.8s variance to 0.003s variance",
            "**99.9% timing variance improvement** achieved (2.8s → 0.003s)",
        ],
    },
    Claim {
        about: About::Interval,
        title: "Fixed interval",
        quotes: &[
            "Fixed interval timing (0.1s) eliminates race conditions",
            "Implemented fixed interval timing in WebSocket startup phase validation",
        ],
    },
    Claim {
        about: About::Queueing,
        title: "Connection queueing",
        quotes: &["Added connection queueing for graceful degradation"],
    },
    Claim {
        about: About::Degradation,
        title: "Graceful degradation",
        quotes: &["Added connection queueing for graceful degradation"],
    },
    Claim {
        about: About::OneManager,
        title: "One manager",
        quotes: &["Integrated with WebSocketManager SSOT implementation", "SSOT compliant"],
    },
    Claim {
        about: About::NoFallback,
        title: "No legacy fallback",
        quotes: &["No legacy fallback code - clean SSOT compliance"],
    },
    Claim {
        about: About::Tests,
        title: "Test coverage of the phases",
        quotes: &[
            "Comprehensive Test Coverage: Full test suite added for WebSocket startup phases",
            "**Comprehensive test coverage** added",
        ],
    },
    Claim {
        about: About::Reliability,
        title: "End-to-end reliability",
        quotes: &["End-to-end WebSocket connectivity reliable"],
    },
    Claim {
        about: About::Diagrams,
        title: "Diagrams",
        quotes: &["Mermaid diagrams showing problem and solution included"],
    },
    Claim {
        about: About::Production,
        title: "Production and business",
        quotes: &[
            "**Production validated** with fixed interval timing solution",
            "P0 issue affecting $500K+ ARR fully resolved",
        ],
    },
    Claim {
        about: About::Resolved,
        title: "The race is gone",
        quotes: &[
            "Issue #1171 has been **FULLY RESOLVED** and should be closed immediately.",
            "Status: FULLY RESOLVED - This WebSocket startup race condition has been comprehensively fixed.",
            "Problem definitively solved",
            "Solution implemented and tested",
        ],
    },
    Claim {
        about: About::Documentation,
        title: "Documentation with metrics",
        quotes: &[
            "Complete Documentation: Thorough fix documentation with before/after metrics",
            "Complete fix analysis: ISSUE_UNTANGLE_1171_20250116_1115_claude.md",
        ],
    },
    Claim {
        about: About::GoldenPath,
        title: "Golden Path",
        quotes: &["Critical Golden Path infrastructure now stable"],
    },
    Claim {
        about: About::NothingLeft,
        title: "Nothing is left",
        quotes: &[
            "**No remaining work** or blockers",
            "No further action needed - closing as resolved.",
            "**Recommendation:** CLOSE IMMEDIATELY",
            "This issue meets ALL criteria for closure",
            "Since issue #1171 is completely resolved, no new issues need to be created.",
        ],
    },
    Claim {
        about: About::Example,
        title: "A model",
        quotes: &[
            "**Excellent documentation** complete",
            "The existing documentation serves as a reference for any future similar issues.",
            "This issue represents a model example of proper issue resolution with clear problem identification, effective solution, comprehensive testing, and excellent documentation.",
        ],
    },
];
