//! The mistakes that can be planted in a world, to see whether they are found.
//!
//! All of them are made by the shell's part of the world: the core is the one that is shipped.

/// A mistake that is planted on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// Early bytes go to the backend with the head, not after the 101.
    EarlyForward,
    /// The shell does not set its timer again.
    LostWakeUp,
    /// Who is sent back gets a new number, and so another place.
    ReorderedRequeue,
    /// A client leaves and the gate is not told.
    LeakedPlace,
    /// A canary's client is shown why the canary failed.
    CanarySeen,
    /// However late a backend closes, the next 101 settles no longer.
    LearnedSettleIgnored,
    /// The last look is not made, and shows nothing.
    LastLookSkipped,
    /// The probe does not look once more before a hold ends.
    DeadlineLookSkipped,
    /// A request with a body is told to the gate as one that may be sent twice.
    BodyOverlooked,
    /// The gate is not told that a plain request's head is written.
    SentUntold,
    /// The gate is told that everybody's needs are met.
    NeedIgnored,
    /// The gate is not told that the backend is ready for more than before.
    LostWakeUpOnNeed,
    /// While the backend is degraded everybody is refused, whatever the route says.
    DegradedRefusesAll,
    /// When the backend is not ready any more, somebody who waits is forgotten.
    FlapDrops,
    /// A failed start refuses who waits, although another life follows.
    RefusedBeforeRestart,
    /// Nobody notices that a phase has lasted too long.
    OverrunMissed,
    /// A look that began in an earlier life is told as one of this life.
    CheckOfOldLifeCounts,
    /// A phase of an earlier life is told as one of this life.
    PhaseOfOldLifeCounts,
    /// A late report is taken for a new start.
    PhaseGoesBack,
    /// One verdict counts as many in a row.
    OneVerdictFlips,
    /// Each dropped connection is told as a death of the backend.
    DropTakenForDeath,
    /// All clients are told to the gate as of one key.
    KeyOverlooked,
    /// The gate does not know how many of one address may wait.
    AddressLimitIgnored,
    /// The gate does not know how many of one key may wait.
    KeyLimitIgnored,
    /// The gate does not know its rate.
    RateIgnored,
    /// However late a handshake is answered, the gate does not mind.
    LateAnswerIgnored,
    /// Whoever is sent back to its place is accepted once more.
    AcceptedAgain,
    /// A client is given its 101 some time after the gate said so.
    AcceptedLate,
    /// Whoever is to be accepted some time is told as to be accepted at once.
    AcceptedEarly,
    /// The gate is not told who is a browser.
    BrowserOverlooked,
    /// That the backend is ready takes back what the gate is by hand.
    HandEndsAtReady,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 31] = [
        Self::EarlyForward,
        Self::LostWakeUp,
        Self::ReorderedRequeue,
        Self::LeakedPlace,
        Self::CanarySeen,
        Self::LearnedSettleIgnored,
        Self::LastLookSkipped,
        Self::DeadlineLookSkipped,
        Self::BodyOverlooked,
        Self::SentUntold,
        Self::NeedIgnored,
        Self::LostWakeUpOnNeed,
        Self::DegradedRefusesAll,
        Self::FlapDrops,
        Self::RefusedBeforeRestart,
        Self::OverrunMissed,
        Self::CheckOfOldLifeCounts,
        Self::PhaseOfOldLifeCounts,
        Self::PhaseGoesBack,
        Self::OneVerdictFlips,
        Self::DropTakenForDeath,
        Self::KeyOverlooked,
        Self::AddressLimitIgnored,
        Self::KeyLimitIgnored,
        Self::RateIgnored,
        Self::LateAnswerIgnored,
        Self::AcceptedAgain,
        Self::AcceptedLate,
        Self::AcceptedEarly,
        Self::BrowserOverlooked,
        Self::HandEndsAtReady,
    ];
}
