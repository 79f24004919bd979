//! Strategies for how clients are held, and for what may come in at all; and what is without effect.

use std::collections::BTreeSet;
use std::time::Duration;

use greenroom::config::{
    AllowedOrigin, Fair, Flags, ForwardAfter, Hold, HostPattern, KnownBy, Limits, Purpose, Tag, load_bytes,
};
use greenroom_core::limits;
use greenroom_core::users::{OnLimit, Rule};
use proptest::prelude::*;

use super::round_trip::{host, milliseconds};
use super::{check, layers};

type Holds = (
    Hold,
    Duration,
    Vec<String>,
    Option<ForwardAfter>,
    Option<String>,
    Option<Vec<AllowedOrigin>>,
);

pub(crate) fn holds() -> impl Strategy<Value = Holds> {
    let hold = prop_oneof![
        2 => Just(Hold::Auto),
        1 => Just(Hold::Accept),
        1 => Just(Hold::Handshake),
        1 => Just(Hold::Refuse)
    ];
    let forward_after = prop_oneof![
        Just(ForwardAfter::Handshake),
        Just(ForwardAfter::FirstFrame),
        milliseconds(0, 10_000).prop_map(ForwardAfter::Time),
    ];
    let message = "[ -z|~é]{1,12}(\\{phase\\})?[\"\\\\]?(\\{position\\})?x(\\{seconds\\})?";
    (
        hold,
        milliseconds(0, 3_600_000),
        prop::collection::btree_set("[a-zA-Z0-9.!#$%&'*+^_`|~-]{1,12}", 0..4),
        prop::option::of(forward_after),
        prop::option::of(message),
        prop::option::of(origins()),
    )
        .prop_map(|(hold, accept_after, subprotocols, forward_after, message, origins)| {
            let accepts = matches!(hold, Hold::Auto | Hold::Accept);
            let accept_after = if hold == Hold::Auto {
                accept_after
            } else {
                limits::ACCEPT_AFTER
            };
            let subprotocols = if accepts {
                subprotocols.into_iter().collect()
            } else {
                Vec::new()
            };
            let message = message.filter(|_| accepts);
            (hold, accept_after, subprotocols, forward_after, message, origins)
        })
}

fn origins() -> impl Strategy<Value = Vec<AllowedOrigin>> {
    let authority = "[a-z0-9-]{1,6}(\\.[a-z]{1,4}){0,2}(:8[0-9]{3})?";
    let one = prop_oneof![
        Just(AllowedOrigin::Same),
        Just(AllowedOrigin::Null),
        Just(AllowedOrigin::Exact("http://[::1]:8080".into())),
        ("https?|app|moz-extension", authority)
            .prop_map(|(scheme, at)| AllowedOrigin::Exact(format!("{scheme}://{at}"))),
        ("https?", authority).prop_map(|(scheme, at)| AllowedOrigin::Below(scheme, format!(".{at}"))),
    ];
    prop::collection::vec(one, 1..5).prop_map(|origins| {
        let mut seen = BTreeSet::new();
        let is_new = |origin: &AllowedOrigin| seen.insert(origin.to_string());
        origins.into_iter().filter(is_new).collect()
    })
}

pub(crate) fn hosts() -> impl Strategy<Value = Option<Vec<HostPattern>>> {
    let some = prop::collection::vec(host(), 0..4).prop_map(|hosts| {
        let mut seen = BTreeSet::new();
        let is_one = |host: &HostPattern| *host != HostPattern::Any && seen.insert(host.to_string());
        let hosts: Vec<_> = hosts.into_iter().filter(is_one).collect();
        Some(hosts).filter(|hosts| !hosts.is_empty())
    });
    prop_oneof![Just(None), some]
}

type Fairness = (Fair, Option<usize>, Option<usize>, Option<usize>);

pub(crate) fn fairness() -> impl Strategy<Value = Fairness> {
    let fair = prop_oneof![
        Just(Fair::No),
        Just(Fair::Address),
        "[a-z0-9!_-]{1,12}".prop_map(Fair::Header)
    ];
    let number = |most: usize| prop::option::of(1..=most);
    let (held, rate) = (limits::HELD_MAX_MOST, limits::RELEASE_RATE_MAX);
    (fair, number(held), number(held), number(rate)).prop_map(|(fair, per_address, per_key, rate)| {
        let per_key = per_key.filter(|_| matches!(fair, Fair::Header(_)));
        (fair, per_address, per_key, rate)
    })
}

