//! A client that has a 101 of greenroom's own, and waits for its backend.
//!
//! ```text
//!  client ──frames──▶ core's Early: messages are kept, Pings answered, a Close ends it
//!  client ◀──────────  Pongs, a Ping every 25 s, what it is told of the wait
//! ```
//!
//! It is read as long as there is room for what it says, in its own bound and in the house's budget; then it is
//! left unread, so that TCP stops it, and closed when it has waited so for `EARLY_PATIENCE`. What is kept leaves
//! here in one way only: with a backend's validated 101 ([`Accepted::into_relay`]).
//!
//! Bounds: `early_max` and `early_budget`; own frames are one or two at a time, and none is added while one is
//! not written.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;

use greenroom_core::buffer::{Early, End};
use greenroom_core::event::Refusal;
use greenroom_core::limits::{CLOSE_HANDSHAKE, EARLY_PATIENCE, HOLD_PING_EVERY, HOLD_PINGS_MISSED, READS_PER_TURN};
use greenroom_core::time::Time;
use greenroom_core::wire::{
    CloseCode, CloseSeen, ControlFrame, Violation, close_frame, close_reply, ping_frame, text_message,
};
use rustix::net::RecvFlags;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::refuse::linger;
use super::template::Selected;
use super::watched::Watched;
use crate::clock;
use crate::early::{EarlyRoom, Share};
use crate::scratch::with_scratch;

/// Why an accepted client is held no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gone {
    /// It ended its connection, or answers no Ping.
    Left,
    /// It said Close.
    Closed(CloseSeen),
    /// It broke the protocol.
    Violation(Violation),
    /// It sent a text that is none.
    NotUtf8,
    /// A limit.
    Refused(Refusal),
}

/// What a relay begins with.
#[derive(Debug)]
pub(crate) struct Before {
    /// What the client has sent, for its backend.
    pub(crate) early: Vec<u8>,
    /// Its part of the budget, free when the backend has taken that.
    pub(crate) share: Option<Share>,
    /// What of greenroom's own frames is not written to the client yet.
    pub(crate) own: Vec<u8>,
}

/// See the module's head.
#[derive(Debug)]
pub(super) struct Accepted {
    client: Watched,
    early: Early,
    share: Share,
    /// The subprotocol that it was accepted with.
    selected: Selected,
    since: Time,
    /// Own frames that are being written.
    out: Vec<u8>,
    /// The answer to its last Ping, when `out` is written.
    pong: Option<Box<ControlFrame>>,
    ping_at: Time,
    /// Own Pings since it was last heard.
    missed: u32,
    /// Since when it is not read, as there is no room.
    full: Option<Full>,
}

#[derive(Clone, Copy, Debug)]
struct Full {
    since: Time,
    /// It is the house's budget that is used up, not its own.
    by_budget: bool,
}

/// What happened to the socket.
enum Turn {
    /// Nothing more lies there, or there is no room for it.
    Wait,
    /// More may lie there.
    More,
    Gone(Gone),
}

impl Accepted {
    /// Accepts a client: `head` is its 101.
    pub(super) fn new(client: Watched, head: Vec<u8>, selected: Selected, max: usize, room: &Arc<EarlyRoom>) -> Self {
        let now = clock::now();
        let mut accepted = Self {
            client,
            early: Early::new(max),
            share: room.share(),
            selected,
            since: now,
            out: head,
            pong: None,
            ping_at: now + HOLD_PING_EVERY,
            missed: 0,
            full: None,
        };
        accepted.write();
        accepted
    }

    /// When it was accepted.
    pub(super) fn since(&self) -> Time {
        self.since
    }

    /// The subprotocol that it was accepted with.
    pub(super) fn selected(&self) -> Option<&str> {
        self.selected.as_deref()
    }

    /// Tells it something. Not while an earlier word is on its way: it will hear the next.
    pub(super) fn tell(&mut self, text: &str) {
        if self.out.is_empty() {
            text_message(text, &mut self.out);
            self.write();
        }
    }

