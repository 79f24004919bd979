//! Decides when a child that is to give signs of life has gone silent.
//!
//! ```text
//!            READY=1, WATCHDOG=1, WATCHDOG_USEC=n
//!   asleep ───────────────────────────────────────▶ counting ──▶ silent for too long: told once
//!      ▲                                               │  ▲ each of the three begins anew
//!      └──────────── STOPPING=1, or we end it ─────────┘  │ EXTEND_TIMEOUT_USEC puts it off
//!                                                         └─ stopped at the terminal: begins anew after that
//! ```
//!
//! As systemd has it: a start is not watched, unless the child itself begins to give
//! signs during it. `WATCHDOG=trigger` is believed at any time, watched or not. Who is
//! stopped with Ctrl-Z is not silent; who was stopped otherwise is. Pure.

use std::time::{Duration, Instant};

use super::message::{self, Message};

/// See the module.
#[derive(Debug)]
pub(super) struct Watchdog {
    /// How long it may be silent; `None`: as long as it likes.
    interval: Option<Duration>,
    due: Option<Instant>,
    held: bool,
}

impl Watchdog {
    pub(super) fn new(interval: Option<Duration>) -> Self {
        Self {
            interval,
            due: None,
            held: false,
        }
    }

    /// Takes what the child has said. True: it asks for help.
    pub(super) fn hear(&mut self, now: Instant, message: &Message) -> bool {
        if message.watchdog == Some(message::Watchdog::Trigger) {
            self.due = None;
            return true;
        }
        if let Some(interval) = message.watchdog_interval {
            self.interval = (!interval.is_zero()).then_some(interval);
        }
        let is_sign = message.ready || message.watchdog.is_some() || message.watchdog_interval.is_some();
        if message.stopping && !message.ready {
            self.due = None;
        } else if is_sign {
            self.begin(now);
        }
        if let (Some(due), Some(by)) = (self.due, message.extend_timeout) {
            self.due = Some(due.max(now + by));
        }
        false
    }

    /// Nothing counts while it is held; afterwards all begins anew.
    pub(super) fn hold(&mut self, now: Instant, held: bool) {
        self.held = held;
        if let (false, Some(due)) = (held, self.due) {
            self.begin(now);
            self.due = self.due.map(|anew| anew.max(due));
        }
    }

    /// So long nothing of what it says is read: that is not its silence.
    pub(super) fn put_off(&mut self, by: Duration) {
        self.due = self.due.map(|due| due + by);
    }

    /// When [`Watchdog::silent`] is next to be asked.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due.filter(|_| !self.held)
    }

    /// Whether it has been silent for too long, and for how long. Says so once.
    pub(super) fn silent(&mut self, now: Instant) -> Option<Duration> {
        if self.due().is_none_or(|due| now < due) {
            return None;
        }
        self.due = None;
        self.interval
    }

    fn begin(&mut self, now: Instant) {
        self.due = self.interval.map(|interval| now + interval);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    struct Case {
        watchdog: Watchdog,
        began: Instant,
    }

    impl Case {
        fn new(interval: Option<u32>) -> Self {
            Self {
                watchdog: Watchdog::new(interval.map(|n| n * S)),
                began: Instant::now(),
            }
        }

        /// At so many seconds; gives when it is due then.
        fn hear(&mut self, at: u32, text: &str) -> Option<u64> {
            let asks = self
                .watchdog
                .hear(self.began + at * S, &Message::parse(text.as_bytes()));
            assert!(!asks, "{text}");
            self.due()
        }

        fn due(&self) -> Option<u64> {
            self.watchdog.due().map(|due| (due - self.began).as_secs())
        }
    }

    #[test]
    fn a_start_is_not_watched_and_from_ready_on_each_sign_of_life_begins_anew() {
        let mut case = Case::new(Some(10));
        assert_eq!(case.hear(1, "STATUS=starting\nX_GREENROOM_PHASE=init"), None);
        assert_eq!(case.hear(2, "EXTEND_TIMEOUT_USEC=5000000"), None);
        assert_eq!(case.hear(3, "READY=1"), Some(13));
        assert_eq!(case.hear(5, "STATUS=talk is no sign of life"), Some(13));
        assert_eq!(case.hear(6, "WATCHDOG=1"), Some(16));
        assert_eq!(case.hear(7, "RELOADING=1"), Some(16));
        assert_eq!(case.hear(8, "READY=1"), Some(18));
        assert_eq!(case.watchdog.silent(case.began + 17 * S), None);
        assert_eq!(case.watchdog.silent(case.began + 18 * S), Some(10 * S));
        assert_eq!(case.watchdog.silent(case.began + 19 * S), None, "said once");
    }

    #[test]
    fn the_interval_can_be_changed_begun_and_ended_by_the_child() {
        let mut case = Case::new(None);
        assert_eq!(case.hear(1, "READY=1\nWATCHDOG=1"), None);
        assert_eq!(case.hear(2, "WATCHDOG_USEC=3000000"), Some(5));
        assert_eq!(case.hear(3, "WATCHDOG=1"), Some(6));
        assert_eq!(case.hear(4, "WATCHDOG_USEC=0"), None);
        assert_eq!(case.hear(5, "WATCHDOG=1"), None);
    }

    #[test]
    fn an_extension_puts_it_off_and_never_forward() {
        let mut case = Case::new(Some(10));
        case.hear(0, "READY=1");
        assert_eq!(case.hear(1, "EXTEND_TIMEOUT_USEC=2000000"), Some(10));
        assert_eq!(case.hear(2, "EXTEND_TIMEOUT_USEC=20000000"), Some(22));
        assert_eq!(case.hear(3, "WATCHDOG=1"), Some(13), "as systemd: a sign begins anew");
    }

    #[test]
    fn while_nothing_is_read_no_time_passes() {
        let mut case = Case::new(Some(10));
        case.watchdog.put_off(S);
        assert_eq!(case.due(), None);
        case.hear(0, "READY=1");
        case.watchdog.put_off(5 * S);
        assert_eq!(case.due(), Some(15));
    }

    #[test]
    fn whoever_stops_is_not_watched_any_more() {
        let mut case = Case::new(Some(10));
        case.hear(0, "READY=1");
        assert_eq!(case.hear(1, "STOPPING=1\nWATCHDOG=1"), None);
        assert_eq!(case.hear(2, "READY=1"), Some(12));
    }

    #[test]
    fn who_is_stopped_at_the_terminal_is_not_silent_and_has_its_whole_time_afterwards() {
        let mut case = Case::new(Some(10));
        case.watchdog.hold(case.began, true);
        case.watchdog.hold(case.began, false);
        assert_eq!(case.due(), None, "nothing began");
        case.hear(0, "READY=1");
        case.watchdog.hold(case.began + S, true);
        assert_eq!(case.due(), None);
        assert_eq!(case.watchdog.silent(case.began + 50 * S), None);
        case.watchdog.hold(case.began + 60 * S, false);
        assert_eq!(case.due(), Some(70));
    }

    #[test]
    fn a_cry_for_help_is_heard_without_a_watchdog_too() {
        let mut watchdog = Watchdog::new(None);
        assert!(watchdog.hear(Instant::now(), &Message::parse(b"WATCHDOG=trigger")));
        assert_eq!(watchdog.due(), None);
    }
}
