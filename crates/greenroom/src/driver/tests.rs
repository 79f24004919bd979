//! What the owner task leaves behind when those at its gate have gone.

use std::sync::Arc;

use greenroom_core::backend::Source;
use greenroom_core::event::SessionId;
use greenroom_core::gate::{Accept, Class, Trust, Who};
use greenroom_core::limits::CROWD_LEAST;
use greenroom_core::readiness::Plan;
use greenroom_core::starts::Starts;
use greenroom_core::time::Time;

use super::{Arrival, Client, Driver, Message, Parts, ROOM_KEPT, line};
use crate::config::{Flags, Layers, Purpose, RouteOf, load_bytes};
use crate::head::parse_head;
use crate::memory::is_told;
use crate::registry::Registry;
use crate::resolve::Names;
use crate::telemetry::{Format, Log};

/// Those who are let in stay in the house's books, so that nobody but the owner task knows that the memory of their wait is free.
#[tokio::test]
async fn when_three_quarters_of_a_crowd_have_left_the_gate_their_memory_is_given_back() {
    let layers = Layers {
        file: None,
        variables: Vec::new(),
        flags: Flags::default(),
        purpose: Purpose::Serve,
    };
    let text = b"[backend.app]\naddress = \"127.0.0.1:1\"\nready = \"http:/\"\n".to_vec();
    let config = Arc::new(load_bytes("test.toml", text, &layers).unwrap().config);
    let log = Log::start(Format::Json);
    let registry = Registry::new(log.clone(), 64, &config.limits);
    let entry = registry.accept([127, 0, 0, 1].into()).unwrap();
    let address: crate::config::Address = "127.0.0.1:1".parse().unwrap();
    let (mut driver, backend, _wants) = Driver::new(Parts {
        config: Arc::clone(&config),
        backend: 0,
        names: Names::new(&address, log.clone()),
        address,
        plan: Plan::plain(Source::Probe(Trust::Pushed), false),
        starts: Starts::default(),
        registry: Arc::clone(&registry),
        log,
    });
    let request = Arc::new(parse_head(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap());
    let mut sessions: Vec<SessionId> = Vec::new();
    for _ in 0..CROWD_LEAST {
        let arrival = Arrival {
            deadline: Time::NEVER,
            may_wait: true,
            class: Class::WebSocket,
            who: Who::default(),
            client: Client::new(
                entry.record(),
                &request,
                RouteOf::new(&config, 0),
                Accept::Never,
                line().0,
            ),
        };
        sessions.push(backend.inbox.arrive(Time::ZERO, arrival));
    }
    let mut messages = Vec::new();
    let mut turn = || {
        backend.inbox.take(&mut messages);
        driver.turn(&mut messages);
        assert!(messages.capacity() <= ROOM_KEPT, "no room is kept for what was told");
        (driver.clients.len(), is_told(&registry.crowd_gone))
    };
    assert_eq!(turn(), (CROWD_LEAST, false));
    let stay = CROWD_LEAST / 4;
    let leave = |sessions: Vec<SessionId>| {
        for id in sessions {
            backend.inbox.tell(Message::Left(id));
        }
    };
    leave(sessions.split_off(stay + 1));
    assert_eq!(turn(), (stay + 1, false), "one too many are there");
    leave(sessions.split_off(stay));
    assert_eq!(turn(), (stay, true));
    leave(sessions);
    assert_eq!(turn(), (0, false), "those who were left are no crowd");
    assert!(driver.clients.capacity() <= 4 * ROOM_KEPT);
}
