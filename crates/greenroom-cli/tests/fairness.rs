//! Turns among those who wait, how many of one address or key may, and how fast they are let in: on real sockets.
//!
//! What a server meets is the proof: which client's head comes first. 127.0.0.2, 127.0.0.3 … are addresses of
//! their own.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::time::{Duration, Instant};

use common::house::House;
use common::raw::{Raw, field, switching, upgrade};
use greenroom::config::{Config, Fair};
use greenroom_core::event::State;

/// Connections of the one who has many.
const MANY: usize = 40;

/// A client that is held, the last of so many.
fn held(house: &House, mut client: Raw, extra: &str, count: usize) -> Raw {
    client.send(upgrade(extra));
    house.wait_for_places(count);
    client
}

/// One client with many connections from 127.0.0.1, and after it one each from three other addresses.
fn crowd(house: &House) -> Vec<Raw> {
    let one = (1..=MANY).map(|count| held(house, house.client(), "", count));
    let mut all: Vec<Raw> = one.collect();
    for (count, last) in (MANY + 1..).zip([2, 3, 4]) {
        all.push(held(house, Raw::connect_from(last, &house.address), "", count));
    }
    all
}

/// What the next so many heads at the server have in this field, each let in.
fn let_in(house: &House, count: usize, name: &str) -> (Vec<String>, Vec<Raw>) {
    let next = || {
        let (mut backend, head) = house.stub.request();
        backend.send(switching(""));
        (field(&head, name).unwrap_or_default(), backend)
    };
    (0..count).map(|_| next()).unzip()
}

fn one_at_a_time(config: &mut Config) {
    config.backends[0].dials_max = 1;
}

/// All are through, and gone; each is counted once.
fn all_gone(house: &House, clients: Vec<Raw>, backends: Vec<Raw>) {
    for mut client in clients {
        let head = client.head();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        client.fin();
    }
    drop(backends);
    house.wait_for(State::Closed, house.registry.accepted());
    for state in [State::Held, State::Dialing, State::Relaying, State::Closing] {
        house.wait_for(state, 0);
    }
}

fn refused(house: &House, mut client: Raw, extra: &str, word: &str) {
    client.send(upgrade(extra));
    let (head, _) = client.answer();
    assert!(head.starts_with("HTTP/1.1 429 Too Many Requests\r\n"), "{head}");
    assert_eq!(field(&head, "greenroom-refusal").as_deref(), Some(word), "{head}");
    let after: u32 = field(&head, "retry-after").unwrap().parse().unwrap();
    assert!((1..=5).contains(&after), "{head}");
    assert_eq!(house.refused(word), 1);
}

#[test]
fn with_fair_address_one_with_many_connections_keeps_nobody_waiting_for_more_than_one_of_them() {
    let house = House::pushed(|config| {
        one_at_a_time(config);
        config.backends[0].fair = Fair::Address;
    });
    let clients = crowd(&house);
    house.ready();
    let (order, backends) = let_in(&house, clients.len(), "x-forwarded-for");
    assert_eq!(
        order[..5],
        ["127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.1"]
    );
    assert!(order[5..].iter().all(|from| from == "127.0.0.1"), "{order:?}");
    all_gone(&house, clients, backends);
}

#[test]
fn with_fair_address_the_order_holds_also_where_many_are_dialled_at_once() {
    let house = House::pushed(|config| config.backends[0].fair = Fair::Address);
    let clients = crowd(&house);
    house.ready();
    let (order, backends) = let_in(&house, clients.len(), "x-forwarded-for");
    assert_eq!(
        order[..5],
        ["127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.1"]
    );
    all_gone(&house, clients, backends);
}

#[test]
fn without_fair_those_who_came_last_go_last() {
    let house = House::pushed(one_at_a_time);
    let clients = crowd(&house);
    house.ready();
    let (order, backends) = let_in(&house, clients.len(), "x-forwarded-for");
    assert_eq!(order[MANY..], ["127.0.0.2", "127.0.0.3", "127.0.0.4"]);
    all_gone(&house, clients, backends);
}

