//! Keeps what happened: the last events for the reader, and a hash of all of them.

use core::fmt::Arguments;
use std::collections::VecDeque;

/// Events that a failure shows.
const LAST: usize = 40;

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Trace {
    last: VecDeque<String>,
    hash: u64,
}

impl Default for Trace {
    fn default() -> Self {
        Self {
            last: VecDeque::new(),
            hash: 0xcbf2_9ce4_8422_2325, // FNV-1a
        }
    }
}

impl Trace {
    pub(crate) fn note(&mut self, event: Arguments<'_>) {
        if self.last.len() == LAST {
            self.last.pop_front();
        }
        let line = event.to_string();
        for byte in line.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        self.last.push_back(line);
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) fn last(&self) -> Vec<String> {
        self.last.iter().cloned().collect()
    }
}
