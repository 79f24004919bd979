//! What follows from a change of the gate, and how the log tells it.

use greenroom_core::gate::{Change, Hand, Stage};
use greenroom_core::time::Time;

use super::Driver;
use super::hand::gate_word;
use crate::telemetry::Event;

impl Driver {
    pub(super) fn changed(&mut self, now: Time, change: Change) {
        let why = match change {
            // The hand was told.
            Change::Held => return self.recall(now),
            Change::Shut if self.gate.stage() == Stage::Refusing => return self.recall(now),
            Change::Opened if self.gate.hand().0 == Hand::Open => "open by hand",
            Change::Opened if !self.is_whole => "the backend is ready for routes that need less than others",
            Change::Opened => "the backend says that it is ready",
            Change::Limited => "the backend listens; one client goes first to see whether it answers",
            Change::Proved(_) => "the first client came through",
            Change::Trusted => return,
            Change::Wary => "the backend died while several clients were on their way; one client goes first",
            Change::Doubted => "READY came too early: the backend does not answer yet; one client at a time goes first",
            Change::Lagging => "a part of the backend is not ready yet; one client at a time goes first",
            Change::Shut if self.gate.stage() == Stage::Draining => "greenroom stops",
            Change::Shut if self.gate.stage() == Stage::Failed => "the backend has failed, and is not started again",
            Change::Shut => "the backend is not ready",
            Change::Unreachable => "the backend cannot be reached",
        };
        match change {
            Change::Unreachable => {
                self.recall(now);
                self.unreachable(now);
            }
            Change::Shut | Change::Doubted | Change::Lagging => self.recall(now),
            Change::Held | Change::Opened | Change::Limited | Change::Wary | Change::Proved(_) | Change::Trusted => {}
        }
        self.log.say(Event::Gate {
            gate: gate_word(self.gate.stage()),
            why,
            held: self.gate.held(),
        });
    }
}
