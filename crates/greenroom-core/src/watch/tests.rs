//! The decisions of the watch: when each is made, and never before.

use super::*;
use crate::drain::seed_for;
use crate::limits::WATCH_EVERY;
use proptest::prelude::*;

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

const PING: Ping = Ping {
    interval: Duration::from_secs(25),
    timeout: Duration::from_secs(20),
    backend: PingBackend::No,
};

fn ping(backend: PingBackend) -> Rule {
    Rule {
        ping: Some(Ping { backend, ..PING }),
        ..Rule::default()
    }
}

/// A connection that is looked at on the grid.
struct Rig {
    rule: Rule,
    watch: Watch,
    seen: Seen,
    now: Time,
}

impl Rig {
    fn new(rule: Rule) -> Self {
        let (now, seen) = (Time::from_millis(60_000), Seen::default());
        let ends = rule.lifetime.map_or(Time::NEVER, |most| now + lifetime(most, 7));
        Self {
            rule,
            watch: Watch::new(now, ends, seen),
            seen,
            now,
        }
    }

    fn look(&mut self) -> Asks {
        self.after(WATCH_EVERY)
    }

    fn after(&mut self, time: Duration) -> Asks {
        self.now = self.now + time;
        self.watch.look(&self.rule, self.now, self.seen)
    }

    /// Looks until something is asked for; how long that took.
    fn until(&mut self, most: Duration) -> (Asks, Duration) {
        let began = self.now;
        while self.now < began + most {
            let asks = self.look();
            if asks != Asks::default() {
                return (asks, self.now.since(began));
            }
        }
        (Asks::default(), self.now.since(began))
    }

    fn pinged(&mut self) {
        self.seen.client.pinged = Some(self.now);
    }

    fn quiet(&mut self, most: Duration) {
        assert_eq!(self.until(most).0, Asks::default(), "nothing for {most:?}");
    }
}

fn close(over: Over) -> Asks {
    Asks {
        close: Some(over),
        ..Asks::default()
    }
}

const PING_CLIENT: Asks = Asks {
    ping_client: true,
    ping_backend: false,
    missed: false,
    close: None,
};
const PING_BACKEND: Asks = Asks {
    ping_client: false,
    ping_backend: true,
    missed: false,
    close: None,
};

#[test]
fn a_silent_client_is_pinged_and_is_dead_when_not_a_byte_comes() {
    let mut rig = Rig::new(ping(PingBackend::No));
    assert_eq!(rig.until(secs(60)), (PING_CLIENT, secs(25)));
    assert_eq!(rig.look(), PING_CLIENT, "again, as nothing was done about it");
    rig.pinged();
    assert_eq!(rig.until(secs(60)), (close(Over::Dead(Sender::Client)), secs(20)));
    assert_eq!(rig.look(), close(Over::Dead(Sender::Client)), "until something is done");
}

#[test]
fn a_pong_or_any_byte_is_life_and_the_silence_begins_anew() {
    let lives: [fn(&mut Peer); 2] = [
        |client| {
            client.pongs += 1;
            client.pinged = None;
        },
        |client| client.bytes += 1, // and the Pong never comes
    ];
    for life in lives {
        let mut rig = Rig::new(ping(PingBackend::No));
        rig.until(secs(60));
        rig.pinged();
        rig.quiet(secs(19));
        life(&mut rig.seen.client);
        rig.look();
        assert_eq!(rig.until(secs(60)), (PING_CLIENT, secs(25)));
        rig.pinged();
        assert_eq!(rig.until(secs(60)), (close(Over::Dead(Sender::Client)), secs(20)));
    }
}

#[test]
fn who_speaks_is_not_pinged_and_what_the_backend_says_is_no_life_of_the_client() {
    let mut rig = Rig::new(ping(PingBackend::No));
    for _ in 0..1_000 {
        rig.seen.client.bytes += 6;
        assert_eq!(rig.look(), Asks::default());
    }
    for n in 1..=49 {
        rig.seen.backend.bytes += 100;
        assert_eq!(rig.look(), Asks::default(), "{n}");
    }
    assert_eq!(rig.look(), PING_CLIENT);
}

