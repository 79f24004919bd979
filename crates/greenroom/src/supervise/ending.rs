//! How lives end that are to end: the signal, the grace, KILL, and the sweep.
//!
//! A part of the supervisor's thread (`keeper`). An end begins with a wish: to end
//! whatever is there of a child ([`Keeper::terminate`]), or one life that has failed
//! ([`Keeper::fail`]). It is over when nobody is left below the child's warden.
//! Bounded by the grace, what the child may add to it, and [`limits::SWEEP_MAX`].
//!
//! [`limits::SWEEP_MAX`]: greenroom_core::limits::SWEEP_MAX

use std::time::{Duration, Instant};

use greenroom_core::event::Generation;
use rustix::process::Signal;
use tokio::sync::oneshot;

use super::keeper::Keeper;
use super::life::{Ending, Life, Next, Phase, Slot};
use super::procfs::Process;
use super::sweep;
use super::{ChildId, Termination};

impl Keeper {
    pub(super) fn terminate(&mut self, child: ChildId, grace: Duration, reply: oneshot::Sender<Termination>) {
        let members = self.members(child);
        let Some(slot) = self.slots.get_mut(child.0) else {
            let _ = reply.send(Termination::NOBODY);
            return;
        };
        let deadline = Instant::now() + grace;
        let begins = slot.ending.is_none();
        slot.ending
            .get_or_insert_with(|| Ending::new(deadline, Signal::TERM))
            .ask(deadline, reply);
        if begins && !grace.is_zero() {
            begin(slot, &members, Signal::TERM);
        }
        self.reap();
    }

    /// As [`Keeper::terminate`], of this life only, and nobody waits for it.
    pub(super) fn fail(&mut self, child: ChildId, generation: Generation, signal: Signal, grace: Duration) {
        let members = self.members(child);
        let Some(slot) = self.slots.get_mut(child.0) else {
            return;
        };
        // What has ended by itself is swept by whoever heard of it; what is being ended, is.
        if slot.ending.is_some() || slot.life_of(generation).is_none_or(|life| life.is_over()) {
            return;
        }
        slot.ending = Some(Ending::new(Instant::now() + grace, signal));
        begin(slot, &members, signal);
        self.reap();
    }

    /// The child asks for more time: for its end, if it is being ended.
    pub(super) fn extend(&mut self, child: ChildId, generation: Generation, by: Duration) {
        let Some(slot) = self.slots.get_mut(child.0) else {
            return;
        };
        if slot.life_of(generation).is_some()
            && let Some(ending) = &mut slot.ending
        {
            ending.extend(Instant::now() + by);
        }
    }

    /// All who belong to the child now.
    pub(super) fn members(&self, child: ChildId) -> Vec<Process> {
        let Some(slot) = self.slots.get(child.0) else {
            return Vec::new();
        };
        let warden = slot.life.as_ref().filter(|life| !life.reaped).map(|life| life.warden);
        let mut members = warden.map(sweep::below).unwrap_or_default();
        if slot.lost {
            members.extend(self.family.strays());
        }
        members
    }

    pub(super) fn look_at_all(&mut self) {
        (0..self.slots.len()).for_each(|n| self.look_at(ChildId(n)));
    }

    /// Where an ending has got to.
    pub(super) fn look_at(&mut self, child: ChildId) {
        if self.slots.get(child.0).is_none_or(|slot| slot.ending.is_none()) {
            return;
        }
        let members = self.members(child);
        let Some(slot) = self.slots.get_mut(child.0) else {
            return;
        };
        match slot.look(Instant::now(), members.len()) {
            Next::Nothing => {}
            Next::Kill => kill(slot, &members),
            Next::Finish(left) => {
                slot.lost &= left > 0;
                if slot.life.as_ref().is_some_and(Life::is_over) {
                    slot.life = None; // waited for when it ends
                }
                if let Some(ending) = slot.ending.take() {
                    ending.finish(left);
                }
            }
        }
    }
}

/// The first signal of an end, to all of a child.
fn begin(slot: &Slot, members: &[Process], signal: Signal) {
    let Some(life) = &slot.life else {
        return sweep::signal(None, members, signal);
    };
    life.hold_watchdog(true); // it may be silent now
    sweep::signal(life.group(), members, signal);
    sweep::signal(life.group(), members, Signal::CONT); // a stopped one could not end
}

/// KILL to all of a child. The group as a whole, as the kernel lets nobody fork
/// out of that; its warden goes with it, and what had left the group comes to us.
fn kill(slot: &mut Slot, members: &[Process]) {
    let group = slot.life.as_ref().and_then(Life::group);
    sweep::signal(group, members, Signal::KILL);
    if let Some(life) = &mut slot.life {
        slot.lost |= group.is_some();
        if matches!(life.phase, Phase::Starting(_)) {
            life.dismiss();
            slot.lost = true;
        }
    }
}
