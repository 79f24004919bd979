//! Sends away who comes when there is no room for another connection.
//!
//! Where only a limit is reached, there are descriptors: the client gets the time to send its request and to read its
//! answer, on a thread of the clients, `TURNED_AWAY_MAX` of them at one time. Beyond that, and without a descriptor, it is
//! answered and closed at once, without a task that waits: then its request may meet a closed socket, and the answer be lost.

use std::sync::Arc;

use greenroom_core::event::Refusal;
use rustix::net::{RecvFlags, SendFlags, Shutdown};
use tokio::net::TcpStream;

use super::admit::soon;
use super::refuse::say;
use crate::front::Front;
use crate::head::{With, refusal as written};
use crate::scratch::with_scratch;
use crate::threads::Threads;

/// Refuses a client that is not in the books.
pub(crate) fn turn_away(front: &Front, threads: &Threads, client: std::net::TcpStream, refusal: Refusal) {
    let mut answer = Vec::new();
    let with = With {
        retry_after_seconds: Some(soon(front)),
        ..With::default()
    };
    written(refusal, with, &mut answer);
    let registry = &front.registry;
    let place = Arc::clone(&registry.turned_away).try_acquire_owned();
    let (Ok(place), false) = (place, refusal == Refusal::Descriptors) else {
        return at_once(&client, &answer);
    };
    let descriptor = registry.descriptor();
    threads.spawn(async move {
        let _until_it_is_closed = (place, descriptor);
        if let Ok(client) = TcpStream::from_std(client) {
            say(client, &answer).await;
        }
    });
}

fn at_once(client: &std::net::TcpStream, answer: &[u8]) {
    let _ = rustix::net::send(client, answer, SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
    // The head that lies there unread would make the close a reset, which destroys the answer.
    let _ = rustix::net::shutdown(client, Shutdown::Write);
    with_scratch(|scratch| {
        let _ = rustix::net::recv(client, scratch, RecvFlags::DONTWAIT);
    });
}
