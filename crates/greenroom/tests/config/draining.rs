//! How clients are closed, drawn for the round trip.

use std::time::Duration;

use greenroom::config::{Drain, DrainKind, Manner};
use greenroom_core::drain::{Pace, splitmix64};
use greenroom_core::limits::{DRAIN_REASON_MAX, GRACE_MAX};
use greenroom_core::wire::CloseCode;

/// One that fits that grace, drawn by it: each is another, so that the round trip sees many.
pub(crate) fn drain(grace: Duration, starts: bool) -> Drain {
    let mut seed = grace.as_nanos() as u64; // an hour is far less
    let mut draw = |most: u64| {
        seed = splitmix64(seed);
        seed % most
    };
    let usual = Drain::plain(grace);
    let mut manner = |usual: &Manner, longest: Option<Duration>| Manner {
        pace: match (draw(3), longest) {
            (0, Some(longest)) => Pace::Window(longest * u32::try_from(draw(101)).unwrap() / 100),
            (0, None) => Pace::Window(Duration::from_millis(draw(86_400_000))),
            (1, _) => Pace::Rate(u32::try_from(1 + draw(100_000)).unwrap()),
            (_, _) => usual.pace,
        },
        code: CloseCode::new(u16::try_from(1_000 + draw(4_000)).unwrap()).unwrap_or(usual.code),
        reason: match draw(3) {
            0 => String::new(),
            1 => "a \"new\" version, at 14:00 = 2 pm # soon".into(),
            _ => "w".repeat(usize::try_from(draw(DRAIN_REASON_MAX as u64 + 1)).unwrap()),
        },
    };
    let whole = |pace| match pace {
        // What is written is in milliseconds.
        Pace::Window(window) => Pace::Window(Duration::from_millis(u64::try_from(window.as_millis()).unwrap())),
        other => other,
    };
    let mut stop = manner(&usual.stop, Some(grace));
    stop.pace = whole(stop.pace);
    let kinds = DrainKind::ALL.map(|kind| {
        let with_stops = Manner {
            pace: stop.pace,
            ..usual.of(kind).clone()
        };
        manner(&with_stops, None)
    });
    let drain = Drain {
        stop,
        within: None,
        kinds,
    };
    let needs = drain.longest(grace) + if starts { grace } else { Duration::ZERO };
    let within = Some(GRACE_MAX).filter(|most| *most >= needs && grace.as_millis().is_multiple_of(3));
    Drain { within, ..drain }
}
