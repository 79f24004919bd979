//! The kernel's socket table: who listens where.
//!
//! Asked over one netlink socket that is kept open (sock_diag). Where that is
//! not to be had (some sandboxes), `/proc/net/tcp`, `tcp6` and `unix` are read
//! instead, and [`Table::take_fallback`] says so once. No connection is made.
//!
//! One TCP place is looked up as the kernel looks up a SYN, so the cost does not
//! grow with the connections or listeners of the machine.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use greenroom_core::limits;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};

use super::sock_diag::{self, Message, TcpListener, UnixListener};

/// Room for one datagram; the kernel makes none that is larger.
const DATAGRAM: usize = 32 * limits::KIB;
/// `TCP_LISTEN`, as `/proc/net/tcp` writes it.
const PROC_LISTEN: &str = "0A";
/// `__SO_ACCEPTCON`, as `/proc/net/unix` writes it.
const PROC_ACCEPTS: u32 = 0x0001_0000;

/// The way to the kernel's socket table.
#[derive(Debug)]
pub(super) struct Table {
    /// None: `/proc/net` is read instead.
    diag: Option<Diag>,
    fallback: Option<io::Error>,
}

impl Table {
    /// Opens the way, and tries it once with each family.
    pub(super) fn open() -> Self {
        match Diag::open() {
            Ok(diag) => Self {
                diag: Some(diag),
                fallback: None,
            },
            Err(why) => Self::fallen_back(why),
        }
    }

    /// A table that reads `/proc/net`.
    pub(super) fn fallen_back(why: io::Error) -> Self {
        Self {
            diag: None,
            fallback: Some(why),
        }
    }

    /// Why `/proc/net` is read; answered once.
    pub(super) fn take_fallback(&mut self) -> Option<io::Error> {
        self.fallback.take()
    }

    /// The listener that a connection to `target` would reach; with several at
    /// the same place (SO_REUSEPORT) one of them.
    pub(super) fn reached(&mut self, target: SocketAddr) -> io::Result<Option<TcpListener>> {
        match &mut self.diag {
            Some(diag) => diag.reached(target).map_err(|error| self.renew(error)),
            None => Ok(proc_tcp(target.port())?.into_iter().find(|l| l.takes(target))),
        }
    }

    /// All TCP listeners at `port`, or (0) at any.
    pub(super) fn tcp(&mut self, port: u16) -> io::Result<Vec<TcpListener>> {
        match &mut self.diag {
            Some(diag) => diag.tcp(port).map_err(|error| self.renew(error)),
            None => proc_tcp(port),
        }
    }

    /// All listening Unix sockets.
    pub(super) fn unix(&mut self) -> io::Result<Vec<UnixListener>> {
        match &mut self.diag {
            Some(diag) => diag.unix().map_err(|error| self.renew(error)),
            None => proc_unix(),
        }
    }

    /// After a failure: a new socket, as a list that was left half read keeps the old one busy.
    fn renew(&mut self, error: io::Error) -> io::Error {
        match Diag::open() {
            Ok(diag) => self.diag = Some(diag),
            Err(why) => *self = Self::fallen_back(why),
        }
        error
    }
}

/// The netlink socket, and the number of the last question.
#[derive(Debug)]
struct Diag {
    socket: OwnedFd,
    seq: u32,
    room: Vec<u8>,
}

