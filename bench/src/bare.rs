//! The least that a gateway on sockets can do: the kernel's part, and next to nothing else.
//!
//! One thread, one epoll set, level-triggered; one read and one write for each
//! message that goes by, as in greenroom. It looks at no byte, counts nothing,
//! keeps no buffer, refuses nobody, and waits for a slow reader where it stands. It is
//! no gateway: it shows what of the others' cost is theirs, and what is the kernel's.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use serde_json::json;

use crate::{Failure, any_port};

/// Bytes read at once: as many as greenroom reads.
const SCRATCH: usize = 64 * 1024;
/// Events taken at once: as many as greenroom's runtime takes.
const EVENTS: usize = 1024;
/// Under this number the listener's events come.
const LISTENER: u64 = u64::MAX;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Where to.
    #[arg(long)]
    backend: SocketAddr,
}

/// Relays until it is ended.
pub(crate) fn main(arguments: &Arguments) -> Result<(), Failure> {
    crate::process::raise_descriptors();
    let listener = TcpListener::bind(any_port())?;
    let set = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&set, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
    println!(
        "{}",
        json!({"event": "listening", "address": listener.local_addr()?.to_string()})
    );
    // Partners stand beside each other: the other side of `n` is `n ^ 1`.
    let mut sockets: Vec<Option<TcpStream>> = Vec::new();
    let mut scratch = vec![0; SCRATCH];
    let mut events = Vec::with_capacity(EVENTS);
    loop {
        events.clear();
        epoll::wait(&set, rustix::buffer::spare_capacity(&mut events), None)?;
        for event in &events {
            let number = event.data.u64();
            if number == LISTENER {
                let (client, _) = listener.accept()?;
                for socket in [client, TcpStream::connect(arguments.backend)?] {
                    socket.set_nodelay(true)?;
                    socket.set_nonblocking(true)?;
                    let data = EventData::new_u64(sockets.len() as u64);
                    epoll::add(&set, &socket, data, EventFlags::IN)?;
                    sockets.push(Some(socket));
                }
                continue;
            }
            let number = usize::try_from(number)?;
            if let (Some(from), Some(to)) = (&sockets[number], &sockets[number ^ 1])
                && !carry(from, to, &mut scratch)
            {
                (sockets[number], sockets[number ^ 1]) = (None, None);
            }
        }
    }
}

/// One read, one write. False at the end of either.
fn carry(from: &TcpStream, to: &TcpStream, scratch: &mut [u8]) -> bool {
    let read = match rustix::net::recv(from, &mut *scratch, RecvFlags::empty()) {
        Ok((read, _)) => read,
        Err(Errno::AGAIN) => return true,
        Err(_) => return false,
    };
    let mut left = &scratch[..read];
    while !left.is_empty() {
        match rustix::net::send(to, left, SendFlags::NOSIGNAL) {
            Ok(written) => left = &left[written..],
            Err(Errno::AGAIN) => {
                if poll(&mut [PollFd::from_borrowed_fd(to.as_fd(), PollFlags::OUT)], None).is_err() {
                    return false;
                }
            }
            Err(_) => return false,
        }
    }
    read > 0
}
