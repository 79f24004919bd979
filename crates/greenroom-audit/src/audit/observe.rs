//! What is seen of a start from outside: when somebody listens, and when READY comes by sd_notify.

use std::net::SocketAddr;

use greenroom::probe::{Of, Probe, Verdict};
use greenroom::supervise::Message;
use tokio::net::UnixDatagram;

use super::record::{Elsewhere, Interval};
use crate::{clock, limits};

/// Looks into the kernel's socket table until somebody listens at `address`; makes no connection.
/// It was between the last look that found nobody, or `from`, and the end of the one that found somebody.
pub async fn listens(address: SocketAddr, from: u64) -> Interval {
    let mut nobody = from;
    loop {
        let before = clock::now();
        if is_taken(address).await {
            return Interval::new(nobody, clock::now());
        }
        nobody = before;
        tokio::time::sleep(limits::AUDIT_LOOK).await;
    }
}

/// Whether somebody listens there now.
pub async fn is_taken(address: SocketAddr) -> bool {
    // A socket address is an address of every kind that greenroom knows.
    let Ok(address) = address.to_string().parse() else {
        return false;
    };
    let look = Probe::listen(&address, Of::Anyone).look().await;
    look.verdict == Verdict::Up
}

/// Where the process and its kin listen, when it is not at `address`.
pub async fn elsewhere(address: SocketAddr, pid: i32) -> Elsewhere {
    let places = match u32::try_from(pid) {
        Ok(pid) => greenroom::probe::elsewhere(pid).await,
        Err(_) => Vec::new(),
    };
    Elsewhere {
        wanted: address.to_string(),
        places: places.iter().map(ToString::to_string).collect(),
    }
}

/// When READY=1 comes at this socket. Who sends it is not asked: this is a measurement on one's own machine.
pub async fn ready(socket: std::os::unix::net::UnixDatagram) -> u64 {
    let mut datagram = vec![0; greenroom_core::limits::NOTIFY_MAX];
    let Ok(socket) = UnixDatagram::from_std(socket) else {
        return std::future::pending().await;
    };
    loop {
        match socket.recv(&mut datagram).await {
            Ok(length) if Message::parse(&datagram[..length]).ready => return clock::now(),
            Ok(_) => {}
            Err(_) => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::Notifier;
    use greenroom::supervise::notify::NotifySocket;

    #[tokio::test]
    async fn a_listener_is_seen_within_the_interval_that_is_told() {
        let socket = crate::backend::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = socket.local_addr().unwrap();
        let looking = tokio::spawn(listens(address, clock::now()));
        assert!(!is_taken(address).await);
        let before = clock::now();
        let listener = socket.listen(16).unwrap();
        let after = clock::now();
        let seen = looking.await.unwrap();
        assert!(
            seen.low_ns <= after && seen.high_ns >= before,
            "{seen:?} {before} {after}"
        );
        drop(listener);
    }

    #[tokio::test]
    async fn ready_is_heard() {
        let mut place = NotifySocket::new().unwrap();
        let socket = place.take().unwrap();
        let notifier = Notifier::connect(place.path().as_os_str()).unwrap();
        notifier.send("STATUS=database").unwrap();
        let before = clock::now();
        notifier.send("READY=1").unwrap();
        assert!(ready(socket).await >= before);
    }
}