    /// Keeps it until it is gone. Dropped and called again it goes on.
    pub(super) async fn gone(&mut self) -> Gone {
        loop {
            // The poller may have told before, while nobody listened: its word is used up by the look itself.
            let turn = self.read();
            let is_full = self.full.is_some();
            let is_starved = matches!(turn, Turn::Wait) && self.full.is_some_and(|full| full.by_budget);
            if is_starved {
                self.share.got_none();
            } else {
                self.share.pass_on();
            }
            let has_more = match turn {
                Turn::Wait => false,
                Turn::More => true,
                Turn::Gone(gone) => return gone,
            };
            self.write();
            // Whoever never stops sending is told to leave, pinged and answered like all others.
            tokio::select! {
                biased;
                () = self.share.told_to_leave() => return Gone::Refused(Refusal::EarlyBudget),
                () = clock::until(Some(self.due())) => {
                    if let Some(gone) = self.passes(clock::now()) {
                        return gone;
                    }
                }
                () = tokio::task::yield_now(), if has_more => {}
                () = readable(&self.client, !is_full), if !has_more => {
                    if is_full {
                        return Gone::Left;
                    }
                }
                _ = poll_fn(|cx| self.client.socket().poll_write_ready(cx)), if !self.out.is_empty() => {}
                // Its own bound is the same whatever others free.
                () = async { Box::pin(self.share.freed()).await }, if is_starved => self.share.was_told(),
            }
        }
    }

    /// When time alone makes something of it.
    fn due(&self) -> Time {
        let full = self.full.map(|full| full.since + EARLY_PATIENCE);
        full.map_or(self.ping_at, |at| at.min(self.ping_at))
    }

    fn passes(&mut self, now: Time) -> Option<Gone> {
        if let Some(full) = self.full
            && now >= full.since + EARLY_PATIENCE
        {
            let refusal = if full.by_budget {
                Refusal::EarlyBudget
            } else {
                Refusal::EarlyTooMuch
            };
            return Some(Gone::Refused(refusal));
        }
        if now >= self.ping_at {
            self.ping_at = now + HOLD_PING_EVERY;
            if self.full.is_none() {
                self.missed += 1; // unread, its Pong may lie there
            }
            if self.missed > HOLD_PINGS_MISSED {
                return Some(Gone::Left);
            }
            if self.out.is_empty() {
                self.out.extend_from_slice(&ping_frame(b"greenroom", None));
            }
        }
        None
    }