#[test]
fn while_something_waits_to_be_written_nobody_is_pinged_and_nobody_dies() {
    let blocks: [fn(&mut Seen, usize); 2] = [
        |seen, bytes| seen.client.unwritten = bytes,
        |seen, bytes| seen.backend.unwritten = bytes,
    ];
    for block in blocks {
        let mut rig = Rig::new(ping(PingBackend::Close));
        block(&mut rig.seen, 1);
        rig.quiet(secs(100));
        block(&mut rig.seen, 0);
        let asks = rig.look();
        assert!(asks.ping_client && asks.ping_backend);
        rig.pinged();
        rig.seen.backend.pinged = Some(rig.now);
        block(&mut rig.seen, 70_000);
        rig.quiet(secs(100));
        block(&mut rig.seen, 0);
        assert_eq!(
            rig.until(secs(60)),
            (close(Over::Dead(Sender::Client)), secs(20)),
            "anew"
        );
    }
}

#[test]
fn after_a_gap_nobody_is_dead_idle_or_slow_before_its_time_is_over_once_more() {
    let rule = Rule {
        idle: Some(secs(300)),
        slow: Some(Slow {
            after: secs(10),
            bytes: 1,
        }),
        ..ping(PingBackend::Close)
    };
    let mut rig = Rig::new(rule);
    rig.until(secs(60));
    rig.pinged();
    rig.seen.backend.pinged = Some(rig.now);
    assert_eq!(rig.after(secs(3_600)), Asks::default());
    assert_eq!(rig.until(secs(60)), (close(Over::Dead(Sender::Client)), secs(20)));

    let mut rig = Rig::new(Rule { ping: None, ..rule });
    rig.quiet(secs(299));
    assert_eq!(rig.after(secs(2)), Asks::default());
    assert_eq!(rig.until(secs(600)), (close(Over::Idle { moving: false }), secs(300)));

    rig.seen.client.unwritten = 5;
    rig.seen.waits_since = Some(rig.now);
    assert_eq!(rig.after(secs(12)), Asks::default());
    assert_eq!(rig.until(secs(600)), (close(Over::Slow), secs(10)));
}

#[test]
fn looks_that_are_a_little_late_are_no_gap() {
    let mut rig = Rig::new(ping(PingBackend::No));
    rig.until(secs(60));
    rig.pinged();
    for _ in 0..13 {
        assert_eq!(rig.after(WATCH_GAP), Asks::default());
    }
    assert_eq!(rig.after(WATCH_GAP), close(Over::Dead(Sender::Client)), "21 s");
}

#[test]
fn a_backend_is_pinged_only_if_asked_and_its_silence_is_counted_or_means_that_it_is_lost() {
    let mut rig = Rig::new(ping(PingBackend::No));
    rig.until(secs(60));
    rig.pinged();
    rig.seen.backend.pinged = Some(rig.now); // nobody asked for it
    assert_eq!(rig.until(secs(60)).0, close(Over::Dead(Sender::Client)));

    let mut rig = Rig::new(ping(PingBackend::Count));
    let lives = |rig: &mut Rig| rig.seen.client.bytes += 1;
    let until = |rig: &mut Rig, most: Duration| {
        let began = rig.now;
        loop {
            lives(rig);
            let asks = rig.look();
            if asks != Asks::default() || rig.now >= began + most {
                return (asks, rig.now.since(began));
            }
        }
    };
    assert_eq!(until(&mut rig, secs(60)), (PING_BACKEND, secs(25)));
    rig.seen.backend.pinged = Some(rig.now);
    let missed = Asks {
        missed: true,
        ..Asks::default()
    };
    assert_eq!(until(&mut rig, secs(60)), (missed, secs(20)));
    assert_eq!(
        until(&mut rig, secs(60)),
        (PING_BACKEND, secs(5)),
        "25 s after the last"
    );
    rig.seen.backend.pinged = Some(rig.now);
    assert_eq!(until(&mut rig, secs(60)), (missed, secs(20)));
    rig.seen.backend.bytes += 1;
    assert_eq!(
        until(&mut rig, secs(60)),
        (PING_BACKEND, secs(25) + WATCH_EVERY),
        "it lives"
    );

    let mut rig = Rig::new(ping(PingBackend::Close));
    until(&mut rig, secs(60));
    rig.seen.backend.pinged = Some(rig.now);
    assert_eq!(
        until(&mut rig, secs(60)),
        (close(Over::Dead(Sender::Backend)), secs(20))
    );
}

