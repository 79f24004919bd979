//! Many clients, each with what is known of it, and what all of them together have done and seen.
//!
//! Whoever does something here counts it: bytes and messages that a backend must have got (their echo has come back), the end
//! that greenroom must have seen, and the refusals that were read. Nothing is done with a client of which it is not sure where
//! it is ([`Crowd::settle_held`], [`Crowd::settle_open`]): a client that goes while its answer is under way may count as either.

use std::collections::VecDeque;

use super::{
    process::until,
    raw::{Raw, close, field, frame, masked, upgrade},
    rig::Rig,
    truth::{Words, more, open_by_state},
};

/// Where a client is, as it sees that itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// It has asked, and has no answer.
    Asked,
    /// It waits at the gate, without a 101.
    Held,
    /// It has a 101, maybe of greenroom's own.
    Accepted,
    /// Its messages come back.
    Relayed,
    /// Its backend is gone: 1012 is to come.
    Lost,
}

/// A client.
struct Guest {
    raw: Raw,
    at: At,
    /// A plain request.
    is_plain: bool,
    /// Its route accepts who comes too early.
    is_accepted: bool,
    /// Messages that must come back.
    owed: VecDeque<Vec<u8>>,
}

/// How a relayed client ends.
#[derive(Clone, Copy, Debug)]
pub enum End {
    Close,
    Fin,
    Reset,
    Backend,
    Cut,
    Unmasked,
}

/// See the module's head.
#[derive(Default)]
pub struct Crowd {
    guests: Vec<Guest>,
    /// How many have come.
    pub came: u64,
    /// Ends and refusals that greenroom must have counted.
    pub closed: Words,
    pub refused: Words,
    /// Bytes and messages of WebSockets: to the backend, from it.
    pub up: (u64, u64),
    pub down: (u64, u64),
}

fn add(sum: &mut (u64, u64), bytes: usize, messages: u64) {
    *sum = (sum.0 + bytes as u64, sum.1 + messages);
}

impl Crowd {
    /// How many are there.
    pub fn len(&self) -> usize {
        self.guests.len()
    }

    /// Where the one at this place is.
    pub fn at(&self, index: usize) -> At {
        self.guests[index].at
    }

    /// How many are so.
    pub fn count(&self, at: At) -> usize {
        self.guests.iter().filter(|guest| guest.at == at).count()
    }

    /// A client that asks for a WebSocket there.
    pub fn knocks(&mut self, rig: &Rig, path: &str, user: Option<usize>) {
        let user = user.map_or_else(String::new, |user| format!("X-User: user-{user}\r\n"));
        let head = upgrade(&user).replacen("/ws", path, 1);
        self.comes(rig, &head, false, path == "/accept");
    }

    /// A client with a plain request, under this host.
    pub fn asks(&mut self, rig: &Rig, path: &str, host: &str) {
        let head = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        self.comes(rig, &head, true, false);
    }

    fn comes(&mut self, rig: &Rig, head: &str, is_plain: bool, is_accepted: bool) {
        let mut raw = Raw::connect(&rig.address);
        raw.try_send(head); // who is refused at the door may not be read
        self.came += 1;
        self.guests.push(Guest {
            raw,
            at: At::Asked,
            is_plain,
            is_accepted,
            owed: VecDeque::new(),
        });
    }

    /// A client that goes before its head is complete, maybe without a word.
    pub fn goes_at_once(&mut self, rig: &Rig, bytes: &str) {
        let mut raw = Raw::connect(&rig.address);
        raw.send(bytes);
        self.came += 1;
        let cause = if bytes.is_empty() { "silent" } else { "left_opening" };
        more(&mut self.closed, cause, 1);
    }

    /// It says something that is to come back.
    pub fn says(&mut self, index: usize, payload: Vec<u8>) {
        let guest = &mut self.guests[index];
        guest.raw.send(masked(0x82, &payload));
        guest.owed.push_back(payload);
    }

    /// All that it has said has come back.
    fn collect(&mut self, index: usize) {
        let guest = &mut self.guests[index];
        while let Some(payload) = guest.owed.pop_front() {
            assert_eq!(guest.raw.frame(), (0x82, payload.clone()), "its own, in order");
            add(&mut self.up, masked(0x82, &payload).len(), 1);
            add(&mut self.down, frame(0x82, &payload).len(), 1);
        }
    }

    /// All that the relayed ones have said has come back.
    pub fn collect_all(&mut self) {
        for index in 0..self.len() {
            if self.at(index) == At::Relayed {
                self.collect(index);
            }
        }
    }

    /// Reads the answer of one that has asked. Whether it is still there.
    fn answered(&mut self, index: usize) -> bool {
        let guest = &mut self.guests[index];
        let head = guest.raw.head();
        if head.starts_with("HTTP/1.1 101 ") {
            guest.at = At::Accepted;
            return true;
        }
        if let Some(refusal) = field(&head, "greenroom-refusal") {
            more(&mut self.refused, &refusal, 1);
            more(&mut self.closed, "refused", 1);
        } else {
            assert!(guest.is_plain && head.starts_with("HTTP/1.1 200 "), "{head}");
            assert_eq!(guest.raw.rest(), b"ok");
            more(&mut self.closed, "served", 1);
        }
        self.guests.swap_remove(index);
        false
    }

