//! The world of one relay: frames under random splits of reads and writes, slow peers, every kind of end.
//!
//! The shell's part is played here: it reads while there is room, keeps what the
//! relay says, writes what it may. Judged: exact prefix (2), frame atomicity (4),
//! no stall (9), back-pressure (14), nothing after a Close (15). The frames are
//! walked by [`walk`], which shares nothing with the core's scanner.

use greenroom_core::limits::RELAY_BUFFER;
use greenroom_core::session::relay::{Ended, Pass, Relay, Then};
use greenroom_core::wire::{CloseCode, Sender, close_frame};

use crate::rng::Rng;
use crate::trace::Trace;
use crate::{STEPS_MAX, Violation};

/// How it comes to an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Both say Close.
    Closes,
    /// The backend's stream is cut at any byte.
    BackendDies,
    /// The backend says 1001, 1012 or 1013.
    BackendRestarts,
    /// The client ends its side, the backend answers on, then ends too.
    HalfClose,
    ClientResets,
    ClientViolates,
    BackendViolates,
}

/// One direction.
#[derive(Debug, Default)]
struct Way {
    /// What the sender sends.
    script: Vec<u8>,
    /// How much of it is read.
    read: usize,
    /// What waits here: the first `writable` bytes may go on.
    buffer: Vec<u8>,
    writable: usize,
    /// What the receiver has.
    got: usize,
    /// The first bytes of `got` that are the sender's; the rest is greenroom's own Close.
    passed: usize,
    /// greenroom's own Close, and nothing more of the sender's.
    own: bool,
    ended: bool,
}

impl Way {
    /// How much more may be read now.
    fn room(&self) -> usize {
        (RELAY_BUFFER - self.buffer.len().min(RELAY_BUFFER)).min(self.script.len() - self.read)
    }
}

struct Pipe<'t> {
    rng: Rng,
    relay: Relay,
    end: End,
    /// Client to backend, backend to client.
    up: Way,
    down: Way,
    /// Bytes of one read or write at the most.
    piece: usize,
    /// A receiver takes something once in so many times.
    slow: u64,
    over: bool,
    lost_mid_frame: bool,
    fin_to_backend: bool,
    trace: &'t mut Trace,
}

fn broken(invariant: u8, what: String) -> Violation {
    Violation { invariant, what }
}

fn demand(holds: bool, invariant: u8, what: &str) -> Result<(), Violation> {
    if holds {
        Ok(())
    } else {
        Err(broken(invariant, format!("relay: {what}")))
    }
}

fn frame(first: u8, payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
    let bit = if mask.is_some() { 0x80 } else { 0 };
    let mut bytes = vec![first];
    match payload.len() {
        len @ 0..=125 => bytes.push(bit | len as u8),
        len @ 126..=65_535 => {
            bytes.push(bit | 126);
            bytes.extend((len as u16).to_be_bytes());
        }
        len => {
            bytes.push(bit | 127);
            bytes.extend((len as u64).to_be_bytes());
        }
    }
    bytes.extend(mask.iter().flatten());
    let key = mask.unwrap_or_default();
    bytes.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
    bytes
}

/// Where the last whole frame of these ends, and the length of the one that has begun after it, if its header is there.
fn walk(bytes: &[u8]) -> (usize, Option<usize>) {
    let mut at = 0;
    while let [_, second, rest @ ..] = &bytes[at..] {
        let masked = if second & 0x80 != 0 { 4 } else { 0 };
        let (header, payload) = match (second & 0x7f, rest) {
            (126, [a, b, ..]) => (4, usize::from(*a) << 8 | usize::from(*b)),
            (127, [_, _, _, _, a, b, c, d, ..]) => (10, u32::from_be_bytes([*a, *b, *c, *d]) as usize),
            (126 | 127, _) => return (at, None),
            (len, _) => (2, usize::from(len)),
        };
        let total = header + masked + payload;
        if bytes.len() - at < total {
            return (at, Some(total).filter(|_| bytes.len() - at >= header + masked));
        }
        at += total;
    }
    (at, None)
}

fn script(rng: &mut Rng, mask: bool, large: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..rng.range(0, 12) {
        let len = match rng.range(0, 12) {
            0 if large => rng.size(60_000, 140_000),
            1 if large => RELAY_BUFFER - 4 - rng.size(0, 12), // about the size that passes whole
            2 => rng.size(120, 130),
            _ => rng.size(0, if large { 9_000 } else { 90 }),
        };
        let fill = rng.draw();
        let payload: Vec<u8> = (0..len as u64)
            .map(|at| (fill.wrapping_mul(at + 1) >> 56) as u8)
            .collect();
        let key = mask.then(|| (rng.draw() as u32).to_be_bytes());
        if rng.one_in(5) {
            bytes.extend(frame(0x89, &payload[..payload.len().min(125)], key));
        } else if rng.one_in(5) {
            // A message in two frames, with a Ping between them.
            bytes.extend(frame(0x01, &payload, key));
            bytes.extend(frame(0x89, b"p", key));
            bytes.extend(frame(0x80, &payload[..len / 2], key));
        } else {
            bytes.extend(frame(0x82, &payload, key));
        }
    }
    bytes
}

