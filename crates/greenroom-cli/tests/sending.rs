//! Messages that somebody sends to clients through the admin API, among those of the backend; and a client's own messages
//! where its route limits them. Byte for byte, on the wire.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::{io::Write as _, sync::mpsc::channel, thread, time::Duration};

use common::{
    process::until,
    raw::{Raw, Stub, close, frame, header, masked, nobody, switching},
    rig::Rig,
};
use serde_json::{Value, json};

/// One more that is relayed; each by itself, so that numbers are in this order.
fn relayed(rig: &Rig, stub: &Stub, answer: &str, count: usize) -> (Raw, Raw) {
    let extension = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
    let mut client = Raw::connect(&rig.address);
    client.send(common::raw::upgrade(extension));
    let (mut backend, _) = stub.request();
    backend.send(switching(answer));
    assert!(client.head().starts_with("HTTP/1.1 101 "));
    rig.are(count, "relaying");
    (client, backend)
}

fn send(rig: &Rig, body: &Value) -> Value {
    let (status, done) = rig.post("/v1/connections/send", body);
    assert_eq!(status, 200, "{done}");
    done
}

#[test]
fn messages_of_the_house_stand_between_those_of_the_backend_in_order_and_are_counted_apart() {
    let stub = Stub::listen();
    let rig = Rig::before(&stub.address(), "");
    let (mut client, mut backend) = relayed(&rig, &stub, "Sec-WebSocket-Extensions: permessage-deflate\r\n", 1);
    backend.send(frame(0xc1, b"compressed")); // RSV1: nobody looks into it
    assert_eq!(client.frame().0, 0xc1);
    let done = send(&rig, &json!({"all": true, "text": "höllo"}));
    assert_eq!((&done["matched"], &done["sent"]), (&1.into(), &1.into()), "{done}");
    assert_eq!(client.frame(), (0x81, "höllo".into()), "no RSV1");
    send(&rig, &json!({"numbers": [1], "base64": "AP8A"}));
    backend.send(frame(0x82, b"behind"));
    assert_eq!(client.frame(), (0x82, vec![0, 255, 0]));
    assert_eq!(client.frame(), (0x82, b"behind".to_vec()));
    let large = "x".repeat(60 * 1024);
    send(&rig, &json!({"numbers": [1], "text": large}));
    assert_eq!(client.frame(), (0x81, large.into_bytes()));
    let one = &rig.told(&["ps"])["connections"][0];
    assert_eq!(
        (&one["messages_down"], &one["messages_own"]),
        (&2.into(), &3.into()),
        "{one}"
    );
    assert_eq!(one["bytes_down"], 12 + 8);
    assert_eq!(one["bytes_own"], 2 + 6 + 2 + 3 + 4 + 60 * 1024);
    let told =
        |event: &Value| event["event"] == "admin" && event["action"] == "send" && event["what"] == "connection 1";
    let event = rig.greenroom.wait_for(told, common::raw::SOON);
    assert_eq!(
        (&event["count"], &event["detail"]),
        (&1.into(), &"5 bytes".into()),
        "{event}"
    );
    assert!(!rig.greenroom.stderr().contains("höllo"), "what was said is in no log");
}

/// It stands in front of a first frame of which nothing has passed, and behind a message that has begun.
#[test]
fn a_message_waits_for_the_end_of_the_backends_and_stands_in_front_of_the_next() {
    let stub = Stub::listen();
    let rig = Rig::before(&stub.address(), "");
    let (mut client, mut backend) = relayed(&rig, &stub, "", 1);
    let half = frame(0x81, b"a whole frame");
    backend.send(&half[..5]);
    until("its first bytes are there", || {
        rig.told(&["ps"])["connections"][0]["bytes_down"] == 5
    });
    send(&rig, &json!({"all": true, "text": "in front"}));
    assert_eq!(client.frame(), (0x81, b"in front".to_vec()));
    backend.send(&half[5..]);
    assert_eq!(client.frame(), (0x81, b"a whole frame".to_vec()));

    backend.send(frame(0x01, b"one "));
    assert_eq!(client.frame(), (0x01, b"one ".to_vec()));
    thread::scope(|scope| {
        let waits = scope.spawn(|| send(&rig, &json!({"all": true, "text": "between"})));
        // A Ping may stand within the message; ours may not. It has been handed over when the next is refused a place.
        backend.send(frame(0x89, b"still"));
        assert_eq!(client.frame(), (0x89, b"still".to_vec()));
        assert!(client.silent_for(Duration::from_millis(200)));
        // In one piece with what begins right behind it: a backend that never pauses keeps nobody waiting.
        backend.send([frame(0x80, b"message"), frame(0x01, b"and ")].concat());
        assert_eq!(client.frame(), (0x80, b"message".to_vec()));
        assert_eq!(client.frame(), (0x81, b"between".to_vec()));
        assert_eq!(client.frame(), (0x01, b"and ".to_vec()));
        assert_eq!(waits.join().unwrap()["sent"], 1);
    });
}