/// What clients of a route are known by.
pub(crate) fn known_by() -> impl Strategy<Value = KnownBy> {
    let tag = prop_oneof![
        ("[a-z][a-z0-9.-]{0,5}", "[a-z =\"ü]{1,8}").prop_map(|(name, value)| Tag::Fixed(format!("{name}={value}"))),
        "x-[a-m0-9!#]{1,6}".prop_map(Tag::Header),
    ];
    let tags = prop::collection::vec(tag, 0..=limits::TAGS_MAX).prop_map(|mut tags| {
        let mut seen = std::collections::BTreeSet::new();
        tags.retain(|tag: &Tag| {
            let text = tag.to_string();
            let name = text.strip_prefix("header:").or(text.split('=').next()).unwrap();
            seen.insert(name.to_owned())
        });
        tags
    });
    (prop::option::of("x-[a-m0-9!#]{1,6}"), tags).prop_map(|(user, tags)| KnownBy { user, tags })
}

pub(crate) fn limits() -> impl Strategy<Value = Limits> {
    let number = |most: usize| prop::option::of(1..=most);
    let connections = || number(limits::DESCRIPTORS_MAX);
    let (head, early, budget) = (
        limits::HEAD_MAX_RANGE,
        limits::EARLY_MAX_RANGE,
        limits::EARLY_BUDGET_RANGE,
    );
    let size = |(min, max): (u64, u64)| prop_oneof![min..=max, (min / 1_024..=max / 1_024).prop_map(|k| k * 1_024)];
    (
        (connections(), connections(), number(limits::HANDSHAKES_MAX)),
        (1..=32_u8, 1..=128_u8),
        (size(head), size(early), size(budget)),
        milliseconds(100, 120_000),
        prop::option::of((1..=limits::DESCRIPTORS_MAX, any::<bool>())),
    )
        .prop_map(
            |((most, of_address, handshakes), bits, (head, early, budget), head_timeout, user)| Limits {
                connections_max: most,
                connections_per_address: of_address,
                handshakes_per_address: handshakes,
                address_bits: bits,
                head_max: usize::try_from(head).unwrap(),
                head_timeout,
                early_max: usize::try_from(early).unwrap(),
                early_budget: usize::try_from(budget.max(early)).unwrap(),
                user: user.map(|(most, closes)| Rule {
                    most,
                    on_limit: if closes {
                        OnLimit::CloseOldest
                    } else {
                        OnLimit::RefuseNew
                    },
                }),
            },
        )
}

/// What one layer says without effect is a slip; what a later layer takes the effect of is as if nobody had said it.
#[test]
fn what_a_later_layer_makes_useless_is_no_error_and_has_no_effect() {
    let file = "[backend.app]\naddress = \"h:1\"\nfair = \"header:x\"\nheld_per_key = 3\n\
        [[route]]\naccept_after = \"1s\"\nwaiting_message = \"wait\"\nsubprotocols = [\"a\"]\n";
    let plain = check("a.toml", file.as_bytes()).unwrap().config;
    assert_eq!(plain.routes[0].accept_after, Duration::from_secs(1));
    assert_eq!(plain.backends[0].held_per_key, Some(3));
    let flags = Flags {
        hold: Some("handshake".into()),
        ..Flags::default()
    };
    let variables = [("GREENROOM__BACKEND__APP__FAIR", "address")];
    let layers = layers(&variables, flags, Purpose::Check);
    let config = load_bytes("a.toml", file.into(), &layers).unwrap().config;
    let route = &config.routes[0];
    assert_eq!(
        (route.hold, route.accept_after),
        (Hold::Handshake, limits::ACCEPT_AFTER)
    );
    assert!(route.subprotocols.is_empty() && route.waiting_message.is_none());
    assert_eq!(
        (&config.backends[0].fair, config.backends[0].held_per_key),
        (&Fair::Address, None)
    );
}

/// A variable reaches the limits, and a profile changes them.
#[test]
fn limits_come_from_every_layer() {
    let file = "[backend.app]\naddress = \"h:1\"\n[limits]\nhead_max = \"2KiB\"\nconnections_max = 5\n\
        [profile.production.limits]\nhead_max = \"3KiB\"\nhead_timeout = \"1s\"\n";
    let flags = Flags {
        profile: Some("production".into()),
        ..Flags::default()
    };
    let variables = [
        ("GREENROOM__LIMITS__HEAD_TIMEOUT", "2s"),
        ("GREENROOM__LIMITS__CONNECTIONS_PER_ADDRESS", "7"),
    ];
    let layers = layers(&variables, flags, Purpose::Serve);
    let limits = load_bytes("a.toml", file.into(), &layers).unwrap().config.limits;
    assert_eq!(
        limits,
        Limits {
            connections_max: Some(5),
            connections_per_address: Some(7),
            head_max: 3_072,
            head_timeout: Duration::from_secs(2),
            ..Limits::default()
        }
    );
}
