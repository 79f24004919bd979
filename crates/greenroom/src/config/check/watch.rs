//! What a route asks for of silent, idle, old and slow connections, and what of it has no effect.

use std::mem::take;
use std::time::Duration;

use greenroom_core::limits::{LIFETIME_RANGE, PING_TIMEOUT, SLOW_AFTER, SLOW_BYTES, SLOW_BYTES_RANGE, WATCH_TIMES};
use greenroom_core::watch::{Ping, PingBackend, Rule, Slow};

use super::super::problem::Problem;
use super::super::source::Place;
use super::super::units::{duration_in, show, show_size, size_in};
use super::super::words::{OnSlow, Word as _};
use super::super::written::{Field, Route, Size, Span, join};
use super::Checker;

/// What a route says of it.
pub(super) struct Watched {
    ping_interval: Field<Span>,
    ping_timeout: Field<Span>,
    ping_backend: Field<String>,
    idle_timeout: Field<Span>,
    max_lifetime: Field<Span>,
    slow: Field<String>,
    slow_after: Field<Span>,
    slow_bytes: Field<Size>,
}

impl Watched {
    /// Takes the keys out of a said.
    pub(super) fn of(route: &mut Route) -> Self {
        Self {
            ping_interval: take(&mut route.ping_interval),
            ping_timeout: take(&mut route.ping_timeout),
            ping_backend: take(&mut route.ping_backend),
            idle_timeout: take(&mut route.idle_timeout),
            max_lifetime: take(&mut route.max_lifetime),
            slow: take(&mut route.slow),
            slow_after: take(&mut route.slow_after),
            slow_bytes: take(&mut route.slow_bytes),
        }
    }
}

impl Checker<'_> {
    pub(super) fn watch(&mut self, path: &str, mut said: Watched) -> Rule {
        let (min, max) = WATCH_TIMES;
        let ping = self.ping(path, &mut said);
        let idle = self.time_at_will(
            &join(path, "idle_timeout"),
            take(&mut said.idle_timeout),
            "none",
            (min, max),
        );
        let lifetime = self.time_at_will(
            &join(path, "max_lifetime"),
            take(&mut said.max_lifetime),
            "none",
            LIFETIME_RANGE,
        );
        let slow = self.slow(path, &mut said);
        Rule {
            ping,
            idle,
            lifetime,
            slow,
        }
    }

    fn ping(&mut self, path: &str, said: &mut Watched) -> Option<Ping> {
        let interval_key = join(path, "ping_interval");
        let is_absent = said.ping_interval.is_absent();
        for (key, place) in [
            ("ping_timeout", said.ping_timeout.place()),
            ("ping_backend", said.ping_backend.place()),
        ] {
            if is_absent && let Some(place) = place {
                self.problems.add(
                    Problem::new(format!(
                        "`{}` has no effect: nobody is pinged without `{interval_key}`",
                        join(path, key)
                    ))
                    .at(place)
                    .help("write ping_interval = \"25s\" too, or take the key away"),
                );
            }
        }
        let interval = self.time_at_will(&interval_key, take(&mut said.ping_interval), "none", WATCH_TIMES);
        let (timeout, backend) = (take(&mut said.ping_timeout), take(&mut said.ping_backend));
        if is_absent && timeout.is_absent() && backend.is_absent() {
            return None; // what has no effect is not explained
        }
        let (min, max) = WATCH_TIMES;
        let timeout = self.duration(&join(path, "ping_timeout"), timeout, PING_TIMEOUT, min, max);
        let backend = self.word(&join(path, "ping_backend"), backend, PingBackend::default());
        Some(Ping {
            interval: interval?,
            timeout,
            backend,
        })
    }

    fn slow(&mut self, path: &str, said: &mut Watched) -> Option<Slow> {
        let slow_key = join(path, "slow");
        let is_known = said.slow.is_absent() || said.slow.get().is_some_and(|slow| OnSlow::of(&slow.value).is_some());
        let slow_place = said.slow.place().cloned();
        let slow = self.word(&slow_key, take(&mut said.slow), OnSlow::default());
        let (after, bytes) = (take(&mut said.slow_after), take(&mut said.slow_bytes));
        if slow == OnSlow::Wait && is_known {
            for (key, place) in [("slow_after", after.place()), ("slow_bytes", bytes.place())] {
                if place.is_some() && self.sources.in_one_layer(slow_place.as_ref(), place) {
                    self.useless_unless_closed(&join(path, key), place, &slow_key, slow_place.as_ref());
                }
            }
        }
        if slow == OnSlow::Wait && after.is_absent() && bytes.is_absent() {
            return None;
        }
        let (min, max) = WATCH_TIMES;
        let after = self.duration(&join(path, "slow_after"), after, SLOW_AFTER, min, max);
        let bytes = self.slow_bytes(&join(path, "slow_bytes"), bytes);
        (slow == OnSlow::Close).then_some(Slow { after, bytes })
    }

    fn useless_unless_closed(&mut self, key: &str, place: Option<&Place>, slow_key: &str, slow_place: Option<&Place>) {
        self.problems.add(
            Problem::new(format!(
                "`{key}` has no effect: `{slow_key}` is \"wait\", and slow clients are waited for"
            ))
            .near(place)
            .related(slow_place, "said here")
            .help("write slow = \"close\", or take the key away"),
        );
    }

    fn slow_bytes(&mut self, key: &str, field: Field<Size>) -> usize {
        if field.is_absent() {
            self.note(key, show_size(SLOW_BYTES as u64), None);
        }
        let (min, max) = SLOW_BYTES_RANGE;
        let read = |text: &str| {
            let size = size_in(text, min, max).map_err(|error| error.to_string())?;
            usize::try_from(size).map_err(|_| format!("{text} is more than this machine can count"))
        };
        self.text(key, field, read).map_or(SLOW_BYTES, |placed| placed.value)
    }

    /// A time that nobody need set.
    fn time_at_will(
        &mut self,
        key: &str,
        field: Field<Span>,
        without: &str,
        (min, max): (Duration, Duration),
    ) -> Option<Duration> {
        if field.is_absent() {
            self.note(key, without, None);
        }
        let read = |text: &str| duration_in(text, min, max);
        self.text(key, field, read).map(|placed| placed.value)
    }
}

/// What a rule asks for that can hardly be meant.
pub(in crate::config) fn doubts(rule: &Rule) -> Vec<String> {
    let Some(ping) = rule.ping else { return Vec::new() };
    let shorter = [("idle_timeout", rule.idle), ("max_lifetime", rule.lifetime)];
    shorter
        .into_iter()
        .filter_map(|(key, time)| Some((key, time.filter(|&time| time <= ping.interval)?)))
        .map(|(key, time)| {
            format!(
                "{key} is {}, no longer than ping_interval ({}): connections are closed before they are pinged",
                show(time),
                show(ping.interval)
            )
        })
        .collect()
}