pub(crate) fn run(seed: u64, trace: &mut Trace) -> Result<u64, Violation> {
    let mut rng = Rng::new(seed ^ 0x7069_7065);
    let end = rng.pick(&[
        End::Closes,
        End::BackendDies,
        End::BackendRestarts,
        End::HalfClose,
        End::ClientResets,
        End::ClientViolates,
        End::BackendViolates,
    ]);
    let large = rng.one_in(3);
    let (mut up, mut down) = (Way::default(), Way::default());
    up.script = script(&mut rng, true, large);
    down.script = script(&mut rng, false, large);
    let code = rng.pick(&[1000_u16, 1008, 1011, 4001]).to_be_bytes();
    let restart = rng.pick(&[1001_u16, 1012, 1013]).to_be_bytes();
    match end {
        End::Closes => {
            up.script.extend(frame(0x88, &code, Some([7, 1, 9, 3])));
            down.script.extend(frame(0x88, &code, None));
        }
        End::BackendDies => {
            let cut = rng.size(0, down.script.len() + 1);
            down.script.truncate(cut);
        }
        End::BackendRestarts => down.script.extend(frame(0x88, &restart, None)),
        End::ClientViolates => up.script.extend(frame(0x82, b"unmasked", None)),
        End::BackendViolates => down.script.extend(frame(0x82, b"masked", Some([1; 4]))),
        End::HalfClose | End::ClientResets => {}
    }
    let piece = if large { 16 * 1024 } else { rng.pick(&[1, 3, 17, 400]) };
    let slow = rng.pick(&[1, 1, 5, 40]);
    let mut pipe = Pipe {
        rng,
        relay: Relay::new(false),
        end,
        up,
        down,
        piece,
        slow,
        over: false,
        lost_mid_frame: false,
        fin_to_backend: false,
        trace,
    };
    let (up, down) = (pipe.up.script.len(), pipe.down.script.len());
    pipe.trace.note(format_args!(
        "relay: {end:?}, {up} bytes up, {down} down, pieces of {piece}, slow {slow}"
    ));
    pipe.live()
}

