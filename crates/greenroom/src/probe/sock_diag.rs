//! The words spoken with the kernel's socket table (NETLINK_SOCK_DIAG): builds
//! the questions, reads the answers.
//!
//! Pure: bytes in, values out; the socket is in [`super::table`]. Every read is
//! bounds-checked, so that no answer, however odd, can do more than be skipped.
//! Layouts: `linux/netlink.h`, `linux/inet_diag.h`, `linux/unix_diag.h`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_DUMP: u16 = 0x300;
const AF_UNIX: u8 = 1;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const IPPROTO_TCP: u8 = 6;
/// TCP_LISTEN, which Unix sockets use too.
const LISTEN: u8 = 10;
const INET_DIAG_SKV6ONLY: u16 = 11;
const UNIX_DIAG_NAME: u16 = 0;
const UNIX_DIAG_VFS: u16 = 1;
const UDIAG_SHOW_NAME_AND_VFS: u32 = 1 | 2;

const HEADER: usize = 16;
const INET_MESSAGE: usize = 72;
const UNIX_MESSAGE: usize = 16;

/// A listening TCP socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TcpListener {
    /// Where it is bound.
    pub(super) at: SocketAddr,
    /// Whether an IPv6 socket takes no IPv4 connections.
    pub(super) v6_only: bool,
    /// Which socket it is: `/proc/PID/fd` names it so.
    pub(super) inode: u64,
}

impl TcpListener {
    /// Whether a connection to `target` reaches this listener (among others, perhaps).
    pub(super) fn takes(&self, target: SocketAddr) -> bool {
        if self.at.port() != target.port() {
            return false;
        }
        match (self.at.ip(), target.ip()) {
            (IpAddr::V4(own), IpAddr::V4(to)) => own == to || own.is_unspecified(),
            (IpAddr::V6(own), IpAddr::V6(to)) => own == to || own.is_unspecified(),
            (IpAddr::V6(own), IpAddr::V4(to)) => {
                own.to_ipv4_mapped() == Some(to) || (own.is_unspecified() && !self.v6_only)
            }
            (IpAddr::V4(_), IpAddr::V6(_)) => false,
        }
    }
}

/// A listening Unix socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UnixListener {
    /// The path as the server bound it; none when unnamed or abstract.
    pub(super) path: Option<PathBuf>,
    /// Inode (its low 32 bits) and device (the kernel's numbering) of the socket file.
    pub(super) file: Option<(u32, u32)>,
    /// Which socket it is: `/proc/PID/fd` names it so.
    pub(super) inode: u64,
}

/// One message of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// A listening TCP socket.
    Tcp(TcpListener),
    /// A listening Unix socket.
    Unix(UnixListener),
    /// The last of an answer.
    Done,
    /// The kernel's error number (positive); 0 is an acknowledgement.
    Error(i32),
    /// A socket that does not listen, or something unknown.
    Other,
}

/// The question which listener a connection to `target` reaches: the kernel
/// looks it up as it would for a SYN, in its hash table, whatever else is open.
pub(super) fn ask_one(target: SocketAddr, seq: u32) -> Vec<u8> {
    let (family, mut ip) = match target.ip() {
        IpAddr::V4(ip) => (AF_INET, ip.octets().to_vec()),
        IpAddr::V6(ip) => (AF_INET6, ip.octets().to_vec()),
    };
    ip.resize(16, 0);
    inet_question(family, target.port(), &ip, NLM_F_REQUEST, seq)
}

/// The question for all listeners of a family, at one port or (0) at any.
pub(super) fn ask_all_tcp(v6: bool, port: u16, seq: u32) -> Vec<u8> {
    let family = if v6 { AF_INET6 } else { AF_INET };
    inet_question(family, port, &[0; 16], NLM_F_REQUEST | NLM_F_DUMP, seq)
}

