//! How many WebSocket clients of one address and of one key may wait at the [`Gate`]: counts, kept where there is a limit.
//!
//! Whoever comes back to its place counts again and is not refused: it had its place before. Bounded by those who wait.

use std::collections::BTreeMap;

use super::Waiting;
use crate::event::Refusal;
use crate::limits::GateLimits;

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct Crowd {
    addresses: BTreeMap<u64, usize>,
    keys: BTreeMap<u64, usize>,
}

impl Crowd {
    /// Why somebody who arrives may not wait, if it may not.
    pub(super) fn refusal(&self, limits: &GateLimits, waiting: &Waiting) -> Option<Refusal> {
        if waiting.class.is_http() {
            return None;
        }
        let is_full = |counts: &BTreeMap<u64, usize>, of: u64, most: Option<usize>| {
            most.is_some_and(|most| counts.get(&of).copied().unwrap_or_default() >= most)
        };
        if is_full(&self.addresses, waiting.who.address, limits.held_per_address) {
            return Some(Refusal::HeldOfAddress);
        }
        is_full(&self.keys, waiting.who.key, limits.held_per_key).then_some(Refusal::HeldOfKey)
    }

    pub(super) fn enters(&mut self, limits: &GateLimits, waiting: &Waiting) {
        for (counts, of) in self.counted(limits, waiting) {
            *counts.entry(of).or_default() += 1;
        }
    }

    pub(super) fn leaves(&mut self, limits: &GateLimits, waiting: &Waiting) {
        for (counts, of) in self.counted(limits, waiting) {
            match counts.get_mut(&of) {
                Some(count) if *count > 1 => *count -= 1,
                Some(_) | None => drop(counts.remove(&of)),
            }
        }
    }

    fn counted(
        &mut self,
        limits: &GateLimits,
        waiting: &Waiting,
    ) -> impl Iterator<Item = (&mut BTreeMap<u64, usize>, u64)> {
        let counts = !waiting.class.is_http();
        let addresses =
            (counts && limits.held_per_address.is_some()).then_some((&mut self.addresses, waiting.who.address));
        let keys = (counts && limits.held_per_key.is_some()).then_some((&mut self.keys, waiting.who.key));
        addresses.into_iter().chain(keys)
    }

    pub(super) fn check(&self, websocket: usize) {
        debug_assert!(self.addresses.len() <= websocket && self.keys.len() <= websocket);
    }
}
