//! Where a child listens, looked at now and then while it is not ready: is that where it is waited for, and
//! does it listen without a word?
//!
//! Bounded: one look at the process table each `ELSEWHERE_EVERY`, and none while nothing is wanted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use greenroom_core::limits::ELSEWHERE_EVERY;
use tokio::sync::watch;

use super::lives::Lives;
use super::station::Station;
use crate::clock;
use crate::config::{Address, Ready};
use crate::driver::{Gateway, Inbox, Message, Standing};
use crate::probe::{Elsewhere, Place, Unready, elsewhere};
use crate::telemetry::{Event, Log};

const UNSPOKEN: &str = "CMD has not said READY=1";
const LISTENS_UNSPOKEN: &str = "CMD listens, and has not said READY=1";

/// One child, and what is known of it.
pub(super) struct Places {
    expected: Address,
    /// greenroom chose that, and told it to CMD.
    chosen: bool,
    pid: Arc<AtomicU32>,
    lives: Arc<Lives>,
    log: Log,
    inbox: Arc<Inbox>,
}

impl Places {
    /// Looks for as long as the station is there.
    pub(super) fn watch(station: &Station) {
        let places = Self {
            expected: station.address.clone(),
            chosen: station.chosen_port().is_some(),
            pid: Arc::clone(&station.pid),
            lives: Arc::clone(&station.lives),
            log: station.log.clone(),
            inbox: Arc::clone(&station.backend.inbox),
        };
        if station.settings().ready == Ready::Notify {
            tokio::spawn(places.unspoken(station.backend.standing.clone()));
        } else {
            tokio::spawn(places.elsewhere(station.wants.verdict.clone()));
        }
    }

    /// Where the present child listens; empty without one.
    async fn look(&self) -> Vec<Place> {
        let child = self.pid.load(Ordering::SeqCst);
        if child == 0 {
            return Vec::new();
        }
        let began = Instant::now();
        let places = elsewhere(child).await;
        if !places.is_empty() {
            self.lives.listens(self.lives.of(began));
        }
        places
    }

    /// Says so when the child listens somewhere else than where it is waited for.
    async fn elsewhere(self, mut wants: watch::Receiver<bool>) {
        let mut decider = Elsewhere::new(&self.expected, self.chosen);
        loop {
            if wants.wait_for(|wanted| *wanted).await.is_err() {
                return;
            }
            let places = self.look().await;
            if let Some(sentence) = decider.observe(clock::now(), !*wants.borrow(), &places) {
                self.log.warn(sentence);
                return; // once is enough
            }
            tokio::time::sleep(ELSEWHERE_EVERY).await;
        }
    }

    /// Says so when the child listens and does not say that it is ready.
    async fn unspoken(self, mut standing: watch::Receiver<Standing>) {
        let mut unready = Unready::default();
        let mut last = None;
        loop {
            if standing.wait_for(|now| now.gate == Gateway::Shut).await.is_err() {
                return;
            }
            let is_silent = !self.lives.spoke();
            let listens = is_silent && !self.look().await.is_empty();
            let reason = is_silent.then_some(if listens { LISTENS_UNSPOKEN } else { UNSPOKEN });
            if reason != last {
                last = reason;
                self.inbox.tell(Message::Unready(reason.map(str::to_owned)));
            }
            if unready.observe(clock::now(), reason.filter(|_| listens)) {
                self.log.say(Event::Probe {
                    by: "notify",
                    reason: LISTENS_UNSPOKEN.into(),
                });
            }
            tokio::time::sleep(ELSEWHERE_EVERY).await;
        }
    }
}