/// The question for all listening Unix sockets.
pub(super) fn ask_all_unix(seq: u32) -> Vec<u8> {
    let mut body = vec![AF_UNIX, 0, 0, 0];
    body.extend((1_u32 << LISTEN).to_ne_bytes());
    body.extend(0_u32.to_ne_bytes()); // inode: any
    body.extend(UDIAG_SHOW_NAME_AND_VFS.to_ne_bytes());
    body.extend([0; 8]); // cookie: unused in a dump
    message(&body, NLM_F_REQUEST | NLM_F_DUMP, seq)
}

fn inet_question(family: u8, port: u16, ip: &[u8], flags: u16, seq: u32) -> Vec<u8> {
    let mut body = vec![family, IPPROTO_TCP, 0, 0];
    body.extend((1_u32 << LISTEN).to_ne_bytes());
    body.extend(port.to_be_bytes()); // source: the listener's side
    body.extend([0; 2]);
    body.extend(ip);
    body.extend([0; 16]); // destination: nobody
    body.extend([0; 4]); // device: any
    body.extend([0xff; 8]); // no cookie
    message(&body, flags, seq)
}

fn message(body: &[u8], flags: u16, seq: u32) -> Vec<u8> {
    let length = u32::try_from(HEADER + body.len()).unwrap_or(u32::MAX); // some 80 bytes
    let mut bytes = Vec::with_capacity(HEADER + body.len());
    bytes.extend(length.to_ne_bytes());
    bytes.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(seq.to_ne_bytes());
    bytes.extend([0; 4]); // port id: the kernel fills it in
    bytes.extend(body);
    bytes
}

/// Reads one datagram: the messages that belong to the question `seq`.
///
/// Stops at the first message whose length is impossible.
pub(super) fn messages(datagram: &[u8], seq: u32) -> impl Iterator<Item = Message> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        loop {
            let length = u32_at(rest, 0)? as usize;
            let (kind, number) = (u16_at(rest, 4)?, u32_at(rest, 8)?);
            let body = rest.get(HEADER..length)?;
            rest = rest.get(aligned(length)..).unwrap_or_default();
            if number == seq {
                return Some(read_message(kind, body));
            }
        }
    })
}

fn read_message(kind: u16, body: &[u8]) -> Message {
    match kind {
        // A dump's end carries its error, if it had one.
        NLMSG_DONE => match u32_at(body, 0).map(|code| code.cast_signed().saturating_neg()) {
            Some(code) if code > 0 => Message::Error(code),
            _ => Message::Done,
        },
        NLMSG_ERROR => u32_at(body, 0).map_or(Message::Other, |code| {
            Message::Error(code.cast_signed().saturating_neg())
        }),
        SOCK_DIAG_BY_FAMILY => match body.first() {
            Some(&AF_UNIX) => read_unix(body).map_or(Message::Other, Message::Unix),
            Some(&(AF_INET | AF_INET6)) => read_tcp(body).map_or(Message::Other, Message::Tcp),
            _ => Message::Other,
        },
        _ => Message::Other,
    }
}

fn read_tcp(body: &[u8]) -> Option<TcpListener> {
    if *body.get(1)? != LISTEN {
        return None;
    }
    let port = u16::from_be_bytes(body.get(4..6)?.try_into().ok()?);
    let (ip, v6) = if *body.first()? == AF_INET {
        let octets: [u8; 4] = body.get(8..12)?.try_into().ok()?;
        (IpAddr::from(Ipv4Addr::from(octets)), false)
    } else {
        let octets: [u8; 16] = body.get(8..24)?.try_into().ok()?;
        (IpAddr::from(Ipv6Addr::from(octets)), true)
    };
    let inode = u64::from(u32_at(body, INET_MESSAGE - 4)?);
    let only = attribute(body.get(INET_MESSAGE..)?, INET_DIAG_SKV6ONLY).and_then(|value| value.first().copied());
    Some(TcpListener {
        at: SocketAddr::new(ip, port),
        v6_only: v6 && only.is_some_and(|flag| flag != 0),
        inode,
    })
}

