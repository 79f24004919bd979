//! Relayed connections with numbered messages and pings both ways, checked at both ends.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use greenroom_core::drain::splitmix64;

use super::raw::{Raw, SOON, frame, masked};

/// One end of a relayed connection: sends numbered messages and numbered pings, and checks that those of the other end come
/// in order, each once, and that each of its own pings is answered by the other end itself.
pub struct End {
    raw: Raw,
    is_client: bool,
    salt: u64,
    sent: u64,
    got: u64,
    pings: u64,
    pongs: u64,
}

impl End {
    pub fn new(raw: Raw, is_client: bool, salt: u64) -> Self {
        Self {
            raw,
            is_client,
            salt,
            sent: 0,
            got: 0,
            pings: 0,
            pongs: 0,
        }
    }

    pub fn send(&mut self, first: u8, payload: &[u8]) {
        let bytes = if self.is_client {
            masked(first, payload)
        } else {
            frame(first, payload)
        };
        self.raw.send(bytes);
    }

    /// What only this end answers a ping with: its own number stands before the ping's.
    pub fn stamp(number: u64, salt: u64, is_client: bool) -> [u8; 16] {
        let who = splitmix64(salt ^ u64::from(is_client));
        let mut stamp = [0; 16];
        stamp[..8].copy_from_slice(&who.to_be_bytes());
        stamp[8..].copy_from_slice(&number.to_be_bytes());
        stamp
    }

    /// One message, of a length that its number gives, and now and then a ping; then all that has come is taken.
    pub fn turn(&mut self) {
        let length = usize::try_from(splitmix64(self.sent ^ self.salt) % 3000).unwrap();
        let mut message = Self::stamp(self.sent, self.salt, self.is_client).to_vec();
        message.resize(16 + length, u8::try_from(self.sent % 251).unwrap());
        self.send(0x82, &message);
        self.sent += 1;
        if self.sent.is_multiple_of(3) {
            let ping = Self::stamp(self.pings, self.salt, self.is_client);
            self.send(0x89, &ping);
            self.pings += 1;
        }
        while self.raw.has_bytes() {
            self.take();
        }
    }

    pub fn take(&mut self) {
        let (first, payload) = self.raw.frame();
        match first {
            0x82 => {
                let stamp = Self::stamp(self.got, self.salt, !self.is_client);
                assert_eq!(payload[..16], stamp, "message {} of the other end", self.got);
                assert!(payload[16..].iter().all(|&byte| u64::from(byte) == self.got % 251));
                self.got += 1;
            }
            0x89 => self.send(0x8A, &payload),
            0x8A => {
                assert_eq!(
                    payload,
                    Self::stamp(self.pongs, self.salt, self.is_client),
                    "the pong of its own ping"
                );
                self.pongs += 1;
            }
            other => panic!("a frame {other:#x} that nobody sent: {payload:?}"),
        }
    }

    /// Takes all that the other end has sent, and the pongs of all own pings.
    pub fn finish(&mut self, sent: u64) {
        while self.got < sent || self.pongs < self.pings {
            self.take();
        }
    }
}

/// A relayed connection with traffic on it until it is told to end.
pub struct Traffic {
    over: Arc<AtomicBool>,
    pub turns: Arc<AtomicU64>,
    running: JoinHandle<()>,
}

impl Traffic {
    pub fn over(client: Raw, backend: Raw, salt: u64) -> Self {
        let (over, turns) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (ends, count) = (Arc::clone(&over), Arc::clone(&turns));
        let running = thread::spawn(move || {
            let (mut client, mut backend) = (End::new(client, true, salt), End::new(backend, false, salt));
            while !ends.load(Ordering::SeqCst) {
                client.turn();
                backend.turn();
                count.fetch_add(1, Ordering::SeqCst);
                // tidy: allow-sleep traffic at a pace, so that the machine has time for reloads
                thread::sleep(Duration::from_millis(2));
            }
            // Both take what is left: pings are answered while the other waits for its pongs.
            let (sent_up, sent_down) = (client.sent, backend.sent);
            let deadline = Instant::now() + SOON;
            while client.got < sent_down
                || backend.got < sent_up
                || client.pongs < client.pings
                || backend.pongs < backend.pings
            {
                assert!(Instant::now() < deadline, "messages or pongs are missing");
                for end in [&mut client, &mut backend] {
                    while end.raw.has_bytes() {
                        end.take();
                    }
                }
                thread::yield_now();
            }
            client.finish(sent_down);
            backend.finish(sent_up);
            assert!(client.sent > 20 && client.pings > 5, "there was traffic");
        });
        Self { over, turns, running }
    }

    pub fn end(self) {
        self.over.store(true, Ordering::SeqCst);
        self.running.join().unwrap();
    }
}