#[test]
fn a_message_that_finds_no_place_in_time_is_refused_by_name_and_never_sent_and_delays_no_other() {
    let stub = Stub::listen();
    let rig = Rig::before(&stub.address(), "");
    let (mut stuck, mut begun) = relayed(&rig, &stub, "", 1);
    let (mut other, _other) = relayed(&rig, &stub, "", 2);
    begun.send(frame(0x01, b"begun"));
    assert_eq!(stuck.frame(), (0x01, b"begun".to_vec()));
    thread::scope(|scope| {
        let (answered, answer) = channel();
        let rig = &rig;
        scope.spawn(move || answered.send(send(rig, &json!({"all": true, "text": "now"}))).unwrap());
        assert_eq!(other.frame(), (0x81, b"now".to_vec()));
        assert!(
            answer.try_recv().is_err(),
            "the other has it while the first one is still waited for"
        );
        let done = answer.recv_timeout(common::raw::SOON).unwrap();
        assert_eq!((&done["matched"], &done["sent"]), (&2.into(), &1.into()), "{done}");
        assert_eq!(done["refused"], json!({"unfinished_message": 1}));
        assert_eq!(
            done["outcomes"],
            json!([{"number": 1, "outcome": "unfinished_message"}])
        );
    });
    begun.send([frame(0x80, b"done"), frame(0x82, b"next")].concat());
    assert_eq!(stuck.frame(), (0x80, b"done".to_vec()));
    assert_eq!(
        stuck.frame(),
        (0x82, b"next".to_vec()),
        "what was taken back does not come"
    );
    begun.send(frame(0x82, b"last"));
    assert_eq!(stuck.frame(), (0x82, b"last".to_vec()), "nor later");
}

/// What was just read of the backend is no backlog of a client that reads.
#[test]
fn what_the_backend_says_meanwhile_makes_no_client_slow() {
    let stub = Stub::listen();
    let rig = Rig::before(&stub.address(), "");
    let (mut client, mut backend) = relayed(&rig, &stub, "", 1);
    let (mut other, _other) = relayed(&rig, &stub, "", 2);
    let (next, begun) = (frame(0x82, &[2; 30_000]), frame(0x82, &[3; 62_000]));
    // A message is open, and its end comes with much behind it; or one is nearly as large as what is kept.
    for (before, after, own) in [
        (&frame(0x01, b"a")[..], [frame(0x80, b"b"), next].concat(), 60_000),
        (&begun[..60_000], begun[60_000..].to_vec(), 10_000),
    ] {
        backend.send(before);
        let is_open = before[0] == 0x01;
        if is_open {
            assert_eq!(client.frame().0, 0x01);
        }
        thread::scope(|scope| {
            let rig = &rig;
            let sent = scope.spawn(move || send(rig, &json!({"all": true, "text": "o".repeat(own)})));
            assert_eq!(other.frame().1.len(), own);
            backend.send(after);
            let mut frames: Vec<_> = (0..2 + usize::from(is_open)).map(|_| client.frame()).collect();
            let done = sent.join().unwrap();
            assert_eq!((&done["sent"], &done["refused"]), (&2.into(), &json!({})), "{done}");
            if is_open {
                assert_eq!(frames.remove(0), (0x80, b"b".to_vec()));
            }
            let mut lengths: Vec<_> = frames.iter().map(|(first, bytes)| (*first, bytes.len())).collect();
            lengths.sort_unstable();
            let of_backend = if is_open { 30_000 } else { 62_000 };
            assert_eq!(lengths, [(0x81, own), (0x82, of_backend)]);
        });
    }
}