fn read_unix(body: &[u8]) -> Option<UnixListener> {
    if *body.get(2)? != LISTEN {
        return None;
    }
    let attributes = body.get(UNIX_MESSAGE..)?;
    let path = attribute(attributes, UNIX_DIAG_NAME)
        .map(|name| name.split(|&b| b == 0).next().unwrap_or_default()) // an abstract name begins with NUL
        .filter(|name| !name.is_empty())
        .map(|name| PathBuf::from(std::ffi::OsString::from_vec(name.to_vec())));
    let file = attribute(attributes, UNIX_DIAG_VFS).and_then(|vfs| Some((u32_at(vfs, 0)?, u32_at(vfs, 4)?)));
    let inode = u64::from(u32_at(body, 4)?);
    Some(UnixListener { path, file, inode })
}

/// The value of the first attribute of that kind.
fn attribute(mut rest: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let length = usize::from(u16_at(rest, 0)?);
        let kind = u16_at(rest, 2)? & 0x3fff; // the upper bits are flags
        let value = rest.get(4..length)?;
        if kind == wanted {
            return Some(value);
        }
        rest = rest.get(aligned(length)..)?;
    }
}

/// Messages and attributes begin at multiples of four.
const fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn listener(at: &str, v6_only: bool) -> TcpListener {
        TcpListener {
            at: at.parse().unwrap(),
            v6_only,
            inode: 1,
        }
    }

    #[test]
    fn a_listener_takes_its_own_address_and_the_wildcards_take_theirs() {
        let v4 = "127.0.0.1:80".parse().unwrap();
        let v6 = "[::1]:80".parse().unwrap();
        for (at, only, takes_v4, takes_v6) in [
            ("127.0.0.1:80", false, true, false),
            ("127.0.0.2:80", false, false, false),
            ("127.0.0.1:81", false, false, false),
            ("0.0.0.0:80", false, true, false),
            ("[::]:80", false, true, true),
            ("[::]:80", true, false, true),
            ("[::1]:80", false, false, true),
            ("[::ffff:127.0.0.1]:80", false, true, false),
        ] {
            assert_eq!(listener(at, only).takes(v4), takes_v4, "{at} {only} for {v4}");
            assert_eq!(listener(at, only).takes(v6), takes_v6, "{at} {only} for {v6}");
        }
    }

    #[test]
    fn an_answer_to_another_question_is_passed_over() {
        let mut bytes = message(&[0; 4], 0, 1);
        bytes[4..6].copy_from_slice(&NLMSG_DONE.to_ne_bytes());
        assert_eq!(messages(&bytes, 2).count(), 0);
        assert_eq!(messages(&bytes, 1).collect::<Vec<_>>(), [Message::Done]);
    }

    #[test]
    fn an_abstract_name_is_no_path() {
        let mut body = vec![AF_UNIX, 1, LISTEN, 0, 7, 0, 0, 0];
        body.extend([0; 8]);
        body.extend([8, 0, 0, 0, 0, b'a', b'b', b'c']);
        let read = read_unix(&body).unwrap();
        assert_eq!((read.path, read.file, read.inode), (None, None, 7));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic_or_run_for_ever(bytes: Vec<u8>, seq in 0_u32..3) {
            prop_assert!(messages(&bytes, seq).count() <= bytes.len() / HEADER + 1);
        }

        #[test]
        fn a_true_answer_with_any_bytes_changed_makes_no_panic(
            family in prop::sample::select(vec![AF_UNIX, AF_INET, AF_INET6]),
            changes in prop::collection::vec((0_usize..120, any::<u8>()), 0..8),
            cut in 0_usize..130,
        ) {
            let mut body = vec![family, LISTEN, LISTEN, 0];
            body.extend([0; INET_MESSAGE]);
            body.extend([5, 0, 11, 0, 1, 0, 0, 0, 12, 0, 1, 0]);
            let mut bytes = message(&body, 0, 1);
            for (at, value) in changes {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = value;
                }
            }
            bytes.truncate(cut);
            let _ = messages(&bytes, 1).count();
        }
    }
}
