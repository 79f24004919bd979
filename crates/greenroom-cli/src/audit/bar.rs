//! The progress of `greenroom audit`, on standard error: a bar on a terminal; elsewhere, in the log of a CI job for
//! example, a line now and then, so that nobody takes a long audit for one that hangs.
//!
//! Bounds: a line each [`limits::AUDIT_TOLD_EVERY`] at the most.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use greenroom_audit::audit::judge::Outcome;
use greenroom_audit::audit::launcher::Way;
use greenroom_audit::audit::restart::Step;
use greenroom_audit::audit::text::span;
use greenroom_audit::audit::{Options, Progress, plan, tables};
use greenroom_audit::limits;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Progress on standard error: runs done, time left, and what has become of the clients so far.
pub(super) struct Bar {
    bar: ProgressBar,
    compare: bool,
    clients: u64,
    state: Mutex<State>,
    /// When something was told last, where there is no terminal.
    told: Option<Mutex<Option<Instant>>>,
}

#[derive(Default)]
struct State {
    /// Clients of the run that is on.
    come: u64,
    runs: u64,
    /// The start that is on is beside the planned ones.
    beside: bool,
    /// The restart that is on.
    restart: Option<Way>,
    counts: BTreeMap<Outcome, u64>,
}

impl Bar {
    pub(super) fn new(options: &Options) -> Self {
        let sides = 1 + u64::from(options.compare);
        let clients = u64::from(options.clients);
        let bar = ProgressBar::new(u64::from(options.runs) * sides * clients);
        bar.set_draw_target(ProgressDrawTarget::stderr()); // hidden where that is no terminal
        if let Ok(style) = ProgressStyle::with_template("{prefix} {bar:24} {percent:>3} %  {eta} left  {wide_msg}") {
            bar.set_style(style.progress_chars("━╸─"));
        }
        bar.enable_steady_tick(Duration::from_millis(250));
        Self {
            compare: options.compare,
            clients,
            state: Mutex::default(),
            told: bar.is_hidden().then(Mutex::default),
            bar,
        }
    }

    /// Nothing more is to be shown.
    pub(super) fn end(&self) {
        self.bar.finish_and_clear();
    }

    /// What the bar would show, where nobody sees it.
    fn tell(&self) {
        let Some(told) = &self.told else { return };
        let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_some_and(|told| told.elapsed() < limits::AUDIT_TOLD_EVERY) {
            return;
        }
        *told = Some(Instant::now());
        let (done, of) = (self.bar.position(), self.bar.length().unwrap_or(1).max(1));
        let percent = done.min(of).saturating_mul(100) / of;
        let message = match self.bar.message() {
            message if message.is_empty() => message,
            message => format!(": {message}"),
        };
        let line = format!("greenroom audit: {}, {percent} %{message}", self.bar.prefix());
        writeln!(io::stderr(), "{line}").ok(); // whoever closed it does not want it
    }

    pub(super) fn show(&self, progress: &Progress) {
        self.update(progress);
        self.tell();
    }

    fn client(&self, state: &mut State, outcome: Outcome) {
        state.come += 1;
        *state.counts.entry(outcome).or_default() += 1;
        // The first run may have more clients than was said.
        let done = state.runs.saturating_mul(self.clients) + state.come.min(self.clients);
        self.bar.set_position(done);
        // What is bad first: the line may be cut.
        let counts: Vec<String> = state
            .counts
            .iter()
            .rev()
            .map(|(outcome, clients)| format!("{} {clients}", tables::named(*outcome)))
            .collect();
        self.bar.set_message(counts.join(" · "));
    }

    fn update(&self, progress: &Progress) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match progress {
            Progress::Run { way, number, of } => {
                let sides = 1 + u64::from(self.compare);
                let behind = u64::from(*way == Way::Greenroom);
                state.runs = u64::from(*number).saturating_mul(sides) + behind;
                (state.come, state.beside) = (0, false);
                let name = if *way == Way::Greenroom { " with greenroom" } else { "" };
                self.bar
                    .set_prefix(format!("start {} of {of}{name}", number.saturating_add(1)));
            }
            Progress::Client(..) if state.beside => {}
            Progress::Client(_, outcome) => self.client(&mut state, *outcome),
            Progress::Quiet { at_most } => {
                state.beside = true;
                self.bar.set_prefix("quiet start");
                let most = span(plan::nanos(*at_most));
                self.bar.set_message(format!(
                    "nobody was answered: a start with hardly any clients, {most} at the most"
                ));
            }
            Progress::Control { way, done, clients } => {
                state.beside = true;
                let name = if *way == Way::Greenroom { " with greenroom" } else { "" };
                self.bar
                    .set_prefix(format!("control start {}{name}", done.saturating_add(1)));
                self.bar.set_message(format!(
                    "clients were failed as by load: is it their number? This start has {clients}; {} at the most",
                    limits::AUDIT_CONTROL_STARTS + 1
                ));
            }
            Progress::Restart {
                way,
                step,
                there,
                of,
                spent,
                expected,
            } => {
                if state.restart.replace(*way) != Some(*way) {
                    self.bar.reset(); // its unit is another: what is left of the time is reckoned anew
                }
                let (done, length) = restart_done(*spent, *expected);
                self.bar.set_length(length);
                self.bar.set_position(done);
                let name = if *way == Way::Greenroom {
                    " behind greenroom"
                } else {
                    ""
                };
                self.bar.set_prefix(format!("restart{name}"));
                self.bar.set_message(match step {
                    Step::In => format!("{there} of {of} clients are in"),
                    Step::Steady => format!("all {of} clients are in; a quiet moment"),
                    Step::Down => format!("the signal was sent; {there} of {of} clients were answered since"),
                    Step::Back => format!("{there} of {of} clients are back"),
                });
            }
        }
    }
}

/// Position and length of a restart's bar, in milliseconds: the time left is what is left of the length. What takes longer
/// than was expected goes on to take a little more.
fn restart_done(spent: Duration, expected: Duration) -> (u64, u64) {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let (spent, expected) = (millis(spent), millis(expected).max(1));
    (spent, expected.max(spent.saturating_add(spent / 8)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_of_a_restart_ends_where_it_is_expected_and_never_before_it_is_over() {
        let second = Duration::from_secs(1);
        assert_eq!(restart_done(second, 8 * second), (1_000, 8_000));
        assert_eq!(restart_done(16 * second, 8 * second), (16_000, 18_000));
        assert_eq!(restart_done(Duration::ZERO, Duration::ZERO), (0, 1));
    }
}