impl Diag {
    fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let protocol = Some(netlink::SOCK_DIAG);
        let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol)?;
        let mut diag = Self {
            socket,
            seq: 0,
            room: vec![0; DATAGRAM],
        };
        // A kernel without the modules answers ENOENT, which for one place would read as "nobody listens".
        diag.ask(|seq| sock_diag::ask_all_tcp(false, 1, seq), |_| {})?;
        diag.ask(|seq| sock_diag::ask_all_tcp(true, 1, seq), |_| {})?;
        diag.ask(sock_diag::ask_all_unix, |_| {})?;
        Ok(diag)
    }

    fn reached(&mut self, target: SocketAddr) -> io::Result<Option<TcpListener>> {
        self.send(|seq| sock_diag::ask_one(target, seq))?;
        for _ in 0..limits::SOCKET_TABLE_READS_MAX {
            match self.receive()?.next() {
                Some(Message::Tcp(listener)) => return Ok(Some(listener)),
                Some(Message::Error(code)) if code == rustix::io::Errno::NOENT.raw_os_error() => return Ok(None),
                Some(Message::Error(code)) if code != 0 => return Err(io::Error::from_raw_os_error(code)),
                Some(Message::Error(_) | Message::Unix(_) | Message::Done | Message::Other) => return Ok(None),
                None => {} // the rest of an earlier answer
            }
        }
        Err(too_long())
    }

    fn tcp(&mut self, port: u16) -> io::Result<Vec<TcpListener>> {
        let mut found = Vec::new();
        for v6 in [false, true] {
            let question = |seq| sock_diag::ask_all_tcp(v6, port, seq);
            self.ask(question, |message| {
                if let Message::Tcp(listener) = message {
                    found.push(listener);
                }
            })?;
        }
        Ok(found)
    }

    fn unix(&mut self) -> io::Result<Vec<UnixListener>> {
        let mut found = Vec::new();
        self.ask(sock_diag::ask_all_unix, |message| {
            if let Message::Unix(listener) = message {
                found.push(listener);
            }
        })?;
        Ok(found)
    }

    /// Asks for a list and hands on its messages until its end.
    fn ask(&mut self, question: impl Fn(u32) -> Vec<u8>, mut each: impl FnMut(Message)) -> io::Result<()> {
        self.send(question)?;
        for _ in 0..limits::SOCKET_TABLE_READS_MAX {
            for message in self.receive()? {
                match message {
                    Message::Done | Message::Error(0) => return Ok(()),
                    Message::Error(code) => return Err(io::Error::from_raw_os_error(code)),
                    found @ (Message::Tcp(_) | Message::Unix(_) | Message::Other) => each(found),
                }
            }
        }
        Err(too_long())
    }

    fn send(&mut self, question: impl Fn(u32) -> Vec<u8>) -> io::Result<()> {
        self.seq = self.seq.wrapping_add(1);
        let bytes = question(self.seq);
        // The kernel answers within the call: the answer is there when it returns.
        rustix::net::send(&self.socket, &bytes, SendFlags::empty())?;
        Ok(())
    }

    fn receive(&mut self) -> io::Result<impl Iterator<Item = Message>> {
        let (read, _) = rustix::net::recv(&self.socket, self.room.as_mut_slice(), RecvFlags::empty())?;
        let datagram = self.room.get(..read).unwrap_or_default();
        Ok(sock_diag::messages(datagram, self.seq))
    }
}

fn too_long() -> io::Error {
    io::Error::other("the kernel's list of listening sockets has no end")
}

/// The listeners of `/proc/net/tcp` and `tcp6`.
fn proc_tcp(port: u16) -> io::Result<Vec<TcpListener>> {
    let mut found = Vec::new();
    for name in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let file = match File::open(name) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound && name.ends_with('6') => continue, // no IPv6 here
            Err(error) => return Err(error),
        };
        for line in BufReader::new(file).lines().skip(1) {
            // The kernel lists the listening ones first.
            let Some(listener) = proc_tcp_line(&line?) else { break };
            if port == 0 || listener.at.port() == port {
                found.push(listener);
            }
        }
    }
    Ok(found)
}

/// One line of `/proc/net/tcp` or `tcp6`, if it is a listener's.
fn proc_tcp_line(line: &str) -> Option<TcpListener> {
    let mut fields = line.split_ascii_whitespace();
    let (ip, port) = fields.nth(1)?.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    if fields.nth(1)? != PROC_LISTEN {
        return None;
    }
    let inode = fields.nth(5)?.parse().ok()?;
    // Addresses stand there as 32-bit words in the byte order of the machine.
    let mut words = [0_u32; 4];
    let count = ip.len() / 8;
    for (word, digits) in words.iter_mut().zip(ip.as_bytes().chunks(8)) {
        *word = u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    let octets: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let ip = match count {
        1 => IpAddr::from(Ipv4Addr::from(<[u8; 4]>::try_from(octets.get(..4)?).ok()?)),
        4 => IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(octets).ok()?)),
        _ => return None,
    };
    Some(TcpListener {
        at: SocketAddr::new(ip, port),
        v6_only: false, // not shown there; most servers keep the default
        inode,
    })
}

/// The listeners of `/proc/net/unix`.
fn proc_unix() -> io::Result<Vec<UnixListener>> {
    let file = BufReader::new(File::open("/proc/net/unix")?);
    let mut found = Vec::new();
    for line in file.split(b'\n').skip(1) {
        let line = line?; // a path in it may be no UTF-8: passed over
        found.extend(std::str::from_utf8(&line).ok().and_then(proc_unix_line));
    }
    Ok(found)
}