/// Writes whole messages until its client's side takes nothing for a moment.
fn fill(backend: &mut Raw) {
    let piece = frame(0x82, &[6; 60_000]);
    backend.0.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut written = 0;
    while backend.0.write_all(&piece).is_ok() {
        written += piece.len();
        assert!(written < 256 << 20, "no backpressure");
    }
}

#[test]
fn a_client_that_does_not_read_gets_none_and_the_others_do() {
    let stub = Stub::listen();
    let rig = Rig::before(&stub.address(), "");
    let (slow, mut fills) = relayed(&rig, &stub, "", 1);
    let (mut other, _other) = relayed(&rig, &stub, "", 2);
    fill(&mut fills);
    let text = "y".repeat(50_000);
    let (mut sent, mut refused) = (0, 0);
    while refused < 3 {
        let done = send(&rig, &json!({"all": true, "text": text}));
        assert_eq!(other.frame().1.len(), text.len(), "each comes to who reads");
        let to_slow = done["sent"] == 2;
        sent += usize::from(to_slow);
        refused += usize::from(done["refused"] == json!({"slow": 1}));
        assert!(to_slow || done["refused"] == json!({"slow": 1}), "{done}");
        assert!(sent <= 1, "it is kept beyond its bound");
    }
    drop(slow);
}

#[test]
fn who_waits_is_sent_something_only_with_a_101() {
    let rig = Rig::before(&nobody(), "hold = \"handshake\"");
    let held = rig.knock("/ws");
    let mut plain = Raw::connect(&rig.address);
    plain.send("GET /page HTTP/1.1\r\nHost: example.test\r\n\r\n");
    rig.are(2, "held");
    let done = send(&rig, &json!({"all": true, "text": "hi"}));
    assert_eq!(done["refused"], json!({"not_relaying": 2}), "{done}");
    drop((held, plain));
    until("they are gone", || rig.told(&["ps"])["total"] == 0);
    let done = send(&rig, &json!({"numbers": [1, 2], "text": "hi"}));
    assert_eq!(done["refused"], json!({"gone": 2}), "{done}");

    let place = nobody();
    let rig = Rig::before(&place, "hold = \"accept\"");
    let mut client = rig.knock("/ws");
    client.head();
    rig.are(1, "held");
    assert_eq!(send(&rig, &json!({"all": true, "text": "wait"}))["sent"], 1);
    assert_eq!(client.frame(), (0x81, b"wait".to_vec()));
    let stub = Stub::at(&place);
    let (mut backend, _) = stub.request();
    rig.are(1, "dialing");
    assert_eq!(send(&rig, &json!({"all": true, "text": "soon"}))["sent"], 1);
    backend.send(switching(""));
    backend.send(frame(0x81, b"here"));
    assert_eq!(client.frame(), (0x81, b"soon".to_vec()));
    assert_eq!(client.frame(), (0x81, b"here".to_vec()));
    let one = &rig.told(&["ps"])["connections"][0];
    assert_eq!(
        (&one["messages_down"], &one["messages_own"]),
        (&1.into(), &2.into()),
        "{one}"
    );
}

/// An accepted client that reads nothing is kept no more for than the bound.
#[test]
fn an_accepted_client_that_does_not_read_gets_no_more_than_is_kept() {
    let rig = Rig::before(&nobody(), "hold = \"accept\"");
    let mut client = rig.knock("/ws");
    client.head();
    rig.are(1, "held");
    let text = "z".repeat(60 * 1024);
    let mut sent = 0;
    loop {
        let done = send(&rig, &json!({"all": true, "text": text}));
        if done["refused"] == json!({"slow": 1}) {
            break;
        }
        assert_eq!(done["sent"], 1, "{done}");
        sent += 1;
        assert!(sent < 1_000, "60 MB went nowhere");
    }
    for _ in 0..sent {
        assert_eq!(client.frame().1.len(), text.len(), "whole frames all the same");
    }
}

#[test]
fn what_is_no_message_is_refused_with_what_to_do() {
    let rig = Rig::before(&nobody(), "");
    for (body, status, help) in [
        (json!({"text": "x"}), 422, "\"all\": true"),
        (json!({"all": true}), 422, "say one of them"),
        (json!({"all": true, "text": "x", "base64": ""}), 422, "say one of them"),
        (json!({"all": true, "base64": "_-"}), 422, "RFC 4648"),
        (json!({"all": true, "text": "x".repeat(61_441)}), 413, "60KiB"),
    ] {
        let (found, problem) = rig.post("/v1/connections/send", &body);
        assert_eq!(found, status, "{problem}");
        assert!(problem["help"].as_str().unwrap().contains(help), "{problem}");
    }
}

