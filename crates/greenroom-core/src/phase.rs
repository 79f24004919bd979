//! Decides how far one start of a backend has come: its phases, in order.
//!
//! ```text
//!   begin ─▶ init ─▶ dependencies ─▶ … ─▶ finalize ─▶ complete
//!              │  a phase counts when it is *finished*; the first one that is not
//!              │  is *current*, and its time runs
//!              └──▶ failed: it overran its timeout, or the backend, or its end, said so
//! ```
//!
//! A report that a later phase is finished passes over those between: the order is
//! strict, so whoever is past a phase needs it no more. A late report of such a phase
//! is taken down, and nothing goes back. Only [`Phases::begin`] goes back: a new
//! start goes through all of them again. A start that was only taken for complete, because
//! somebody listens ([`Phases::assume`]), is where it really is once the backend reports.
//!
//! Pure; bounded by `PHASES_MAX` rules.

use core::fmt;
use core::time::Duration;
use std::sync::Arc;

use crate::limits::PHASE_NAME_MAX;
use crate::time::Time;

/// The phases of a backend whose configuration names none.
pub const DEFAULT_PHASES: [&str; 7] = [
    "init",
    "dependencies",
    "database",
    "cache",
    "services",
    "websocket",
    "finalize",
];

/// Words that no phase may be named, as they mean something by themselves.
pub const RESERVED_PHASES: [&str; 4] = ["ready", "failed", "stopping", "complete"];

/// Whether a phase can have this name: a word, not a text. Letters, digits, `-`, `_` and `.`, at most
/// `PHASE_NAME_MAX` of them. That it is not reserved is another question.
#[must_use]
pub fn is_name(name: &[u8]) -> bool {
    let legal = |&byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=PHASE_NAME_MAX).contains(&name.len()) && name.iter().all(legal)
}

/// One phase, as it is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its name.
    pub name: Box<str>,
    /// How long it may take; `None`: as long as it likes.
    pub timeout: Option<Duration>,
}

impl Rule {
    /// The default phases, none of which has a timeout.
    #[must_use]
    pub fn defaults() -> Vec<Self> {
        let rule = |&name: &&str| Self {
            name: name.into(),
            timeout: None,
        };
        DEFAULT_PHASES.iter().map(rule).collect()
    }
}

/// What is known of one phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mark {
    /// Its turn has not come.
    #[default]
    Coming,
    /// It is the first that is not finished.
    Current,
    /// It was reported finished.
    Finished,
    /// A later one was reported, or the backend said that it is ready: nobody reported this one.
    Skipped,
    /// The start failed in it.
    Failed,
}

impl Mark {
    /// The word for it in `status` and its JSON.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Coming => "coming",
            Self::Current => "current",
            Self::Finished => "finished",
            Self::Skipped => "skipped",
            Self::Failed => "failed",
        }
    }

    /// Whether the start is past it.
    #[must_use]
    pub const fn is_past(self) -> bool {
        matches!(self, Self::Finished | Self::Skipped)
    }
}

/// Why a start failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The current phase took longer than this: its timeout, or more where it was extended.
    Overran(Duration),
    /// The backend said `ERRNO=n`.
    Errno(u32),
    /// The backend said `WATCHDOG=trigger`, or nothing for so long although it had promised to.
    Watchdog(Option<Duration>),
    /// Its process ended with this exit code (128 + n for signal n).
    Exited(u8),
    /// Somebody who may said so, in these words.
    Said(Box<str>),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Overran(limit) => write!(f, "not finished within {limit:?}"),
            Self::Errno(number) => write!(f, "the server reported error number {number}"),
            Self::Watchdog(Some(limit)) => write!(f, "no sign of life for {limit:?}"),
            Self::Watchdog(None) => f.write_str("the server's own watchdog was triggered"),
            Self::Exited(code) => write!(f, "the server ended with exit code {code}"),
            Self::Said(words) => f.write_str(words),
        }
    }
}

/// A start that failed: where, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The phase that was current; `None` after the last, and where nobody speaks of phases.
    pub phase: Option<Box<str>>,
    /// The reason.
    pub reason: Reason,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.phase {
            Some(phase) => write!(f, "phase {phase}: {}", self.reason),
            None => self.reason.fmt(f),
        }
    }
}

