//! How the house ends: signals, draining, the order of things.
//!
//! 1. Whoever is held is refused with 503, at once; so is whoever still comes.
//! 2. The relayed are closed with 1001, spread over half of the grace at the most.
//! 3. The child gets TERM, its grace, and KILL (in `child`).
//!
//! Ctrl-C and Ctrl-\ at a terminal that the child has are INT and QUIT, told by its
//! warden. A second signal cuts the waiting short.

use std::io;
use std::time::Duration;

use greenroom_core::event::State;
use greenroom_core::limits::SPREAD_MAX;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use super::House;
use crate::clock;
use crate::driver::Message;
use crate::relay::Drain;
use crate::supervise::{self, Key};
use crate::telemetry::Event;

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// Stop, within the grace or at once.
    Stop { name: &'static str, graceful: bool },
    /// It is the child's.
    Forward(supervise::Signal),
}

/// The signals that greenroom answers to.
pub(super) struct Signals {
    term: Signal,
    int: Signal,
    quit: Signal,
    hup: Signal,
    usr1: Signal,
    usr2: Signal,
    winch: Signal,
    /// Keys at the terminal that the child has: it gets their signals, and not we.
    keys: Option<mpsc::Receiver<Key>>,
}

impl Signals {
    pub(super) fn subscribe(keys: Option<mpsc::Receiver<Key>>) -> io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            hup: signal(SignalKind::hangup())?,
            usr1: signal(SignalKind::user_defined1())?,
            usr2: signal(SignalKind::user_defined2())?,
            winch: signal(SignalKind::window_change())?,
            keys,
        })
    }

    /// Waits for the next one.
    pub(super) async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.term.recv() => Asked::Stop { name: "TERM", graceful: true },
            _ = self.int.recv() => Asked::Stop { name: "INT", graceful: true },
            key = pressed(&mut self.keys) => match key {
                Key::Interrupt => Asked::Stop { name: "Ctrl-C", graceful: true },
                Key::Quit => Asked::Stop { name: "Ctrl-\\", graceful: false },
            },
            _ = self.quit.recv() => Asked::Stop { name: "QUIT", graceful: false },
            _ = self.hup.recv() => Asked::Forward(supervise::Signal::HUP),
            _ = self.usr1.recv() => Asked::Forward(supervise::Signal::USR1),
            _ = self.usr2.recv() => Asked::Forward(supervise::Signal::USR2),
            _ = self.winch.recv() => Asked::Forward(supervise::Signal::WINCH),
        }
    }

    /// Waits until somebody asks once more to stop.
    pub(super) async fn again(&mut self) {
        while let Asked::Forward(_) = self.next().await {}
    }
}

/// The next key, if there is a terminal that could send one.
async fn pressed(keys: &mut Option<mpsc::Receiver<Key>>) -> Key {
    if let Some(keys) = keys
        && let Some(key) = keys.recv().await
    {
        return key;
    }
    std::future::pending().await
}

/// Without a child: ends when it is told to.
pub(super) async fn serve(house: &House) -> u8 {
    let mut signals = match Signals::subscribe(None) {
        Ok(signals) => signals,
        Err(error) => {
            let code = super::CANNOT_LISTEN;
            house.log.fatal(code, format!("cannot listen for signals: {error}"));
            return code;
        }
    };
    loop {
        match signals.next().await {
            Asked::Stop { name, graceful } => {
                empty(house, &mut signals, name, graceful).await;
                return 0;
            }
            Asked::Forward(supervise::Signal::HUP) => {
                empty(house, &mut signals, "HUP", true).await; // the terminal is gone
                return 0;
            }
            Asked::Forward(_) => {} // for a child, and there is none
        }
    }
}

/// Empties the house of clients: steps 1 and 2.
pub(super) async fn empty(house: &House, signals: &mut Signals, name: &'static str, graceful: bool) {
    let registry = &house.registry;
    let count = |state| usize::try_from(registry.count(state)).unwrap_or(usize::MAX);
    let held = count(State::Held) + count(State::Dialing);
    let relayed = count(State::Relaying);
    house.outer.stopping();
    house.log.say(Event::Stopping {
        signal: name,
        held,
        relayed,
    });
    let now = clock::now();
    let spread = if graceful {
        SPREAD_MAX.min(house.config.grace / 2)
    } else {
        Duration::ZERO
    };
    house.drain.send_replace(Some(Drain {
        count: relayed,
        spread,
        deadline: now + spread,
    }));
    // Behind the plan: who is held with a 101 is closed by it too.
    for station in &house.stations {
        station.backend.inbox.tell(Message::Drain);
    }
    let wait = if graceful { house.config.grace } else { Duration::ZERO };
    tokio::select! {
        biased; // a second word is for what takes time: an empty house leaves it to the child's grace
        () = emptied(house) => {}
        () = tokio::time::sleep(wait.max(QUICK)) => {}
        () = signals.again() => {}
    }
}

/// What even a stop without grace leaves for answers that are only written.
const QUICK: Duration = greenroom_core::limits::QUICK_STOP;

/// Waits until no client is left but those that have said nothing yet.
async fn emptied(house: &House) {
    let registry = &house.registry;
    loop {
        let changed = registry.changed.notified();
        tokio::pin!(changed);
        changed.as_mut().enable();
        if registry.is_idle() {
            return;
        }
        changed.await;
    }
}
