//! One accepted client and its socket: what is read of it, and what is written to it.

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

/// A line in the books of somebody who is told nothing.
fn record() -> Arc<Record> {
    let registry = crate::opening::tests::registry(64);
    let entry = registry.accept([127, 0, 0, 1].into()).unwrap();
    Arc::clone(entry.record())
}

async fn gone(accepted: &mut Accepted) -> Gone {
    let record = record();
    poll_fn(|cx| accepted.poll_gone(cx, &record)).await
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
    let room = EarlyRoom::new(10_000, &Arc::default());
    let mut other = room.share();
    let mut accepted = Accepted::new(ours, Vec::new(), None, 4_500, &room);
    client.write_all(&frame(0x82, &[7; 4_000])).unwrap();
    while room.used() == 0 {
        assert!(!matches!(accepted.read(), Turn::Gone(_)));
    }
    assert!(other.grow(5_000), "now the newest is to go");
    socket2::SockRef::from(&client).set_send_buffer_size(1 << 20).unwrap();
    client.write_all(&frame(0x8a, &[0; 125]).repeat(1_000)).unwrap();
    assert_eq!(gone(&mut accepted).await, Gone::Refused(Refusal::EarlyBudget));
    let unread = rustix::io::ioctl_fionread(accepted.client.socket()).unwrap();
    assert!(unread > 0, "it is told before all it ever sends was read");
    drop(accepted);
    assert_eq!(room.used(), 5_000);
}

/// Who has sent all that is kept, or has no memory for more, answers Pings and says Close as before.
#[tokio::test]
async fn whose_data_has_no_room_is_heard_as_far_as_control_frames_come_next() {
    for (data, of_others) in [(400, 0), (399, 0), (0, 9_500)] {
        let (mut client, ours) = pair().await;
        let room = EarlyRoom::new(10_000, &Arc::default());
        let mut other = room.share();
        assert!(other.grow(of_others));
        let mut accepted = Accepted::new(ours, Vec::new(), None, 408, &room);
        let before = if data > 0 {
            frame(0x82, &vec![7; data])
        } else {
            Vec::new()
        };
        let pong = frame(0x8a, b"greenroom");
        client.write_all(&[before, pong, frame(0x89, b"?")].concat()).unwrap();
        accepted.missed = 1;
        while accepted.pong.is_none() {
            assert!(!matches!(accepted.read(), Turn::Gone(_)));
            tokio::task::yield_now().await;
        }
        assert!(accepted.full.is_none() && accepted.missed == 0);
        client.write_all(&frame(0x88, &[])).unwrap();
        assert!(matches!(gone(&mut accepted).await, Gone::Closed(_)));
        drop((accepted, other));
        assert_eq!(room.used(), 0);
    }
}

/// It is one look that sees both.
#[tokio::test]
async fn a_ping_before_data_that_has_no_memory_is_answered_and_the_data_stays_unread() {
    let (mut client, ours) = pair().await;
    let room = EarlyRoom::new(10_000, &Arc::default());
    let mut other = room.share();
    assert!(other.grow(9_500));
    let mut accepted = Accepted::new(ours, Vec::new(), None, 1_000, &room);
    let data = frame(0x82, &[7; 100]);
    client.write_all(&[frame(0x89, b"?"), data.clone()].concat()).unwrap();
    for _ in 0..100 {
        assert!(!matches!(accepted.read(), Turn::Gone(_)));
        tokio::task::yield_now().await;
    }
    assert!(accepted.pong.is_some() && accepted.is_full_by_budget());
    let unread = rustix::io::ioctl_fionread(accepted.client.socket()).unwrap();
    assert_eq!((unread, room.used()), (data.len() as u64, 9_500));
}