/// What a report has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The start went on; so many phases between were passed over.
    Forward {
        /// Phases that nobody reported.
        skipped: usize,
    },
    /// It was passed over before, and is taken down now.
    Late,
    /// It was known.
    Repeated,
    /// The start has failed already: what comes after that changes nothing.
    TooLate,
}

/// The phases of one backend. See the module's head.
#[derive(Clone, Debug)]
pub struct Phases {
    rules: Arc<[Rule]>,
    marks: Box<[Mark]>,
    /// How long each took when it was reported last, in this start or an earlier one.
    took: Box<[Option<Duration>]>,
    /// The first phase that is not past; the number of phases when all are.
    current: usize,
    /// When the start, and when its current phase, began.
    began: Time,
    since: Time,
    /// The current phase may last at least until then (`EXTEND_TIMEOUT_USEC`).
    extended: Time,
    failure: Option<Failure>,
    /// Whether the backend has reported a phase in this start.
    reported: bool,
    /// Whether it has said itself that all is finished: by its last phase, or otherwise.
    said_all: bool,
    /// Where the start was when it was taken for complete, without a word of the backend.
    assumed: Option<usize>,
}

impl Phases {
    /// A start that begins now.
    #[must_use]
    pub fn new(rules: Arc<[Rule]>, now: Time) -> Self {
        let mut phases = Self {
            marks: vec![Mark::Coming; rules.len()].into(),
            took: vec![None; rules.len()].into(),
            rules,
            current: 0,
            began: now,
            since: now,
            extended: Time::ZERO,
            failure: None,
            reported: false,
            said_all: false,
            assumed: None,
        };
        phases.begin(now);
        phases
    }

    /// A new start: all phases lie ahead.
    pub fn begin(&mut self, now: Time) {
        self.marks.fill(Mark::Coming);
        self.failure = None;
        self.reported = false;
        self.said_all = false;
        self.assumed = None;
        self.began = now;
        self.enter(now, 0);
    }