    /// Waits, at a gate that lets nobody in, until each that has asked is refused, accepted, or held.
    pub fn settle_held(&mut self, rig: &Rig) {
        until("all who came are held, or have their answer", || {
            for index in (0..self.len()).rev() {
                if self.at(index) == At::Asked && self.guests[index].raw.has_bytes() {
                    self.answered(index);
                }
            }
            let waits = |guest: &&Guest| guest.at == At::Asked && guest.is_accepted;
            let told = open_by_state(rig);
            let held = self.count(At::Asked) + self.count(At::Held) + self.count(At::Accepted);
            let are = |state: &str| told.get(state).copied().unwrap_or(0);
            !self.guests.iter().any(|guest| waits(&guest))
                && [are("opening"), are("dialing"), are("http")] == [0; 3]
                && are("held") == held as u64
        });
        for guest in self.guests.iter_mut().filter(|guest| guest.at == At::Asked) {
            guest.at = At::Held;
        }
    }

    /// Waits, at a gate that opens, until all have their answers: whoever stays is relayed.
    pub fn settle_open(&mut self) {
        for index in (0..self.len()).rev() {
            if matches!(self.at(index), At::Asked | At::Held) {
                self.answered(index);
            }
        }
        for index in 0..self.len() {
            if self.at(index) == At::Accepted && self.guests[index].owed.is_empty() {
                self.says(index, b"here".to_vec()); // what comes back says that it is relayed
            }
        }
        for index in 0..self.len() {
            if matches!(self.at(index), At::Accepted | At::Relayed) {
                self.collect(index);
                self.guests[index].at = At::Relayed;
            }
        }
        self.let_the_lost_go();
    }

    /// Who has lost its backend hears 1012.
    pub fn let_the_lost_go(&mut self) {
        for index in (0..self.len()).rev() {
            if self.at(index) == At::Lost {
                assert_eq!(self.hears_close(index), 1012);
                more(&mut self.closed, "backend_lost", 1);
            }
        }
    }

    /// The backend dies: all that are relayed have lost it. Call [`Crowd::collect_all`] before it does.
    pub fn lose_all(&mut self) {
        for guest in self.guests.iter_mut().filter(|guest| guest.at == At::Relayed) {
            guest.at = At::Lost;
        }
    }

    /// A Close of greenroom's own, which is not counted as traffic; it is answered. Its code.
    fn hears_close(&mut self, index: usize) -> u16 {
        let mut guest = self.guests.swap_remove(index);
        let (code, _) = guest.raw.close_frame();
        guest.raw.send(masked(0x88, &close(code, "")));
        assert_eq!(guest.raw.rest_or_reset(), b"", "nothing behind a Close");
        code
    }

    /// Those that were told to go and have heard of it by now, for this cause with a 101; all others must be silent.
    pub fn hear(&mut self, cause: &str, code: u16) -> u64 {
        let before = self.len();
        for index in (0..before).rev() {
            let guest = &self.guests[index];
            if guest.at == At::Lost || !guest.raw.has_bytes() {
                continue;
            }
            if matches!(guest.at, At::Asked | At::Held) {
                assert!(!self.answered(index), "nobody is let in meanwhile");
            } else {
                assert_eq!(self.hears_close(index), code);
                more(&mut self.closed, cause, 1);
            }
        }
        (before - self.len()) as u64
    }

    /// One that waits goes.
    pub fn leaves(&mut self, index: usize, is_reset: bool) {
        let guest = self.guests.swap_remove(index);
        assert!(matches!(guest.at, At::Held | At::Accepted));
        if is_reset {
            guest.raw.reset();
        }
        more(&mut self.closed, "left_held", 1);
    }

    /// One that is relayed ends so.
    pub fn ends(&mut self, index: usize, end: End) {
        self.collect(index);
        let guest = &mut self.guests[index];
        assert_eq!(guest.at, At::Relayed);
        let cause = match end {
            End::Close => {
                let said = masked(0x88, &close(1000, ""));
                guest.raw.send(&said);
                add(&mut self.up, said.len(), 0);
                add(&mut self.down, guest.raw.rest().len(), 0);
                "client"
            }
            End::Fin => {
                guest.raw.fin();
                add(&mut self.down, guest.raw.rest_or_reset().len(), 0);
                "client"
            }
            End::Reset => {
                self.guests.swap_remove(index).raw.reset();
                return more(&mut self.closed, "client_lost", 1);
            }
            End::Backend => {
                let said = masked(0x81, b"close");
                guest.raw.send(&said);
                add(&mut self.up, said.len(), 1);
                let (code, reason) = guest.raw.close_frame();
                assert_eq!((code, reason.as_str()), (4001, "as you say"));
                add(&mut self.down, frame(0x88, &close(code, &reason)).len(), 0);
                let answer = masked(0x88, &close(code, ""));
                guest.raw.send(&answer);
                add(&mut self.up, answer.len(), 0);
                assert_eq!(guest.raw.rest(), b"");
                "backend"
            }
            End::Cut => {
                let said = masked(0x81, b"drop");
                guest.raw.send(&said);
                add(&mut self.up, said.len(), 1);
                guest.at = At::Lost;
                return;
            }
            End::Unmasked => {
                let said = frame(0x81, b"unmasked");
                guest.raw.send(&said);
                add(&mut self.up, said.len(), 0);
                assert_eq!(guest.raw.close_frame().0, 1002);
                assert_eq!(guest.raw.rest_or_reset(), b"");
                "client_violation"
            }
        };
        self.guests.swap_remove(index);
        more(&mut self.closed, cause, 1);
    }
}