/// Its patience begins when its next byte has no room, and anew for another reason.
#[tokio::test(start_paused = true)]
async fn who_is_read_on_is_not_full_and_waits_anew_for_another_reason() {
    let (mut client, ours) = pair().await;
    let room = EarlyRoom::new(10_000, &Arc::default());
    let mut other = room.share();
    assert!(other.grow(9_500));
    let mut accepted = Accepted::new(ours, Vec::new(), None, 1_000, &room);
    let since = |accepted: &Accepted| {
        let full = accepted.full.as_ref()?;
        Some((full.until.deadline() - EARLY_PATIENCE, full.by_budget))
    };
    client.write_all(&frame(0x82, &[7; 2_000])).unwrap();
    while accepted.full.is_none() {
        accepted.read();
    }
    let begun = clock::instant(clock::now());
    assert_eq!(since(&accepted), Some((begun, true)));
    tokio::time::advance(EARLY_PATIENCE / 2).await;
    accepted.read();
    assert_eq!(since(&accepted), Some((begun, true)));
    drop(other);
    for _ in 0..100 {
        accepted.read();
        tokio::task::yield_now().await;
    }
    let waits = since(&accepted);
    assert!(
        waits.is_some_and(|(at, by_budget)| at > begun && !by_budget),
        "{waits:?}"
    );
}

/// What its backend has not read yet counts on. But nobody would hear that it is to leave.
#[tokio::test]
async fn who_is_let_in_is_not_told_to_leave_and_another_is() {
    let (mut client, ours) = pair().await;
    let room = EarlyRoom::new(10_000, &Arc::default());
    let mut held = room.share();
    assert!(held.grow(4_000));
    let mut accepted = Accepted::new(ours, Vec::new(), None, 4_500, &room);
    client.write_all(&frame(0x82, &[7; 4_000])).unwrap();
    while room.used() < 8_000 {
        accepted.read();
        tokio::task::yield_now().await;
    }
    let relayed = accepted.into_relay(b"").unwrap();
    let used = room.used();
    assert!(held.grow(9_000 - used));
    let told = poll_fn(|cx| held.poll_told_to_leave(cx));
    assert!(tokio::time::timeout(Duration::from_secs(20), told).await.is_ok());
    drop(relayed);
    assert_eq!(room.used(), 4_000 + 9_000 - used);
}

#[tokio::test]
async fn who_was_never_sent_data_has_no_part_in_the_budget() {
    let (mut client, ours) = pair().await;
    let room = EarlyRoom::new(10_000, &Arc::default());
    let mut accepted = Accepted::new(ours, Vec::new(), None, 1_000, &room);
    client.write_all(&frame(0x89, &[7; 125])).unwrap();
    while accepted.pong.is_none() {
        accepted.read();
    }
    assert_eq!((accepted.early.memory(), room.used()), (0, 0));
}

/// What lay there before it was waited for is seen when there is room, and what comes later too.
#[tokio::test]
async fn who_is_not_read_for_want_of_memory_is_read_when_some_is_free() {
    let (mut client, ours) = pair().await;
    let room = EarlyRoom::new(10_000, &Arc::default());
    let mut other = room.share();
    assert!(other.grow(9_400));
    let mut accepted = Accepted::new(ours, Vec::new(), None, 4_500, &room);
    client
        .write_all(&[frame(0x82, &[7; 1_000]), frame(0x89, b"one")].concat())
        .unwrap();
    let keeps = tokio::spawn(async move { gone(&mut accepted).await });
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
    let mut accepted = Accepted::new(ours, Vec::new(), None, 1024, &EarlyRoom::new(1 << 20, &Arc::default()));
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
    let accepted = Accepted::new(ours, Vec::new(), None, 1024, &EarlyRoom::new(1 << 20, &Arc::default()));
    let record = record();
    let sizes = [
        unanswered,
        size_of::<Accepted>(),
        size_of_val(&Guest::Accepted(Box::new(accepted)).gone(&record)),
    ];
    let most = [16, 328, 16]; // a chunk of 336 in all
    assert!(
        sizes.iter().zip(most).all(|(size, most)| *size <= most),
        "{sizes:?}, at most {most:?}"
    );
}