    /// The phase of this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<usize> {
        self.rules.iter().position(|rule| &*rule.name == name)
    }

    /// The phase is finished, as the backend itself reports.
    pub fn report(&mut self, now: Time, index: usize) -> Step {
        self.reported |= self.failure.is_none();
        self.said_all |= self.failure.is_none() && index + 1 == self.rules.len();
        self.finish(now, index)
    }

    /// The phase is finished, whoever found that.
    pub fn finish(&mut self, now: Time, index: usize) -> Step {
        if self.failure.is_some() {
            return Step::TooLate;
        }
        match self.marks.get(index).copied() {
            None | Some(Mark::Finished | Mark::Failed) => Step::Repeated,
            Some(Mark::Skipped) => {
                self.marks[index] = Mark::Finished;
                Step::Late
            }
            Some(Mark::Coming | Mark::Current) => {
                let skipped = index - self.current;
                self.marks[self.current..index].fill(Mark::Skipped);
                self.marks[index] = Mark::Finished;
                self.took[index] = Some(now.since(self.since));
                self.enter(now, index + 1);
                Step::Forward { skipped }
            }
        }
    }

    /// The backend says that it is ready: whatever lies ahead is passed over. After a failure that changes nothing.
    pub fn complete(&mut self, now: Time) {
        self.assumed = None;
        self.said_all |= self.failure.is_none();
        self.pass_over(now);
    }

    fn pass_over(&mut self, now: Time) {
        if self.failure.is_none() && !self.is_complete() {
            self.marks[self.current..].fill(Mark::Skipped);
            self.enter(now, self.marks.len());
        }
    }

    /// The backend seems to be ready, and has reported nothing: the same, until it does.
    pub fn assume(&mut self, now: Time) {
        if self.failure.is_none() && !self.is_complete() {
            self.assumed = Some(self.current);
            self.pass_over(now);
        }
    }

    /// It reports after all: what was only assumed lies ahead again. What was found finished since stays so.
    pub fn take_back(&mut self, now: Time) {
        if let (Some(from), None) = (self.assumed.take(), &self.failure) {
            let finished = self.marks.iter().rposition(|&mark| mark == Mark::Finished);
            let current = finished.map_or(from, |last| from.max(last + 1));
            self.marks[current..].fill(Mark::Coming);
            self.enter(now, current);
        }
    }

    /// The start has failed. The first failure counts.
    pub fn fail(&mut self, reason: Reason) -> &Failure {
        if let Some(mark) = self.marks.get_mut(self.current) {
            *mark = Mark::Failed;
        }
        // Where nobody speaks of phases, none is named.
        let counts = |rule: &&Rule| self.reported || self.current > 0 || rule.timeout.is_some();
        let phase = self
            .rules
            .get(self.current)
            .filter(counts)
            .map(|rule| rule.name.clone());
        self.failure.get_or_insert(Failure { phase, reason })
    }

    /// `EXTEND_TIMEOUT_USEC`: the current phase may last at least so long from now. Never shortens.
    pub fn extend(&mut self, now: Time, by: Duration) {
        self.extended = self.extended.max(now + by);
    }

    /// When the current phase has lasted too long.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        if self.failure.is_some() {
            return None;
        }
        let timeout = self.rules.get(self.current)?.timeout?;
        Some((self.since + timeout).max(self.extended))
    }

    /// Whether the current phase has lasted too long, which is a reason to [`Phases::fail`].
    #[must_use]
    pub fn overrun(&self, now: Time) -> Option<Reason> {
        let at = self.deadline().filter(|&at| now >= at)?;
        Some(Reason::Overran(at.since(self.since)))
    }

    /// All phases are past.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.current == self.marks.len()
    }

    /// Whether the start is past this phase.
    #[must_use]
    pub fn is_past(&self, index: usize) -> bool {
        self.marks.get(index).is_some_and(|mark| mark.is_past())
    }

    /// Whether the backend has reported a phase in this start.
    #[must_use]
    pub fn is_reported(&self) -> bool {
        self.reported
    }

    /// Whether the backend has said itself in this start that all is finished.
    #[must_use]
    pub fn has_said_all(&self) -> bool {
        self.said_all
    }

    /// The first phase that is not past.
    #[must_use]
    pub fn current(&self) -> Option<&Rule> {
        self.rules.get(self.current)
    }

    /// When this start began.
    #[must_use]
    pub fn began(&self) -> Time {
        self.began
    }

    /// When the current phase began.
    #[must_use]
    pub fn since(&self) -> Time {
        self.since
    }

    /// Why it failed, if it did.
    #[must_use]
    pub fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    /// All phases with what is known of them, in order.
    pub fn marks(&self) -> impl Iterator<Item = (&str, Mark)> {
        self.rules
            .iter()
            .zip(&self.marks)
            .map(|(rule, &mark)| (&*rule.name, mark))
    }

    /// How long each phase took when it was reported last, in this start or an earlier one: from when it was the current
    /// one. Where phases between were passed over, their time is in that of the one that was reported.
    pub fn took(&self) -> impl Iterator<Item = Option<Duration>> {
        self.took.iter().copied()
    }

    fn enter(&mut self, now: Time, index: usize) {
        self.current = index;
        self.since = now;
        self.extended = Time::ZERO;
        if let Some(mark) = self.marks.get_mut(index) {
            *mark = Mark::Current;
        }
        self.check_invariants();
    }

    /// Past, then current, then coming: never anything else.
    fn check_invariants(&self) {
        debug_assert!(self.marks[..self.current].iter().all(|mark| mark.is_past()));
        debug_assert!(
            self.marks
                .iter()
                .skip(self.current + 1)
                .all(|&mark| mark == Mark::Coming)
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn how_long_a_phase_took_is_known_until_it_is_reported_again() {
        let mut phases = Phases::new(Rule::defaults().into(), at(0));
        phases.finish(at(2), 0);
        phases.finish(at(7), 2);
        phases.complete(at(9));
        let took = |phases: &Phases| phases.took().collect::<Vec<_>>();
        let first = [Some(2 * SECOND), None, Some(5 * SECOND), None, None, None, None];
        assert_eq!(took(&phases), first, "what was passed over has no time of its own");
        phases.begin(at(20));
        assert_eq!(took(&phases), first);
        phases.finish(at(21), 0);
        phases.finish(at(40), 0);
        assert_eq!(took(&phases)[..3], [Some(SECOND), None, Some(5 * SECOND)]);
    }

    fn at(seconds: u64) -> Time {
        Time::from_millis(1_000 * seconds)
    }

    /// The default phases, each with a timeout of 10 s, the start being in `current` since 100 s.
    fn start(current: usize) -> Phases {
        let mut rules = Rule::defaults();
        for rule in &mut rules {
            rule.timeout = Some(10 * SECOND);
        }
        let mut phases = Phases::new(rules.into(), at(90));
        for index in 0..current {
            phases.finish(at(100), index);
        }
        if current == 0 {
            phases.begin(at(100));
        }
        phases
    }

    fn shown(phases: &Phases) -> String {
        let marks: String = phases
            .marks()
            .map(|(_, mark)| match mark {
                Mark::Coming => '.',
                Mark::Current => '>',
                Mark::Finished => '#',
                Mark::Skipped => '-',
                Mark::Failed => '!',
            })
            .collect();
        let failure = phases
            .failure()
            .map_or_else(String::new, |failure| format!("  {failure}"));
        format!("{marks}{failure}")
    }

    #[test]
    fn every_phase_and_what_can_happen_to_it() {
        let mut table = String::new();
        for index in 0..=DEFAULT_PHASES.len() {
            let name = DEFAULT_PHASES.get(index).unwrap_or(&"complete");
            let mut row = |what: &str, phases: &Phases, step: Option<Step>| {
                let step = step.map_or_else(|| "-".into(), |step| format!("{step:?}"));
                table.push_str(&format!("{name:13}{what:22}{step:26}{}\n", shown(phases)));
            };
            let mut phases = start(index);
            row("is current", &phases, None);
            let step = phases.finish(at(101), index);
            row("finishes", &phases, Some(step));
            let step = phases.finish(at(102), index);
            row("comes twice", &phases, Some(step));
            let mut phases = start(index);
            if let Some(reason) = phases.overrun(at(110)) {
                phases.fail(reason);
            }
            row("overruns", &phases, None);
            let step = phases.finish(at(111), index);
            row("finishes after that", &phases, Some(step));
            let mut phases = start(index);
            phases.fail(Reason::Said("no license".into()));
            row("fails", &phases, None);
            let mut phases = start(index);
            let step = phases.finish(at(101), index + 1);
            row("is skipped", &phases, Some(step));
            let step = phases.finish(at(102), index);
            row("comes out of order", &phases, Some(step));
            let mut phases = start(index);
            phases.complete(at(101));
            row("READY comes in it", &phases, None);
            let mut phases = start(index);
            phases.begin(at(101));
            row("process is replaced", &phases, None);
        }
        insta::assert_snapshot!(table);
    }

    #[test]
    fn what_was_only_assumed_is_taken_back_and_what_was_found_is_not() {
        let mut phases = start(1);
        phases.assume(at(101));
        assert!(phases.is_complete());
        assert_eq!(phases.finish(at(102), 3), Step::Late);
        phases.take_back(at(103));
        assert_eq!(shown(&phases), "#--#>..");
        assert_eq!((phases.deadline(), phases.began()), (Some(at(113)), at(90)));
        phases.assume(at(104));
        phases.complete(at(105));
        phases.take_back(at(106));
        assert_eq!(shown(&phases), "#--#---", "it has said itself that it is ready");
    }

    #[test]
    fn a_phase_overruns_at_its_timeout_and_not_a_moment_before() {
        let mut phases = start(2);
        assert_eq!(phases.deadline(), Some(at(110)));
        assert_eq!(phases.overrun(at(110).before(Duration::from_nanos(1))), None);
        let late = at(110) + Duration::from_nanos(1_234_567);
        let reason = phases.overrun(late).unwrap(); // a timer is never quite in time: what was allowed is told
        assert_eq!(
            phases.fail(reason).to_string(),
            "phase database: not finished within 10s"
        );
        assert_eq!(phases.deadline(), None, "it fails once");
    }

    #[test]
    fn an_extension_lengthens_the_current_phase_only_and_never_shortens() {
        let mut phases = start(0);
        phases.extend(at(101), SECOND);
        assert_eq!(phases.deadline(), Some(at(110)));
        phases.extend(at(109), 20 * SECOND);
        assert_eq!(phases.deadline(), Some(at(129)));
        phases.finish(at(120), 0);
        assert_eq!(phases.deadline(), Some(at(130)), "the next one has its own time");
    }

    #[test]
    fn what_has_no_timeout_never_overruns() {
        let phases = Phases::new(Rule::defaults().into(), Time::ZERO);
        assert_eq!(phases.deadline(), None);
        assert_eq!(phases.overrun(Time::NEVER), None);
        let mut none = Phases::new(Vec::new().into(), Time::ZERO);
        assert!(none.is_complete());
        assert_eq!(none.finish(Time::ZERO, 0), Step::Repeated);
        assert_eq!(
            none.fail(Reason::Exited(3)).to_string(),
            "the server ended with exit code 3"
        );
    }
}