    /// Reads as long as there is something, and room for it.
    fn read(&mut self) -> Turn {
        self.client.use_up();
        for _ in 0..READS_PER_TURN {
            let now = clock::now();
            let read = match self.read_once(now) {
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.full = None;
                    self.client.is_drained();
                    return Turn::Wait;
                }
                Err(_) => return Turn::Gone(Gone::Left),
            };
            match read {
                Read::Taken(None) => self.missed = 0,
                Read::Taken(Some(end)) => {
                    return Turn::Gone(match end {
                        End::Closed(seen) => Gone::Closed(seen),
                        End::Violation(violation) => Gone::Violation(violation),
                        End::NotUtf8 => Gone::NotUtf8,
                        End::Refused(refusal) => Gone::Refused(refusal),
                    });
                }
                Read::End => return Turn::Gone(Gone::Left),
                Read::Full { by_budget } => {
                    let since = self.full.map_or(now, |full| full.since);
                    self.full = Some(Full { since, by_budget });
                    return Turn::Wait;
                }
            }
        }
        Turn::More
    }

    /// One read past the poller, of no more than there is room for.
    fn read_once(&mut self, now: Time) -> io::Result<Read> {
        let mut room = self.early.room();
        with_scratch(|scratch| {
            room = room.min(scratch.len());
            // How much lies there, so that memory is asked for by what is needed. TCP does not copy it (MSG_TRUNC): who
            // floods is looked at often.
            let (seen, _) = rustix::net::recv(
                self.client.socket(),
                &mut scratch[..],
                RecvFlags::PEEK | RecvFlags::TRUNC | RecvFlags::DONTWAIT,
            )?;
            if seen == 0 {
                return Ok(Read::End);
            }
            if room == 0 {
                return Ok(Read::Full { by_budget: false });
            }
            let wanted = seen.min(room);
            if !self.share.grow(self.early.growth(wanted)) {
                return Ok(Read::Full { by_budget: true });
            }
            let (read, _) = rustix::net::recv(self.client.socket(), &mut scratch[..wanted], RecvFlags::DONTWAIT)?;
            let taken = self.early.take(now, &scratch[..read]);
            if let Some(pong) = taken.pong {
                self.pong = Some(Box::new(pong));
            }
            Ok(Read::Taken(taken.end))
        })
    }

    /// Writes what the socket takes now.
    fn write(&mut self) {
        while !self.out.is_empty() || self.pong.is_some() {
            if self.out.is_empty()
                && let Some(pong) = self.pong.take()
            {
                self.out.extend_from_slice(&pong);
            }
            match self.client.socket().try_write(&self.out) {
                Ok(written) => {
                    self.out.drain(..written);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => self.out.clear(), // its end is seen where it is read
            }
        }
        self.out = Vec::new(); // who only waits owns no buffer
    }

    /// It is let in: its socket, what it has said, and what is still to be written to it. `text`, whole frames, is told at last.
    pub(super) fn into_relay(mut self, text: &[u8]) -> Option<(TcpStream, Before)> {
        if let Some(pong) = self.pong.take() {
            self.out.extend_from_slice(&pong);
        }
        self.out.extend_from_slice(text);
        let before = Before {
            early: self.early.into_bytes(),
            share: Some(self.share),
            own: self.out,
        };
        Some((self.client.into_inner()?, before))
    }

    /// Bytes of messages that are kept.
    pub(super) fn kept(&self) -> usize {
        self.early.kept()
    }

    /// It is not let in any more: what it has said is dropped, and its part of the budget is another's.
    pub(super) fn forget(&mut self) {
        self.early.forget();
        self.share.free();
    }

    /// Waits until it says Close, or ends without one; drops all else that it says. Dropped and called again it goes on.
    pub(super) async fn leaves(&mut self) -> Option<CloseSeen> {
        loop {
            readable(&self.client, true).await;
            self.client.use_up();
            let mut reads = 0..READS_PER_TURN;
            while reads.next().is_some() {
                let read = with_scratch(|scratch| {
                    let (read, _) = rustix::net::recv(self.client.socket(), &mut *scratch, RecvFlags::DONTWAIT)?;
                    io::Result::Ok((read, self.early.closes(&scratch[..read])))
                });
                match read {
                    Ok((_, Some(seen))) => return Some(seen),
                    Ok((0, None)) => return None,
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        self.client.is_drained();
                        break;
                    }
                    Err(_) => return None,
                }
            }
            tokio::task::yield_now().await;
        }
    }

    /// Closes it with a code and a reason, and waits for its answer (RFC 6455 §7.1.1).
    pub(super) async fn close(self: Box<Self>, code: CloseCode, reason: &str) {
        self.say_last(&close_frame(code, reason, None), true).await;
    }

    /// Answers its Close; the FIN follows at once (RFC 6455 §7.1.1).
    pub(super) async fn answer_close(self: Box<Self>, seen: CloseSeen) {
        self.say_last(&close_reply(seen, None), false).await;
    }

    /// Closes a client that broke the protocol: what it says from here on is not understood (RFC 6455 §7.1.7).
    pub(super) async fn fail(self: Box<Self>, code: CloseCode, reason: &str) {
        self.say_last(&close_frame(code, reason, None), false).await;
    }

    async fn say_last(self: Box<Self>, frame: &[u8], awaits_close: bool) {
        let Self {
            client,
            mut early,
            share,
            mut out,
            ..
        } = *self;
        early.forget(); // before its part of the budget is another's
        drop(share);
        out.extend_from_slice(frame);
        let Some(mut client) = client.into_inner() else {
            return;
        };
        let said = tokio::time::timeout(CLOSE_HANDSHAKE, async {
            client.write_all(&out).await?;
            if awaits_close {
                await_close(&client, &mut early).await?;
            }
            client.shutdown().await
        });
        if let Ok(Ok(())) = said.await {
            linger(&mut client).await;
        }
    }
}

