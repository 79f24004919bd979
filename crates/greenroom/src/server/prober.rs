//! Asks the probe while a verdict is wanted, and tells the owner task.
//!
//! A backend that is ready is left alone: no look is made, no connection opened,
//! until something gives a reason to doubt. While it is not, the probe looks on its
//! grid, and once more before a hold ends, when the owner task says so.

use std::sync::Arc;
use std::time::Duration;

use greenroom_core::backend::Input;

use super::lives::Lives;
use crate::clock;
use crate::config::{Address, Ready};
use crate::driver::{Inbox, Message, Wants};
use crate::probe::{self, Of, Probe, Unready, Verdict, Why};
use crate::telemetry::{Event, Log};

/// What to probe, and as whose verdict.
pub(super) struct Prober {
    pub(super) ready: Ready,
    pub(super) address: Address,
    pub(super) of: Of,
    pub(super) lives: Arc<Lives>,
    pub(super) inbox: Arc<Inbox>,
    pub(super) log: Log,
}

impl Prober {
    /// Probes for ever, whenever it is wanted.
    pub(super) async fn run(self, wants: Wants) {
        self.run_every(None, wants).await;
    }

    /// The same with another interval than the probe's own.
    pub(super) async fn run_every(self, every: Option<Duration>, mut wants: Wants) {
        loop {
            if wants.verdict.wait_for(|wanted| *wanted).await.is_err() {
                return; // the owner task is gone
            }
            let (probe, by) = self.probe();
            let (mut unready, mut last) = (Unready::default(), None);
            let every = every.unwrap_or_else(|| probe.every());
            let mut report = |look: probe::Look| {
                if let Some(note) = look.note {
                    self.log.warn(note.to_string());
                }
                // Each one: what was known already the machine knows, and a relay may have been lost since.
                let up = look.verdict == Verdict::Up;
                let generation = self.lives.of(look.began);
                if up {
                    self.lives.listens(generation);
                }
                let why = match look.verdict {
                    Verdict::Up | Verdict::Down(Why::NoChild) => None, // its end was told
                    Verdict::Down(why) => Some(why),
                };
                if why != last {
                    last = why;
                    let reason = why.map(|why| probe::reason(&self.ready, &self.address, why));
                    self.inbox.tell(Message::Unready(reason));
                }
                if unready.observe(clock::now(), why)
                    && let Some(why) = why
                {
                    let reason = probe::reason(&self.ready, &self.address, why);
                    self.log.say(Event::Probe { by, reason });
                }
                self.inbox.tell(Message::signal(Input::Verdict(generation, up), by));
            };
            tokio::select! {
                never = probe::watch(probe, every, &wants.look_now, &mut report) => match never {},
                left = wants.verdict.wait_for(|wanted| !*wanted) => {
                    if left.is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// A fresh probe. For a child that is to notify it is the look at its socket
    /// that counts once its word did not hold.
    fn probe(&self) -> (Probe, &'static str) {
        let by = match &self.ready {
            Ready::Tcp => "tcp",
            Ready::Http(_) => "http",
            Ready::WebSocket(_) => "websocket",
            Ready::Grpc(_) => "grpc",
            Ready::Auto | Ready::Notify if !self.address.is_local() => "tcp",
            Ready::Auto | Ready::Notify | Ready::Listen => "listen",
        };
        let probe = Probe::for_ready(&self.ready, &self.address, self.of.clone())
            .or_else(|| Probe::for_ready(&Ready::Auto, &self.address, self.of.clone()))
            .unwrap_or_else(|| Probe::tcp(&self.address));
        (probe, by)
    }
}
