//! Decides what a backend's answer means to a waiting client, and how a relay ends.
//!
//! [`Answer`] is what the shell saw on a dialled connection; [`Answer::verdict`]
//! is what the gate makes of it. [`relay`] goes on from there: which bytes pass,
//! and who closes whom with which code.

mod meter;
pub mod relay;

pub use meter::{MessageLimits, Over};

use crate::event::State;

/// What became of a dial, as the shell saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// A valid 101.
    Switched,
    /// Any other HTTP status.
    Status(u16),
    /// Bytes that are no HTTP answer, or a 101 that is none.
    Nonsense,
    /// Nobody listens there.
    Refused,
    /// The connection attempt took too long.
    ConnectTimeout,
    /// No way to get there: name not resolved, no route, no permission.
    NoRoute,
    /// Connected, then ended before a byte of the answer.
    Dropped,
    /// greenroom has no file descriptor for the dial.
    NoDescriptor,
    /// greenroom took the dial back before its head was written: one before it failed, or the gate shut.
    Recalled,
    /// The gate gave the dial up, unanswered: its client is accepted, and dialled anew with what that means.
    GivenUp,
    /// A plain request's head is written.
    Sent,
    /// A plain request's answer: a status from 200 to 399.
    Served,
    /// While settling: a data frame, or a Close that is the application's own word.
    Spoke,
    /// At the last look, when it had settled: nothing that was not told yet.
    Stood,
    /// While settling: Close 1011, 1012 or 1013, or the connection ended.
    LostEarly,
}

/// What an [`Answer`] says of the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The handshake was accepted: a proof once it has settled.
    Switched,
    /// A plain request is on its way.
    Sent,
    /// The 101 has settled and stands: a proof.
    Stood,
    /// The application works.
    Proved,
    /// The application's answer to this client; it proves nothing.
    Neutral,
    /// The application says that it is not ready.
    NotReady,
    /// The connection was taken and ended without a byte.
    Dropped,
    /// The backend was not reached.
    Unreachable,
    /// greenroom's own lack.
    Starved,
    /// Nothing: the backend has seen nothing of it.
    Recalled,
}

impl Answer {
    /// What it says of the backend.
    #[must_use]
    pub const fn verdict(self) -> Verdict {
        match self {
            Self::Switched => Verdict::Switched,
            Self::Stood => Verdict::Stood,
            Self::Sent => Verdict::Sent,
            Self::Spoke | Self::Served => Verdict::Proved,
            Self::Status(502..=504) | Self::LostEarly => Verdict::NotReady,
            Self::Status(_) | Self::Nonsense => Verdict::Neutral,
            Self::Dropped => Verdict::Dropped,
            Self::Refused | Self::ConnectTimeout | Self::NoRoute => Verdict::Unreachable,
            Self::NoDescriptor => Verdict::Starved,
            Self::Recalled | Self::GivenUp => Verdict::Recalled,
        }
    }

    /// Whether the backend may have acted on the request before it came to this.
    #[must_use]
    pub const fn may_have_acted(self) -> bool {
        match self.verdict() {
            Verdict::Unreachable | Verdict::Starved | Verdict::Recalled => false,
            Verdict::Switched
            | Verdict::Sent
            | Verdict::Stood
            | Verdict::Proved
            | Verdict::Neutral
            | Verdict::NotReady
            | Verdict::Dropped => true,
        }
    }

    /// The word for it in the log.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Switched => "switched",
            Self::Status(_) => "status",
            Self::Nonsense => "nonsense",
            Self::Refused => "refused",
            Self::ConnectTimeout => "connect_timeout",
            Self::NoRoute => "no_route",
            Self::Dropped => "dropped",
            Self::NoDescriptor => "no_descriptor",
            Self::Recalled => "recalled",
            Self::GivenUp => "given_up",
            Self::Sent => "sent",
            Self::Served => "served",
            Self::Stood => "stood",
            Self::Spoke => "spoke",
            Self::LostEarly => "lost_early",
        }
    }
}

impl State {
    /// Whether a connection may go from this state to `next`. The registry
    /// asserts it, so that a state is never announced before it is true.
    #[must_use]
    pub const fn may_become(self, next: Self) -> bool {
        match self {
            Self::Opening => matches!(next, Self::Http | Self::Held | Self::Closing | Self::Closed),
            Self::Http => matches!(next, Self::Opening | Self::Held | Self::Closing | Self::Closed),
            Self::Held => matches!(next, Self::Http | Self::Dialing | Self::Closing | Self::Closed),
            Self::Dialing => matches!(
                next,
                Self::Held | Self::Http | Self::Relaying | Self::Closing | Self::Closed
            ),
            Self::Relaying => matches!(next, Self::Parked | Self::Closing | Self::Closed),
            Self::Parked => matches!(next, Self::Dialing | Self::Closing | Self::Closed),
            Self::Closing => matches!(next, Self::Closed),
            Self::Closed => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_502_to_504_and_early_closes_say_not_ready() {
        for status in 100..600 {
            let expected = if (502..=504).contains(&status) {
                Verdict::NotReady
            } else {
                Verdict::Neutral
            };
            assert_eq!(Answer::Status(status).verdict(), expected, "{status}");
        }
    }

    #[test]
    fn state_transitions() {
        let mut table = String::new();
        for &from in State::ALL {
            let next: Vec<_> = State::ALL
                .iter()
                .filter(|&&to| from.may_become(to))
                .map(|to| to.word())
                .collect();
            table.push_str(&format!("{:9} → {}\n", from.word(), next.join(", ")));
        }
        insta::assert_snapshot!(table);
    }
}