#[test]
fn with_fair_header_tenants_take_turns_and_those_without_one_are_one_tenant() {
    let house = House::pushed(|config| {
        one_at_a_time(config);
        config.backends[0].fair = Fair::Header("x-tenant".into());
    });
    let tenants = ["big", "big", "big", "big", "", "", "small", "", "small", "late"];
    let line = (1..).zip(tenants).map(|(count, tenant)| {
        let extra = format!("X-Tenant: {tenant}\r\n");
        let extra = if tenant.is_empty() { "" } else { &extra };
        held(&house, house.client(), extra, count)
    });
    let clients: Vec<Raw> = line.collect();
    house.ready();
    let (order, backends) = let_in(&house, tenants.len(), "x-tenant");
    assert_eq!(
        order,
        ["big", "", "small", "late", "big", "", "small", "big", "", "big"]
    );
    all_gone(&house, clients, backends);
}

#[test]
fn as_many_of_one_address_wait_as_may_and_one_more_is_429() {
    let house = House::pushed(|config| config.backends[0].held_per_address = Some(3));
    let mut clients: Vec<Raw> = (1..=3).map(|count| held(&house, house.client(), "", count)).collect();
    refused(&house, house.client(), "", "held_of_address");
    clients.push(held(&house, Raw::connect_from(2, &house.address), "", 4));
    drop(clients.remove(0));
    house.wait_for_places(3);
    clients.push(held(&house, house.client(), "", 4));
    house.ready();
    let (_, backends) = let_in(&house, clients.len(), "greenroom-session");
    all_gone(&house, clients, backends);
    assert_eq!(house.refused("held_of_address"), 1);
}

#[test]
fn as_many_of_one_tenant_wait_as_may_and_one_more_is_429() {
    let house = House::pushed(|config| {
        config.backends[0].fair = Fair::Header("x-tenant".into());
        config.backends[0].held_per_key = Some(2);
    });
    let (big, small) = ("X-Tenant: big\r\n", "X-Tenant: small\r\n");
    let mut clients: Vec<Raw> = (1..=2).map(|count| held(&house, house.client(), big, count)).collect();
    refused(&house, house.client(), big, "held_of_key");
    clients.push(held(&house, house.client(), small, 3));
    house.ready();
    let (_, backends) = let_in(&house, clients.len(), "greenroom-session");
    all_gone(&house, clients, backends);
}

/// Two of one address are at the gate where one may wait: the one came back, and had its place before.
#[test]
fn whoever_comes_back_to_its_place_is_not_one_too_many() {
    let house = House::pushed(|config| {
        one_at_a_time(config);
        config.backends[0].held_per_address = Some(1);
    });
    let first = held(&house, house.client(), "", 1);
    house.ready();
    let (backend, head) = house.stub.request();
    let second = held(&house, house.client(), "", 1);
    backend.reset();
    let (mut again, head_again) = house.stub.request();
    assert_eq!(
        field(&head, "greenroom-session"),
        field(&head_again, "greenroom-session")
    );
    assert_eq!(field(&head_again, "greenroom-attempt").as_deref(), Some("2"));
    again.send(switching(""));
    let (_, mut backends) = let_in(&house, 1, "greenroom-session");
    backends.push(again);
    all_gone(&house, vec![first, second], backends);
    assert_eq!(house.refused("held_of_address"), 0);
}

/// By the server's stamps: whatever the machine does meanwhile makes a stamp later, and never earlier.
#[test]
fn nobody_is_let_in_before_release_rate_allows_it() {
    const RATE: u32 = 20;
    const BURST: u32 = 2; // 100 ms of it
    let house = House::pushed(|config| config.backends[0].release_rate = Some(RATE as usize));
    let clients: Vec<Raw> = (1..=30).map(|count| held(&house, house.client(), "", count)).collect();
    let began = Instant::now();
    house.ready();
    let mut backends = Vec::new();
    for nth in 1..=30 {
        let (mut backend, _) = house.stub.request();
        let (after, due) = (
            began.elapsed(),
            Duration::from_secs(1) * u32::saturating_sub(nth, BURST) / RATE,
        );
        assert!(
            after >= due,
            "client {nth} is let in after {after:?}, and not before {due:?} it may be"
        );
        backend.send(switching(""));
        backends.push(backend);
    }
    all_gone(&house, clients, backends);
}