/// One line of `/proc/net/unix`, if it is a listener's.
fn proc_unix_line(line: &str) -> Option<UnixListener> {
    let mut rest = line;
    let mut field = || {
        rest = rest.trim_start_matches(' ');
        let (field, after) = rest.split_once(' ').unwrap_or((rest, ""));
        rest = after;
        field
    };
    let flags = [field(), field(), field(), field()];
    if u32::from_str_radix(flags[3], 16).ok()? & PROC_ACCEPTS == 0 {
        return None;
    }
    let [_, _, inode] = [field(), field(), field()];
    Some(UnixListener {
        path: rest.starts_with('/').then(|| PathBuf::from(rest)),
        file: None,
        inode: inode.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    fn both() -> [(&'static str, Table); 2] {
        let open = Table::open();
        assert!(open.fallback.is_none(), "sock_diag is here: {:?}", open.fallback);
        [
            ("sock_diag", open),
            ("/proc/net", Table::fallen_back(io::ErrorKind::Unsupported.into())),
        ]
    }

    fn inode(socket: impl AsFd) -> u64 {
        rustix::fs::fstat(socket).unwrap().st_ino
    }

    #[test]
    fn a_tcp_listener_is_found_by_both_ways_until_it_is_closed() {
        for bind in ["127.0.0.1:0", "0.0.0.0:0", "[::1]:0", "[::]:0"] {
            let listener = std::net::TcpListener::bind(bind).unwrap();
            let at = listener.local_addr().unwrap();
            let target = if bind.contains("[::1]") { "::1" } else { "127.0.0.1" };
            let target = SocketAddr::new(target.parse().unwrap(), at.port());
            for (way, mut table) in both() {
                let found = table.reached(target).unwrap().unwrap();
                assert_eq!((found.at, found.inode), (at, inode(&listener)), "{way} {bind}");
                assert_eq!(table.tcp(at.port()).unwrap(), [found], "{way} {bind}");
                assert!(table.tcp(0).unwrap().iter().any(|l| l.at == at), "{way} {bind}");
            }
            drop(listener);
            for (way, mut table) in both() {
                assert_eq!(table.reached(target).unwrap(), None, "{way} {bind}");
            }
        }
    }

    #[test]
    fn an_ipv6_only_wildcard_takes_no_ipv4() {
        let socket = socket2::Socket::new(socket2::Domain::IPV6, socket2::Type::STREAM, None).unwrap();
        socket.set_only_v6(true).unwrap();
        let any: SocketAddr = "[::]:0".parse().unwrap();
        socket.bind(&any.into()).unwrap();
        socket.listen(1).unwrap();
        let port = socket.local_addr().unwrap().as_socket().unwrap().port();
        let mut table = Table::open();
        assert!(table.tcp(port).unwrap()[0].v6_only);
        let v4 = SocketAddr::from(([127, 0, 0, 1], port));
        assert_eq!(table.reached(v4).unwrap(), None);
        assert!(
            table
                .reached(format!("[::1]:{port}").parse().unwrap())
                .unwrap()
                .is_some()
        );
    }

    #[test]
    fn a_bound_socket_that_does_not_listen_is_nobody() {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        let at = socket.local_addr().unwrap().as_socket().unwrap();
        for (way, mut table) in both() {
            assert_eq!(table.reached(at).unwrap(), None, "{way}");
            assert_eq!(table.tcp(at.port()).unwrap(), [], "{way}");
        }
    }

    #[test]
    fn a_unix_listener_is_found_by_both_ways() {
        let path = std::env::temp_dir().join(format!("greenroom-table-{}.sock", std::process::id()));
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        for (way, mut table) in both() {
            let all = table.unix().unwrap();
            let found = all.iter().find(|l| l.path.as_deref() == Some(path.as_path()));
            assert_eq!(found.unwrap().inode, inode(&listener), "{way}");
        }
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn why_proc_is_read_is_said_once() {
        let mut table = Table::fallen_back(io::ErrorKind::Unsupported.into());
        assert!(table.take_fallback().is_some() && table.take_fallback().is_none());
    }

    #[test]
    fn odd_lines_of_proc_are_no_listeners() {
        for line in [
            "",
            "0:",
            "0: 0100007F:1F90",
            "0: 0100007F:1F90 0 0A 0 0 0 0 5 x",
            "0: 01:1F90 0:0 0A 0:0 0:0 0 0 0 5",
        ] {
            assert_eq!(proc_tcp_line(line), None, "{line}");
            assert_eq!(proc_unix_line(line), None, "{line}");
        }
        let unix = proc_unix_line("000: 00000002 00000000 00010000 0001 01    77 /a b/c").unwrap();
        assert_eq!((unix.path, unix.inode), (Some("/a b/c".into()), 77));
    }
}