enum Read {
    Taken(Option<End>),
    End,
    Full { by_budget: bool },
}

/// Reads and drops what comes until the client's Close, or its end. Between two looks others have their turn, as
/// has the time after which nobody waits any more: a client that never stops sending must not keep its thread.
async fn await_close(client: &TcpStream, early: &mut Early) -> io::Result<()> {
    loop {
        tokio::task::yield_now().await;
        client.readable().await?;
        let read = with_scratch(|scratch| {
            let read = client.try_read(scratch)?;
            Ok((read, early.closes(&scratch[..read])))
        });
        match read {
            Ok((0, _) | (_, Some(_))) => return Ok(()),
            Ok(_) => {}
            Err(error) if io::Error::kind(&error) == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// Waits for bytes, or only for the client's end where they are not to be read.
fn readable(client: &Watched, reads: bool) -> impl Future<Output = ()> {
    poll_fn(move |cx| {
        if reads {
            client.socket().poll_read_ready(cx).map(drop) // an error shows at the read
        } else {
            client.poll_gone(cx)
        }
    })
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::time::Duration;

    use greenroom_core::limits::HOLD_PINGS_MAX;
    use tokio::net::TcpListener;

    use super::*;
    use crate::opening::guest::Guest;

    /// Two ends of a connection whose buffers are as small as may be: the client's, and ours.
    async fn pair() -> (std::net::TcpStream, Watched) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        client.set_recv_buffer_size(1).unwrap();
        client.set_tcp_nodelay(true).unwrap();
        client.connect(&listener.local_addr().unwrap().into()).unwrap();
        let (ours, _) = listener.accept().await.unwrap();
        socket2::SockRef::from(&ours).set_send_buffer_size(1).unwrap();
        (client.into(), Watched::new(ours))
    }

    /// A masked frame of up to 64 KiB.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let len = payload.len().to_be_bytes();
        let len = match payload.len() {
            ..=125 => vec![0x80 | len[7]],
            _ => vec![0xfe, len[6], len[7]],
        };
        [&[first][..], &len, &[0; 4], payload].concat()
    }

    /// Whoever always has something to read has others run between two looks, the clock among them.
    #[tokio::test]
    async fn a_client_that_never_stops_sending_keeps_no_thread_to_itself_while_its_close_is_awaited() {
        const PIECES: usize = 3;
        let (mut client, ours) = pair().await;
        let ours = ours.into_inner().unwrap();
        socket2::SockRef::from(&client).set_send_buffer_size(1 << 20).unwrap();
        let pongs = frame(0x8a, b"").repeat(PIECES * greenroom_core::limits::RELAY_BUFFER / 6);
        client.write_all(&[&pongs[..], &frame(0x88, &[])].concat()).unwrap();
        ours.readable().await.unwrap();
        let mut early = Early::new(1024);
        let closes = await_close(&ours, &mut early);
        tokio::pin!(closes);
        let mut looks = 0;
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        while closes.as_mut().poll(&mut cx).is_pending() {
            looks += 1;
            tokio::task::yield_now().await;
        }
        assert!(looks >= PIECES, "all of it in {looks} looks");
    }

    #[tokio::test]
    async fn a_client_that_never_stops_sending_is_told_to_leave_like_others() {
        let (mut client, ours) = pair().await;
        let room = EarlyRoom::new(10_000);
        let mut other = room.share();
        let mut accepted = Accepted::new(ours, Vec::new(), None, 4_500, &room);
        client.write_all(&frame(0x82, &[7; 4_000])).unwrap();
        while room.used() == 0 {
            assert!(!matches!(accepted.read(), Turn::Gone(_)));
        }
        assert!(other.grow(5_000), "now the newest is to go");
        client.write_all(&frame(0x8a, &[0; 125]).repeat(400)).unwrap();
        assert_eq!(accepted.gone().await, Gone::Refused(Refusal::EarlyBudget));
        let unread = rustix::io::ioctl_fionread(accepted.client.socket()).unwrap();
        assert!(unread > 0, "it is told before all it ever sends was read");
        drop(accepted);
        assert_eq!(room.used(), 5_000);
    }

    /// What lay there before it was waited for is seen when there is room, and what comes later too.
    #[tokio::test]
    async fn who_is_not_read_for_want_of_memory_is_read_when_some_is_free() {
        let (mut client, ours) = pair().await;
        let room = EarlyRoom::new(10_000);
        let mut other = room.share();
        assert!(other.grow(9_400));
        let mut accepted = Accepted::new(ours, Vec::new(), None, 4_500, &room);
        client
            .write_all(&[frame(0x82, &[7; 1_000]), frame(0x89, b"one")].concat())
            .unwrap();
        let keeps = tokio::spawn(async move { accepted.gone().await });
        for _ in 0..100 {
            tokio::task::yield_now().await; // it looks, and waits
        }
        assert_eq!(room.used(), 9_400);
        drop(other);
        let hears = std::thread::spawn(move || {
            client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            let mut pong = [0; 5];
            client.read_exact(&mut pong).unwrap();
            assert_eq!(&pong, b"\x8a\x03one");
            client.write_all(&frame(0x89, b"two")).unwrap();
            client.read_exact(&mut pong).unwrap();
            assert_eq!(&pong, b"\x8a\x03two");
        });
        assert_eq!(keeps.await.unwrap(), Gone::Left, "in the end");
        hears.join().unwrap();
        assert_eq!(room.used(), 0);
    }

    /// A43. Of the pongs of a client that reads none the last one waits, and nothing grows.
    #[tokio::test]
    async fn a43_a_client_that_reads_no_pongs_has_one_of_them_waiting() {
        let (mut client, ours) = pair().await;
        let mut accepted = Accepted::new(ours, Vec::new(), None, 1024, &EarlyRoom::new(1 << 20));
        let pings = HOLD_PINGS_MAX - 1;
        for ping in 0..pings {
            client.write_all(&frame(0x89, &[ping.to_le_bytes()[0]; 125])).unwrap();
            assert!(!matches!(accepted.read(), Turn::Gone(_)));
            accepted.write();
            assert!(accepted.out.capacity() <= 127, "one frame: {}", accepted.out.len());
            tokio::task::yield_now().await; // the poller says whether it can be written
        }
        assert!(!accepted.out.is_empty() && accepted.pong.is_some(), "it is full");
        accepted.tell("not while something waits");
        assert!(accepted.out.capacity() <= 127);
        // It reads after all: whole frames, in order, the last one last.
        let reader = std::thread::spawn(move || {
            client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            let mut seen = Vec::new();
            while seen.last() != Some(&(pings - 1).to_le_bytes()[0]) {
                let mut pong = [0; 127];
                client.read_exact(&mut pong).unwrap();
                assert_eq!(pong[..2], [0x8a, 125]);
                assert!(pong[3..].iter().all(|byte| *byte == pong[2]));
                seen.push(pong[2]);
            }
            (client, seen.len())
        });
        while !reader.is_finished() {
            assert!(!matches!(accepted.read(), Turn::Gone(_)));
            accepted.write();
            tokio::task::yield_now().await;
        }
        let (_client, seen) = reader.join().unwrap();
        assert!(seen < pings as usize, "{seen}");
        assert_eq!(accepted.out.capacity(), 0);
    }

    /// Thousands are held at a time, and what one carries all carry.
    #[tokio::test]
    async fn who_only_waits_carries_little_for_it() {
        let (_client, ours) = pair().await;
        let unanswered = size_of_val(&ours.gone());
        let mut accepted = Accepted::new(ours, Vec::new(), None, 1024, &EarlyRoom::new(1 << 20));
        let hears = size_of_val(&accepted.gone());
        let sizes = [
            unanswered,
            size_of::<Accepted>(),
            hears,
            size_of_val(&Guest::Accepted(Box::new(accepted)).gone()),
        ];
        let most = [16, 320, 384, 64];
        assert!(
            sizes.iter().zip(most).all(|(size, most)| *size <= most),
            "{sizes:?}, at most {most:?}"
        );
    }
}
