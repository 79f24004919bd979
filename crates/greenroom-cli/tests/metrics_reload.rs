//! What a scrape says of backends that a reload has renamed, replaced or taken away, and of a gate that is set by hand.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{
    process::until,
    raw::{SOON, Stub, masked, switching},
    reloading::{outcome, own, write},
    rig::Rig,
    scraping::{sum, text, value},
};

/// A gate is in one state, whatever a hand does, and `ready` says whether anybody is let in.
#[test]
fn a_gate_is_in_one_state_whoever_has_set_it_and_a_hand_is_seen() {
    let rig = Rig::start(
        "run",
        "[backend.app]\naddress = \"127.0.0.1:1\"\nready = \"notify\"\nphases = [\"warm\"]\n\
         [backend.app.process]\ncommand = [\"tail\", \"-f\", \"/dev/null\"]\n",
    );
    rig.greenroom.wait_for_event("started", SOON); // what is said of no life counts for none
    let states = ["open", "limited", "shut", "failed", "refusing"];
    let gate = |page: &str, state: &str| value(page, &format!("greenroom_gate{{backend=\"app\",state=\"{state}\"}}"));
    let of_app = |page: &str, name: &str| value(page, &format!("{name}{{backend=\"app\"}}"));
    let sees = |hand: &str, expected: &[&str], lets_in: f64| {
        let order = match hand {
            "force" => serde_json::json!({ "gate": "open", "force": true }),
            word => serde_json::json!({ "gate": word }),
        };
        assert_eq!(rig.post("/v1/backends/app/gate", &order).0, 200);
        let page = text(&rig);
        let set: Vec<_> = states.into_iter().filter(|state| gate(&page, state) == 1.0).collect();
        assert!(set.len() == 1 && expected.contains(&set[0]), "{hand}: {set:?}");
        assert_eq!(sum(&page, "greenroom_gate"), 1.0, "there is no other state");
        assert_eq!(
            of_app(&page, "greenroom_gate_by_hand"),
            f64::from(hand != "open"),
            "{hand}"
        );
        assert_eq!(of_app(&page, "greenroom_backend_ready"), lets_in, "{hand}");
    };
    for (hand, expected, lets_in) in [
        ("hold", &["shut"][..], 0.0),
        ("refuse", &["refusing"], 0.0),
        ("force", &["open", "limited"], 1.0), // whatever it is ready for
        ("open", &["shut"], 0.0),
    ] {
        sees(hand, expected, lets_in);
    }
    for phase in ["warm", "ready"] {
        rig.tell(&["phase", phase]);
    }
    until("it is ready", || of_app(&text(&rig), "greenroom_backend_ready") == 1.0);
    for (hand, expected, lets_in) in [
        ("refuse", &["refusing"][..], 0.0),
        ("hold", &["shut"], 0.0),
        ("force", &["open", "limited"], 1.0),
        ("open", &["open", "limited"], 1.0),
    ] {
        sees(hand, expected, lets_in);
    }
}

/// A backend of this name, at this server, and a route to it.
fn with(name: &str, stub: &Stub) -> String {
    let address = stub.address();
    format!("[backend.{name}]\naddress = \"{address}\"\nready = \"listen\"\n[[route]]\nbackend = \"{name}\"\n")
}

/// A backend that is called otherwise, is replaced, or is gone takes nothing with it that was counted.
#[test]
fn no_counter_falls_by_a_reload_and_sums_agree() {
    let (stub, other) = (Stub::listen(), Stub::listen());
    let rig = Rig::start("serve", &with("app", &stub));
    let relayed = |stub: &Stub| {
        let mut client = rig.knock("/ws");
        let (mut backend, _) = stub.request();
        backend.send(switching(""));
        assert!(client.head().starts_with("HTTP/1.1 101 "));
        client.send(masked(0x81, b"hello"));
        backend.frame();
        (client, backend)
    };
    let bytes = |page: &str, name: &str| {
        value(
            page,
            &format!("greenroom_relayed_bytes_total{{backend=\"{name}\",from=\"client\"}}"),
        )
    };
    let releases = |page: &str, name: &str| value(page, &format!("greenroom_releases_total{{backend=\"{name}\"}}"));
    let waits = |page: &str| sum(page, "greenroom_wait_seconds_count");
    let is_told = |page: &str, name: &str| page.contains(&format!("backend=\"{name}\""));
    let reloads = |text: &str| {
        write(&rig, text);
        assert_eq!(outcome(&rig, &[]), "reloaded");
    };

    let first = relayed(&stub);
    until("it is counted", || bytes(&text(&rig), "app") == 11.0);
    // Called otherwise, while somebody is with it.
    reloads(&with("web", &stub));
    let page = text(&rig);
    assert_eq!((bytes(&page, "app"), releases(&page, "app")), (11.0, 1.0), "{page}");
    assert_eq!((bytes(&page, "web"), waits(&page)), (0.0, 1.0));
    assert!(
        !page.contains("greenroom_gate{backend=\"app\""),
        "it stands nowhere any more"
    );
    // The last has gone: what was counted is kept without the name.
    drop(first);
    until("its name is forgotten", || !is_told(&text(&rig), "app"));
    let page = text(&rig);
    assert_eq!((bytes(&page, "(gone)"), releases(&page, "(gone)")), (11.0, 1.0));
    assert_eq!(waits(&page), 1.0);
    // Replaced by another of its name: what the old one has counted, and counts, stays.
    let second = relayed(&stub);
    until("it is counted", || bytes(&text(&rig), "web") == 11.0);
    reloads(&with("web", &other));
    let third = relayed(&other);
    until("both are counted", || bytes(&text(&rig), "web") == 22.0);
    assert_eq!(releases(&text(&rig), "web"), 2.0);
    drop((second, third));
    until("they have gone", || own(&rig)["configurations"] == 1);
    for round in 0..3 {
        let page = text(&rig);
        assert_eq!((bytes(&page, "web"), releases(&page, "web")), (22.0, 2.0), "{round}");
        assert_eq!((waits(&page), sum(&page, "greenroom_relayed_bytes_total")), (3.0, 33.0));
    }
    // A name for each deploy is none more in the page.
    for deploy in 0..20 {
        reloads(&with(&format!("app-{deploy}"), &stub));
        drop(relayed(&stub));
    }
    until("they are forgotten", || {
        let page = text(&rig);
        !(0..19).any(|deploy| is_told(&page, &format!("app-{deploy}")))
            && sum(&page, "greenroom_releases_total") == 23.0
    });
}
