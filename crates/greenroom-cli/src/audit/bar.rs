//! The progress of `greenroom audit`, on standard error: a bar on a terminal; elsewhere, in the log of a CI job for
//! example, a line now and then, so that nobody takes a long audit for one that hangs.
//!
//! It is shown by a thread of its own: a terminal or a pipe that nobody reads keeps neither clients nor the report waiting.
//!
//! Bounds: a line each [`limits::AUDIT_TOLD_EVERY`] at the most; [`limits::AUDIT_UNSHOWN`] that wait to be shown.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::time::{Duration, Instant};

use greenroom_audit::audit::judge::Outcome;
use greenroom_audit::audit::launcher::Way;
use greenroom_audit::audit::restart::Step;
use greenroom_audit::audit::text::span;
use greenroom_audit::audit::{Options, Progress, plan, tables};
use greenroom_audit::limits;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Shows progress, until it is dropped.
pub(super) struct Shown(SyncSender<Progress>);

/// Says when all of it is shown.
pub(super) struct Ended(Receiver<()>);

/// Shows the progress of this audit.
pub(super) fn shown(options: &Options) -> (Shown, Ended) {
    let (sender, told) = mpsc::sync_channel(limits::AUDIT_UNSHOWN);
    let (end, ended) = mpsc::sync_channel(1);
    let mut bar = Bar::new(options);
    std::thread::spawn(move || {
        while let Ok(progress) = told.recv() {
            bar.show(&progress);
        }
        bar.bar.finish_and_clear();
        end.send(()).ok(); // nobody waits for it any more
    });
    (Shown(sender), Ended(ended))
}

impl Shown {
    pub(super) fn show(&self, progress: Progress) {
        self.0.try_send(progress).ok(); // nobody reads what is shown
    }
}

impl Ended {
    /// Waits until nothing more is to be shown, if that is soon.
    pub(super) fn wait(self) {
        self.0.recv_timeout(limits::AUDIT_SHOWN).ok();
    }
}

/// Runs done, time left, and what has become of the clients so far.
struct Bar {
    bar: ProgressBar,
    compare: bool,
    clients: u64,
    state: State,
    /// Whether there is no terminal.
    is_hidden: bool,
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
    /// When something was told last, where there is no terminal.
    told: Option<Instant>,
}

/// How a bar looks for what has a known end, and for what has none.
const WITH_END: &str = "{prefix} {bar:24} {percent:>3} %  {eta} left  {wide_msg}";
const WITHOUT_END: &str = "{prefix} {elapsed}  {wide_msg}";

const fn behind(way: Way) -> &'static str {
    match way {
        Way::Plain => "",
        Way::Greenroom => " behind greenroom",
    }
}

/// Whether it is time to tell how far it is.
fn is_due(told: Option<Instant>, now: Instant) -> bool {
    told.is_none_or(|told| now.saturating_duration_since(told) >= limits::AUDIT_TOLD_EVERY)
}

impl Bar {
    fn new(options: &Options) -> Self {
        let sides = 1 + u64::from(options.compare);
        let clients = u64::from(options.clients);
        let bar = ProgressBar::new(u64::from(options.runs) * sides * clients);
        bar.set_draw_target(ProgressDrawTarget::stderr()); // hidden where that is no terminal
        let is_hidden = bar.is_hidden();
        bar.enable_steady_tick(Duration::from_millis(250));
        Self {
            compare: options.compare,
            clients,
            state: State::default(),
            is_hidden,
            bar,
        }
        .drawn(WITH_END)
    }

    fn drawn(self, template: &str) -> Self {
        self.draw(template);
        self
    }

    fn draw(&self, template: &str) {
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(style.progress_chars("━╸─"));
        }
    }

    /// What the bar would show, where nobody sees it.
    fn tell(&mut self) {
        let state = &mut self.state;
        let now = Instant::now();
        if !self.is_hidden || !is_due(state.told, now) {
            return;
        }
        state.told = Some(now);
        let (done, of) = (self.bar.position(), self.bar.length().unwrap_or(1).max(1));
        let percent = match state.beside {
            true => String::new(), // nobody knows its end
            false => format!(", {} %", done.min(of).saturating_mul(100) / of),
        };
        let message = match self.bar.message() {
            message if message.is_empty() => message,
            message => format!(": {message}"),
        };
        let line = format!("greenroom audit: {}{percent}{message}", self.bar.prefix());
        writeln!(io::stderr(), "{line}").ok(); // whoever closed it does not want it
    }

    fn show(&mut self, progress: &Progress) {
        self.update(progress);
        self.tell();
    }

    /// A start that is beside the planned ones.
    fn beside(&mut self, what: String, message: String) {
        if !std::mem::replace(&mut self.state.beside, true) {
            self.draw(WITHOUT_END);
        }
        self.bar.set_prefix(what);
        self.bar.set_message(message);
    }

    fn client(&mut self, outcome: Outcome) {
        let state = &mut self.state;
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

    fn update(&mut self, progress: &Progress) {
        match progress {
            Progress::Run { way, number, of } => {
                let sides = 1 + u64::from(self.compare);
                self.state.runs = u64::from(*number).saturating_mul(sides) + u64::from(*way == Way::Greenroom);
                self.state.come = 0;
                if std::mem::take(&mut self.state.beside) {
                    self.draw(WITH_END);
                }
                let number = number.saturating_add(1);
                self.bar.set_prefix(format!("start {number} of {of}{}", behind(*way)));
            }
            Progress::Client(..) if self.state.beside => {}
            Progress::Client(_, outcome) => self.client(*outcome),
            Progress::Quiet { at_most } => {
                let most = span(plan::nanos(*at_most));
                let why = format!("nobody was answered: a start with hardly any clients, {most} at the most");
                self.beside("quiet start".into(), why);
            }
            Progress::Control { way, done, clients } => {
                let what = format!("control start {}{}", done.saturating_add(1), behind(*way));
                let most = limits::AUDIT_CONTROL_STARTS + 1;
                let why =
                    format!("is it the number of clients that fails them? {clients} come; {most} starts at the most");
                self.beside(what, why);
            }
            Progress::Restart {
                way,
                step,
                there,
                of,
                spent,
                expected,
            } => {
                if std::mem::take(&mut self.state.beside) {
                    self.draw(WITH_END);
                }
                if self.state.restart.replace(*way) != Some(*way) {
                    self.bar.reset(); // its unit is another: what is left of the time is reckoned anew
                }
                let (done, length) = restart_done(*spent, *expected);
                self.bar.set_length(length);
                self.bar.set_position(done);
                self.bar.set_prefix(format!("restart{}", behind(*way)));
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

    #[test]
    fn who_tells_does_not_wait_for_who_shows() {
        let (sender, told) = mpsc::sync_channel(1);
        let shown = Shown(sender);
        let each = Progress::Client(Way::Plain, Outcome::Answered);
        for _ in 0..3 {
            shown.show(each.clone()); // nobody takes them
        }
        assert_eq!((told.try_recv(), told.try_recv().is_err()), (Ok(each), true));
    }

    #[test]
    fn it_is_told_at_once_and_then_each_ten_seconds() {
        let now = Instant::now();
        let before = |time| Some(now.checked_sub(time).unwrap());
        assert!(is_due(None, now) && is_due(before(limits::AUDIT_TOLD_EVERY), now));
        assert!(!is_due(
            before(limits::AUDIT_TOLD_EVERY - Duration::from_millis(1)),
            now
        ));
    }
}