#[test]
fn idle_is_who_ends_no_message_and_pings_of_others_are_none() {
    let rule = Rule {
        idle: Some(secs(30)),
        ..Rule::default()
    };
    let mut rig = Rig::new(rule);
    rig.quiet(secs(29));
    rig.seen.messages += 1;
    rig.look();
    rig.seen.client.pongs += 1;
    assert_eq!(rig.until(secs(60)), (close(Over::Idle { moving: false }), secs(30)));
    let mut rig = Rig::new(rule);
    rig.quiet(secs(20));
    rig.seen.client.bytes += 6; // a Ping of its own, or a part of a message: who follows the frames knows
    assert_eq!(rig.until(secs(60)), (close(Over::Idle { moving: true }), secs(10)));
    assert_eq!(
        rig.until(secs(60)).0,
        close(Over::Idle { moving: true }),
        "until it stops"
    );
}

#[test]
fn who_takes_what_waits_bit_by_bit_is_not_idle_and_who_takes_nothing_is() {
    let rule = Rule {
        idle: Some(secs(30)),
        ..Rule::default()
    };
    let mut rig = Rig::new(rule);
    rig.seen.client.unwritten = 60_000;
    for _ in 0..100 {
        rig.seen.client.unwritten -= 100;
        rig.quiet(secs(5));
    }
    assert_eq!(
        rig.until(secs(60)),
        (close(Over::Idle { moving: false }), secs(25) + WATCH_EVERY)
    );
}

#[test]
fn a_lifetime_ends_at_its_own_moment_and_a_slow_client_after_its_time() {
    let mut rig = Rig::new(Rule {
        lifetime: Some(secs(100)),
        ..Rule::default()
    });
    let (asks, after) = rig.until(secs(200));
    assert_eq!(asks, close(Over::Lifetime));
    assert!((secs(90)..=secs(100) + WATCH_EVERY).contains(&after), "{after:?}");

    let slow = Slow {
        after: secs(10),
        bytes: 1,
    };
    let mut rig = Rig::new(Rule {
        slow: Some(slow),
        ..Rule::default()
    });
    rig.quiet(secs(100));
    rig.seen.waits_since = Some(rig.now);
    rig.quiet(secs(9));
    rig.seen.waits_since = Some(rig.now); // all was taken in between
    rig.quiet(secs(9));
    assert_eq!(rig.until(secs(60)), (close(Over::Slow), secs(1)));
}

#[test]
fn without_a_rule_nothing_is_ever_asked_for() {
    assert!(Rule::default().is_empty());
    let mut rig = Rig::new(Rule::default());
    rig.seen.client.pinged = Some(rig.now);
    rig.seen.waits_since = Some(rig.now);
    rig.quiet(secs(100_000));
}

#[test]
fn lifetimes_are_spread_over_their_last_tenth_and_end_in_no_first_second() {
    let most = secs(3_600);
    let mut tenths = [0; 10];
    for session in 0..10_000 {
        let lives = lifetime(most, seed_for(3, session));
        assert!((secs(3_240)..=most).contains(&lives), "{lives:?}");
        tenths[((lives - secs(3_240)).as_secs() / 36).min(9) as usize] += 1;
    }
    assert!(tenths.iter().all(|&n| (850..=1_150).contains(&n)), "{tenths:?}");
    assert!((0..1_000).all(|seed| lifetime(secs(1), seed) >= FIRST_SECOND));
}