impl Pipe<'_> {
    fn live(&mut self) -> Result<u64, Violation> {
        for _ in 0..STEPS_MAX * 4 {
            if self.over && self.up.writable == 0 && self.down.writable == 0 {
                self.finish()?;
                let (up, down) = (self.up.got, self.down.got);
                self.trace
                    .note(format_args!("relay: {up} bytes up and {down} down arrived"));
                return Ok((up + down) as u64);
            }
            self.step()?;
            for way in [&self.up, &self.down] {
                demand(
                    way.buffer.len() <= RELAY_BUFFER + 127,
                    14,
                    "more is buffered than RELAY_BUFFER",
                )?;
            }
        }
        Err(broken(9, "relay: it stalls".into()))
    }

    fn step(&mut self) -> Result<(), Violation> {
        let piece = self.rng.size(1, self.piece + 1);
        match self.rng.range(0, 4) {
            0 if !self.over => self.read_client(piece),
            1 if !self.over => self.read_backend(piece),
            2 if self.rng.one_in(self.slow) => self.write(piece, true),
            3 if self.rng.one_in(self.slow) => self.write(piece, false),
            _ => Ok(()),
        }
    }

    fn read_client(&mut self, piece: usize) -> Result<(), Violation> {
        let way = &mut self.up;
        let n = way.room().min(piece);
        if n > 0 {
            let bytes = way.script[way.read..way.read + n].to_vec();
            way.read += n;
            let pass = self.relay.client_bytes(&bytes);
            self.up.buffer.extend(&bytes[..pass.forward]);
            self.up.writable += pass.forward;
            self.go_on(pass.then);
        } else if way.read == way.script.len() && !way.ended {
            let how = match self.end {
                End::HalfClose => Ended::Fin,
                End::ClientResets => Ended::Reset,
                End::Closes | End::BackendDies | End::BackendRestarts | End::ClientViolates | End::BackendViolates => {
                    return Ok(()); // it waits for the other side
                }
            };
            way.ended = true;
            let then = self.relay.client_ended(how);
            self.go_on(then);
        }
        Ok(())
    }

    fn read_backend(&mut self, piece: usize) -> Result<(), Violation> {
        let way = &mut self.down;
        let n = way.room().min(piece);
        if n > 0 {
            let bytes = way.script[way.read..way.read + n].to_vec();
            way.read += n;
            let Pass { forward, keep, then } = self.relay.backend_bytes(&bytes);
            let way = &mut self.down;
            way.buffer.extend(&bytes);
            way.writable += forward;
            demand(
                way.writable + keep <= way.buffer.len(),
                2,
                "it passes or keeps more than there is",
            )?;
            way.buffer.truncate(way.writable + keep);
            self.go_on(then);
        } else if way.read == way.script.len() && !way.ended {
            let ends = match self.end {
                End::BackendDies => true,
                End::HalfClose => self.fin_to_backend && self.up.writable == 0,
                End::Closes | End::BackendRestarts | End::ClientResets | End::ClientViolates | End::BackendViolates => {
                    false
                }
            };
            if ends {
                way.ended = true;
                let how = self.rng.pick(&[Ended::Fin, Ended::Reset]);
                let then = self.relay.backend_ended(how);
                self.go_on(then);
            }
        }
        Ok(())
    }

    fn go_on(&mut self, then: Then) {
        match then {
            Then::Continue => return,
            Then::HalfClose => {
                self.fin_to_backend = true;
                return;
            }
            Then::BothClosed | Then::Done(_) => {}
            Then::Lost { mid_frame, .. } => {
                self.lost_mid_frame = mid_frame;
                self.close_client(CloseCode::RESTART);
            }
            Then::Over(_) => {} // nothing is measured here
            Then::Violation(who, _) => {
                let client = who == Sender::Client;
                self.close_client(if client {
                    CloseCode::PROTOCOL_ERROR
                } else {
                    CloseCode::GOING_AWAY
                });
                if self.relay.may_close_backend() {
                    let code = if client {
                        CloseCode::GOING_AWAY
                    } else {
                        CloseCode::PROTOCOL_ERROR
                    };
                    Self::append(&mut self.up, &close_frame(code, "", Some([1, 2, 3, 4])));
                }
            }
        }
        self.trace.note(format_args!("relay: {then:?}"));
        self.over = true;
        self.down.buffer.truncate(self.down.writable); // what is kept is half a frame
    }

    fn close_client(&mut self, code: CloseCode) {
        self.down.buffer.truncate(self.down.writable);
        if self.relay.may_close_client() {
            Self::append(&mut self.down, &close_frame(code, "", None));
        }
    }

    fn append(way: &mut Way, close: &[u8]) {
        way.passed = way.got + way.writable;
        way.own = true;
        way.buffer.extend(close);
        way.writable += close.len();
    }

    fn write(&mut self, piece: usize, up: bool) -> Result<(), Violation> {
        let way = if up { &mut self.up } else { &mut self.down };
        let n = way.writable.min(piece);
        let theirs = if way.own { way.passed } else { usize::MAX };
        for (at, byte) in (way.got..).zip(way.buffer.drain(..n)) {
            let exact = at >= theirs || way.script.get(at) == Some(&byte);
            demand(exact, 2, "what arrives is not what was sent")?;
        }
        way.writable -= n;
        way.got += n;
        Ok(())
    }

    fn finish(&self) -> Result<(), Violation> {
        let theirs = |way: &Way| if way.own { way.passed } else { way.got };
        let (up, down) = (theirs(&self.up), theirs(&self.down));
        let read = &self.down.script[..self.down.read];
        let (whole, begun) = walk(read);
        let cuts = begun.is_some_and(|len| len > RELAY_BUFFER);
        match self.end {
            End::Closes | End::HalfClose => {
                demand(up == self.up.script.len(), 2, "not all of the client's bytes arrived")?;
                demand(
                    down == self.down.script.len(),
                    2,
                    "not all of the backend's bytes arrived",
                )?;
            }
            End::BackendDies => {
                demand(
                    self.lost_mid_frame == cuts,
                    4,
                    "it is wrong about being in the middle of a large frame",
                )?;
                demand(
                    down == if cuts { read.len() } else { whole },
                    4,
                    "not just the whole frames arrived",
                )?;
                demand(
                    self.down.own != cuts,
                    4,
                    "a Close in the middle of a frame, or none at its end",
                )?;
            }
            End::BackendRestarts => {
                demand(
                    down == whole - 4,
                    4,
                    "the frames before the backend's 1012 arrive, and it does not",
                )?;
                demand(self.down.own, 15, "the client is told nothing")?;
            }
            End::ClientViolates => {
                let legal = self.up.script.len() - 10;
                demand(
                    (legal..legal + 13).contains(&up),
                    2,
                    "the frames before the violation arrive",
                )?;
                demand(
                    self.up.own == (up == legal),
                    15,
                    "a Close to the backend, where one can stand",
                )?;
            }
            End::BackendViolates => {
                demand(
                    down == self.down.script.len() - 12,
                    2,
                    "the frames before the violation arrive, and it does not",
                )?;
                demand(self.down.own, 15, "the client is told nothing")?;
            }
            End::ClientResets => {}
        }
        Ok(())
    }
}
