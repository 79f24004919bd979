//! How clients are closed when greenroom stops, or is told to drain: checked.
//!
//! `[drain]` is the stop; a drain by command is of a kind, which may have its own manner. Bounds are in `limits.rs`.

use std::time::Duration;

use greenroom_core::drain::Pace;
use greenroom_core::limits::{GRACE, SPREAD_MAX};
use greenroom_core::wire::CloseCode;

/// How closes are paced, and what they say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manner {
    /// How fast they follow one another.
    pub pace: Pace,
    /// The close code.
    pub code: CloseCode,
    /// The words of the reason, before the hint when to come back; empty: none.
    pub reason: String,
}

/// Why connections are drained by command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DrainKind {
    /// A new version takes the place of the old one.
    Deploy,
    /// The server takes up a new configuration.
    Reload,
    /// This greenroom goes away for good.
    ScaleDown,
    /// Some clients are to go elsewhere, so that others carry them.
    Evict,
}

impl DrainKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Deploy, Self::Reload, Self::ScaleDown, Self::Evict];

    /// Its word on the command line, in the admin API, and its table below `[drain]`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Deploy => "deploy",
            Self::Reload => "reload",
            Self::ScaleDown => "scale-down",
            Self::Evict => "evict",
        }
    }

    /// What its closes say unless something else is written: 1012 where the service comes back, 1001 where it goes away.
    #[must_use]
    pub const fn code(self) -> CloseCode {
        match self {
            Self::Deploy | Self::Reload | Self::Evict => CloseCode::RESTART,
            Self::ScaleDown => CloseCode::GOING_AWAY,
        }
    }
}

/// `[drain]`: see the module's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drain {
    /// How a stop closes.
    pub stop: Manner,
    /// How long whoever stops greenroom waits before it kills; `None`: that was not said.
    pub within: Option<Duration>,
    /// In the order of [`DrainKind::ALL`].
    pub kinds: [Manner; 4],
}

impl Drain {
    /// What holds where nothing is written.
    #[must_use]
    pub fn plain(grace: Duration) -> Self {
        let manner = |code| Manner {
            pace: usual_pace(grace),
            code,
            reason: String::new(),
        };
        Self {
            stop: manner(CloseCode::GOING_AWAY),
            within: None,
            kinds: DrainKind::ALL.map(|kind| manner(kind.code())),
        }
    }

    /// The manner of one kind.
    #[must_use]
    pub fn of(&self, kind: DrainKind) -> &Manner {
        let [deploy, reload, scale_down, evict] = &self.kinds;
        match kind {
            DrainKind::Deploy => deploy,
            DrainKind::Reload => reload,
            DrainKind::ScaleDown => scale_down,
            DrainKind::Evict => evict,
        }
    }

    /// How long closing the clients may take by plan: the window, or all of the grace where a rate sets no end.
    #[must_use]
    pub fn longest(&self, grace: Duration) -> Duration {
        match self.stop.pace {
            Pace::Window(window) => window,
            Pace::Spread(most) => most,
            Pace::Rate(_) => grace,
        }
    }
}

impl Default for Drain {
    fn default() -> Self {
        Self::plain(GRACE)
    }
}

/// Half of the grace, so that a Close has time to be answered, and no longer than any closes of many are spread.
pub(super) fn usual_pace(grace: Duration) -> Pace {
    Pace::Spread(SPREAD_MAX.min(grace / 2))
}
