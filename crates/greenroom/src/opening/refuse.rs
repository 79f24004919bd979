//! Saying no: write the refusal, let the client read it, close.
//!
//! A close with unread bytes in the socket is a reset, and a reset may destroy
//! the answer before the client has read it. So the sending side is closed first,
//! and what the client still sends is read and thrown away, for `LINGER` at the
//! most and up to `LINGER_BYTES`.

use greenroom_core::drain::{refuse_at, seed_for};
use greenroom_core::event::{Refusal, SessionId};
use greenroom_core::limits::LINGER_BYTES;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::READ_ANSWER;
use crate::clock;
use crate::front::Front;
use crate::head::{self, Fault, With};

/// Why a session is refused that the backend closed on each time, although it serves others.
pub(crate) const DROPPED_EACH_TIME: &str = "the backend closed the connection without an answer each time";

/// What is to be said in the log of a refusal of the gate, beside its name.
pub(crate) fn why(refusal: Refusal) -> Option<String> {
    (refusal == Refusal::BadAnswer)
        .then(|| "the backend died each time it had this request and no other: it is not sent again".to_owned())
}

/// Refuses before the 101.
pub(crate) async fn plain(client: TcpStream, refusal: Refusal, with: With<'_>) {
    let mut answer = Vec::new();
    head::refusal(refusal, with, &mut answer);
    say(client, &answer).await;
}

/// Refuses a head that breaks a rule, and says which.
pub(super) async fn fault(client: TcpStream, fault: Fault) {
    let mut answer = Vec::new();
    head::fault(fault, &mut answer);
    say(client, &answer).await;
}

/// Waits until a client that had to wait may hear of its refusal: one of many hears it at its own time, and a browser later, as it
/// tries again at once. Only so many browsers are kept back; a stop lets all go, and is not kept back itself.
pub(crate) async fn hold_back(front: &Front, (refusal, id): (Refusal, SessionId), together: usize, is_browser: bool) {
    if refusal == Refusal::Draining {
        return;
    }
    let kept = if is_browser {
        front.registry.tarpit.try_acquire().ok()
    } else {
        None
    };
    let (now, seed) = (clock::now(), seed_for(front.seed, id.0));
    let at = refuse_at(now, seed, together, kept.is_some());
    if at <= now {
        return;
    }
    let mut drain = front.drain.clone();
    tokio::select! {
        () = clock::until(Some(at)) => {}
        _ = drain.wait_for(Option::is_some) => {}
    }
}

pub(crate) async fn say(mut client: TcpStream, answer: &[u8]) {
    let written = tokio::time::timeout(READ_ANSWER, async {
        client.write_all(answer).await?;
        client.shutdown().await
    });
    if let Ok(Ok(())) = written.await {
        linger(&mut client).await; // whoever does not read it in time has had its chance
    }
}

/// Reads and drops what a client still sends after our FIN, until its own or the bounds.
pub(crate) async fn linger(client: &mut TcpStream) {
    let _ = tokio::time::timeout(READ_ANSWER, async {
        let mut sink = [0; 512];
        let mut left = LINGER_BYTES;
        while left > 0 {
            let read = client.read(&mut sink).await?;
            if read == 0 {
                break;
            }
            left = left.saturating_sub(read);
        }
        std::io::Result::Ok(())
    })
    .await;
}