/// What was begun is done and said, whether or not somebody still waits for the answer.
#[test]
fn whoever_hangs_up_is_audited_all_the_same() {
    let stub = Stub::listen();
    let rig = Rig::before(&stub.address(), "");
    let (mut stuck, mut begun) = relayed(&rig, &stub, "", 1);
    begun.send(frame(0x01, b"half")); // no message stands in it: whoever sends waits
    assert_eq!(stuck.frame(), (0x01, b"half".to_vec()));
    let (mut free, _backend) = relayed(&rig, &stub, "", 2);
    let body = json!({"all": true, "text": "secretly"}).to_string();
    let mut asks = std::os::unix::net::UnixStream::connect(rig.socket()).unwrap();
    write!(
        asks,
        "POST /v1/connections/send HTTP/1.1\r\nHost: greenroom\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    assert_eq!(free.frame(), (0x81, b"secretly".to_vec()));
    drop(asks);
    let is_told = |event: &Value| event["event"] == "admin" && event["action"] == "send";
    let event = rig.greenroom.wait_for(is_told, common::raw::SOON);
    assert_eq!(
        (&event["count"], &event["result"]),
        (&1.into(), &"done".into()),
        "{event}"
    );
    assert!(event["by"].as_str().unwrap().starts_with("socket uid="), "{event}");
}

#[test]
fn a_user_or_a_tag_gets_what_is_sent_to_it_and_nobody_else_does() {
    let stub = Stub::listen();
    let rig = Rig::before(&stub.address(), "user = \"header:X-User\"\ntags = [\"header:X-Plan\"]");
    let come = |fields: &str, count| {
        let mut client = Raw::connect(&rig.address);
        client.send(common::raw::upgrade(fields));
        let (mut backend, _) = stub.request();
        backend.send(switching(""));
        assert!(client.head().starts_with("HTTP/1.1 101 "));
        rig.are(count, "relaying");
        (client, backend)
    };
    let (mut ann, _ann) = come("X-User: ann\r\nX-Plan: free\r\n", 1);
    let (mut anna, _anna) = come("X-User: anna\r\nX-Plan: paid\r\n", 2);
    let (mut nobody, _nobody) = come("", 3);
    for (filter, sent, text) in [
        (json!({"user": "ann"}), 1, "to ann"),
        (json!({"tag": "x-plan=paid"}), 1, "who pay"),
        (json!({"tag": "x-plan"}), 2, "with a plan"),
        (json!({"user": "ann", "tag": "x-plan=paid"}), 0, "to none"),
        (json!({"user": "header"}), 0, "to none"),
    ] {
        let done = send(&rig, &json!({"filter": filter, "text": text}));
        assert_eq!(
            (&done["matched"], &done["sent"]),
            (&sent.into(), &sent.into()),
            "{filter}"
        );
    }
    assert_eq!(rig.told(&["send", "--user", "anna", "--text", "to anna"])["sent"], 1);
    assert_eq!(
        rig.told(&["send", "--tag", "x-plan=free", "--text", "who do not"])["sent"],
        1
    );
    send(&rig, &json!({"all": true, "text": "to all"}));
    let hears = |client: &mut Raw, all: &[&str]| {
        for text in all {
            assert_eq!(client.frame(), (0x81, text.as_bytes().to_vec()));
        }
    };
    hears(&mut ann, &["to ann", "with a plan", "who do not", "to all"]);
    hears(&mut anna, &["who pay", "with a plan", "to anna", "to all"]);
    hears(&mut nobody, &["to all"]);
    let said = rig.streamed("last=4096&event=admin");
    assert!(said.iter().any(|event| event["what"] == "user=ann"), "{said:?}");
}

#[test]
fn the_command_sends_a_text_a_file_and_what_it_is_given() {
    let stub = Stub::listen();
    let rig = Rig::before(&stub.address(), "");
    let (mut client, _backend) = relayed(&rig, &stub, "", 1);
    let said = rig.say(&["send", "1", "--text", "hi"]);
    assert_eq!(
        String::from_utf8(said.stdout).unwrap(),
        "sent it to 1 of 1 connection\n"
    );
    assert_eq!(client.frame(), (0x81, b"hi".to_vec()));
    let file = rig.folder.join("message");
    std::fs::write(&file, [1, 255]).unwrap();
    let file = file.to_str().unwrap();
    let no_text = rig.say(&["send", "--all", "--file", file]);
    assert_eq!(no_text.status.code(), Some(2));
    assert!(String::from_utf8(no_text.stderr).unwrap().contains("--binary"));
    assert_eq!(rig.told(&["send", "--all", "--file", file, "--binary"])["sent"], 1);
    assert_eq!(client.frame(), (0x82, vec![1, 255]));
    assert_eq!(rig.told(&["send", "--all", "--text", "a", "--binary"])["sent"], 1);
    assert_eq!(client.frame(), (0x82, b"a".to_vec()), "binary, as it was asked for");
    assert_eq!(
        rig.say(&["send", "--text", "x"]).status.code(),
        Some(2),
        "nobody is named"
    );
    drop((client, _backend));
    until("it is gone", || rig.told(&["ps"])["total"] == 0);
    let gone = rig.say(&["send", "1", "--text", "hi"]);
    assert_eq!(gone.status.code(), Some(1));
    assert_eq!(
        String::from_utf8(gone.stdout).unwrap(),
        "sent it to 0 of 1 connection; refused: 1 gone\n  1  gone\n"
    );
}

/// What the backend of a client over a limit gets: these bytes, then 1001 where it may stand, and the end.
fn backend_hears(backend: &mut Raw, before: &[u8]) {
    assert_eq!(backend.exactly(before.len()), before);
    assert_eq!(backend.close_frame().0, 1001);
    assert_eq!(backend.rest(), b"");
}

#[test]
fn a_message_over_message_max_is_1009_and_nothing_of_its_frame_passes() {
    let stub = Stub::listen();
    let rig = Rig::before(&stub.address(), "message_max = \"1KiB\"");
    let fits = [
        masked(0x01, &[b'a'; 1000]),
        masked(0x80, &[b'b'; 24]),
        masked(0x82, &[1; 1024]),
    ]
    .concat();
    let large = [header(0x82, 1 << 40, true), vec![0; 4 << 20]].concat();
    for excess in [masked(0x81, &[b'c'; 1025]), large] {
        let (mut client, mut backend) = relayed(&rig, &stub, "", 1);
        client.send(&fits);
        // A client that sends all of it before it reads must not lose its Close to a reset.
        client.send(&excess);
        assert_eq!(client.close_frame(), (1009, "message_max=1024".into()));
        assert_eq!(client.rest(), b"");
        backend_hears(&mut backend, &fits);
        drop((client, backend));
        let event = rig
            .greenroom
            .wait_for(|event| event["cause"] == "limit", common::raw::SOON);
        assert_eq!(event["detail"], "message_max=1024");
        until("it is gone", || rig.told(&["ps"])["total"] == 0);
    }
}

#[test]
fn more_messages_than_message_rate_is_1008() {
    let stub = Stub::listen();
    let rig = Rig::before(&stub.address(), "message_rate = 1");
    let (mut client, mut backend) = relayed(&rig, &stub, "", 1);
    let two = masked(0x81, b"x").repeat(2);
    let pings = masked(0x89, b"").repeat(50);
    client.send([&two[..], &pings, &masked(0x82, b"one too many")].concat());
    assert_eq!(client.close_frame(), (1008, "message_rate=1".into()));
    backend_hears(&mut backend, &[two, pings].concat());
}

#[test]
fn what_an_accepted_client_said_too_much_goes_to_no_backend() {
    let place = nobody();
    let rig = Rig::before(&place, "hold = \"accept\"\nmessage_max = \"8B\"\nmessage_rate = 1");
    let mut client = rig.knock("/ws");
    client.head();
    let fits = masked(0x81, b"8 bytes.").repeat(5); // how many came while it waited is bounded otherwise
    client.send([&fits[..], &masked(0x81, b"nine byte")].concat());
    let stub = Stub::at(&place);
    let (mut backend, _) = stub.request();
    backend.send(switching(""));
    assert_eq!(client.close_frame(), (1009, "message_max=8".into()));
    client.try_send(masked(0x88, &close(1009, "")));
    backend_hears(&mut backend, &fits);
}