proptest! {
    /// Whatever happens on a connection that is looked at on the grid, it is closed for its silence never before its
    /// time, and at most one look later.
    #[test]
    fn nobody_is_closed_before_its_time_nor_more_than_a_look_later(
        spoke in prop::collection::vec(0_u64..40_000, 0..40),
        interval in 1_u64..20, timeout in 1_u64..20, idle in 1_u64..40, answers in any::<bool>(),
    ) {
        let rule = Rule {
            ping: Some(Ping { interval: secs(interval), timeout: secs(timeout), backend: PingBackend::No }),
            idle: Some(secs(idle)),
            ..Rule::default()
        };
        let mut spoke = spoke;
        spoke.sort_unstable();
        let start = Time::from_millis(1_000);
        let (mut seen, mut watch) = (Seen::default(), Watch::new(start, Time::NEVER, Seen::default()));
        let (mut heard, mut said) = (start, start); // a byte of the client; a message of anybody
        let mut pinged: Option<Time> = None;
        for look in 1..400_u64 {
            let (before, now) = (start + WATCH_EVERY * (look as u32 - 1), start + WATCH_EVERY * look as u32);
            for at in spoke.iter().map(|&ms| start + Duration::from_millis(ms)).filter(|&at| at > before && at <= now) {
                (seen.client.bytes, seen.messages) = (seen.client.bytes + 7, seen.messages + 1);
                (heard, said) = (at, at);
            }
            let asks = watch.look(&rule, now, seen);
            match asks.close {
                Some(Over::Dead(_)) => {
                    let pinged = pinged.filter(|&at| at >= heard);
                    prop_assert!(pinged.is_some(), "it was pinged since it was heard last");
                    let silent = now.since(pinged.unwrap_or(now));
                    prop_assert!(silent >= secs(timeout) && silent <= secs(timeout) + WATCH_EVERY, "{silent:?}");
                    prop_assert!(!answers);
                    return Ok(());
                }
                Some(Over::Idle { .. }) => {
                    let idles = now.since(said);
                    prop_assert!(idles >= secs(idle) && idles <= secs(idle) + WATCH_EVERY, "{idles:?}");
                    return Ok(());
                }
                Some(Over::Slow | Over::Lifetime) => prop_assert!(false, "nobody asked for it"),
                None => {}
            }
            prop_assert!(now.since(said) < secs(idle) + WATCH_EVERY, "overdue");
            if asks.ping_client {
                let silent = now.since(heard);
                prop_assert!(silent >= secs(interval), "{silent:?}");
                pinged = Some(now);
                seen.client.pinged = pinged;
                if answers {
                    (seen.client.pongs, seen.client.pinged) = (seen.client.pongs + 1, None);
                    heard = now;
                }
            } else if !answers && pinged.is_none_or(|at| at < heard) {
                prop_assert!(now.since(heard) < secs(interval) + WATCH_EVERY, "the ping is overdue");
            }
        }
    }

    #[test]
    fn nothing_overflows_at_the_ends_of_time(now: u64, later: u64, pinged: u64, since: u64) {
        let rule = Rule {
            ping: Some(PING), idle: Some(Duration::MAX), lifetime: None, slow: Some(Slow { after: Duration::MAX, bytes: 1 }),
        };
        let mut watch = Watch::new(Time::from_nanos(now), Time::NEVER, Seen::default());
        let mut seen = Seen { waits_since: Some(Time::from_nanos(since)), ..Seen::default() };
        seen.client.pinged = Some(Time::from_nanos(pinged));
        let _ = watch.look(&rule, Time::from_nanos(later), seen);
        let _ = lifetime(Duration::from_secs(30 * 24 * 3600), now);
    }
}
