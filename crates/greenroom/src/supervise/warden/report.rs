//! What a warden says to greenroom: records of twelve bytes over a socket.
//!
//! Both ends are the same program file, so the form is nobody else's business.

use std::io::{self, Read};

use greenroom_core::limits;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;

use crate::supervise::reap::End;
use crate::supervise::spawn::Step;

/// One record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::supervise) enum Report {
    /// The child runs. Whether its warden is a member of its group.
    Started { pid: i32, joined: bool },
    /// It could not be started. The first of several counts.
    Failed { step: Step, errno: i32 },
    /// The child was stopped by this signal.
    Stopped(i32),
    /// It goes on.
    Continued,
    /// It ended.
    Ended(End),
    /// The terminal sent this signal to the child's group.
    Key(i32),
    /// So many more processes that the child had left behind were waited for.
    Orphans(i32),
}

/// The size of a record.
pub(super) const SIZE: usize = 12;

impl Report {
    pub(super) fn encode(self) -> [u8; SIZE] {
        let words: [i32; 3] = match self {
            Self::Started { pid, joined } => [1, pid, joined.into()],
            Self::Failed { step, errno } => [2, step.number(), errno],
            Self::Stopped(signal) => [3, signal, 0],
            Self::Continued => [4, 0, 0],
            Self::Ended(End::Exited(code)) => [5, code.into(), 0],
            Self::Ended(End::Signalled(signal)) => [6, signal, 0],
            Self::Key(signal) => [7, signal, 0],
            Self::Orphans(count) => [8, count, 0],
        };
        let mut bytes = [0; SIZE];
        for (place, word) in bytes.chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }

    fn decode(bytes: [u8; SIZE]) -> Option<Self> {
        let word = |n: usize| {
            let bytes = bytes.get(4 * n..4 * n + 4)?;
            bytes.try_into().ok().map(i32::from_ne_bytes)
        };
        let (kind, a, b) = (word(0)?, word(1)?, word(2)?);
        Some(match kind {
            1 => Self::Started { pid: a, joined: b == 1 },
            2 => Self::Failed {
                step: Step::of(a),
                errno: b,
            },
            3 => Self::Stopped(a),
            4 => Self::Continued,
            5 => Self::Ended(End::Exited(u8::try_from(a).ok()?)),
            6 => Self::Ended(End::Signalled(a)),
            7 => Self::Key(a),
            8 => Self::Orphans(a),
            _ => return None,
        })
    }
}

/// Waits for the first, for so long at the most; the socket does not block afterwards.
pub(super) fn first(mut socket: &std::os::unix::net::UnixStream) -> io::Result<Report> {
    let mut bytes = [0; SIZE];
    socket.set_nonblocking(false)?;
    socket.set_read_timeout(Some(limits::WARDEN_START))?;
    socket.read_exact(&mut bytes)?;
    socket.set_nonblocking(true)?;
    Report::decode(bytes).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Reads one; an error when the warden is gone, or says what nobody understands.
pub(in crate::supervise) async fn read(socket: &mut UnixStream) -> io::Result<Report> {
    let mut bytes = [0; SIZE];
    socket.read_exact(&mut bytes).await?;
    Report::decode(bytes).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_report_is_read_as_it_was_written() {
        let all = [
            Report::Started { pid: 7, joined: true },
            Report::Started { pid: 7, joined: false },
            Report::Failed {
                step: Step::Account,
                errno: 1,
            },
            Report::Stopped(20),
            Report::Continued,
            Report::Ended(End::Exited(255)),
            Report::Ended(End::Signalled(9)),
            Report::Key(2),
            Report::Orphans(i32::MAX),
        ];
        for report in all {
            assert_eq!(Report::decode(report.encode()), Some(report));
        }
        assert_eq!(Report::decode([0xff; SIZE]), None);
    }
}
