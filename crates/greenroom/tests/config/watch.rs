//! Strategies for what is asked for of silent, idle, old and slow connections; and what can hardly be meant.

use greenroom::config::{Flags, Purpose, load_bytes};
use greenroom_core::limits::{SLOW_BYTES_RANGE, WATCH_TIMES};
use greenroom_core::watch::{Ping, PingBackend, Rule, Slow};
use proptest::prelude::*;

use super::layers;
use super::round_trip::milliseconds;

pub(crate) fn rule() -> impl Strategy<Value = Rule> {
    let time = || milliseconds(1_000, 86_400_000);
    let backend = prop_oneof![
        Just(PingBackend::No),
        Just(PingBackend::Count),
        Just(PingBackend::Close)
    ];
    let ping = (time(), time(), backend).prop_map(|(interval, timeout, backend)| Ping {
        interval,
        timeout,
        backend,
    });
    let (least, most) = SLOW_BYTES_RANGE;
    let bytes = (least..=most).prop_map(|bytes| usize::try_from(bytes).unwrap());
    let slow = (time(), bytes).prop_map(|(after, bytes)| Slow { after, bytes });
    (
        prop::option::of(ping),
        prop::option::of(time()),
        prop::option::of(milliseconds(1_000, 30 * 86_400_000)),
        prop::option::of(slow),
    )
        .prop_map(|(ping, idle, lifetime, slow)| Rule {
            ping,
            idle,
            lifetime,
            slow,
        })
}

fn notes(route: &str) -> Vec<String> {
    let text = format!("[backend.app]\naddress = \"127.0.0.1:8000\"\n[[route]]\n{route}\n");
    let layers = layers(&[], Flags::default(), Purpose::Check);
    load_bytes("greenroom.toml", text.into_bytes(), &layers).unwrap().notes
}

#[test]
fn who_is_closed_before_it_is_pinged_is_noticed() {
    assert!(notes("ping_interval = \"25s\"\nidle_timeout = \"26s\"\nmax_lifetime = \"1h\"").is_empty());
    let said = notes("ping_interval = \"25s\"\nidle_timeout = \"25s\"\nmax_lifetime = \"10s\"");
    assert_eq!(
        said,
        [
            "route \"*/\": idle_timeout is 25s, no longer than ping_interval (25s): connections are closed before they are pinged",
            "route \"*/\": max_lifetime is 10s, no longer than ping_interval (25s): connections are closed before they are pinged",
        ]
    );
}

#[test]
fn the_least_and_the_most_may_be_asked_for() {
    let (least, most) = WATCH_TIMES;
    for time in [least, most] {
        let ms = time.as_millis();
        assert!(
            notes(&format!(
                "idle_timeout = \"{ms}ms\"\nslow = \"close\"\nslow_after = \"{ms}ms\""
            ))
            .is_empty()
        );
    }
}
