//! A real nats-server: serving, with a login, gone.

use std::process::{Command, Stdio};

use greenroom::config::Address;
use greenroom::probe::{Note, Probe, Verdict, Why};

use crate::servers::{Server, UP, e2e, secret};

fn start(more: &[&str]) -> (Server, Address) {
    let mut nats = Command::new(e2e("venv/bin/nats-server"));
    nats.args(["--addr", "127.0.0.1", "--port", "-1"]).args(more);
    nats.stdin(Stdio::null()).stderr(Stdio::piped());
    let address = |line: &str| {
        let (_, address) = line.split_once("Listening for client connections on ")?;
        address.trim().parse().ok()
    };
    Server::start_and_read(&mut nats, address)
}

#[tokio::test]
async fn nats_is_up_while_it_serves() {
    let (server, address) = start(&[]);
    let mut probe = Probe::nats(&address, None);
    let look = probe.look().await;
    assert!(look.verdict == UP && look.note.is_none(), "{look:?}");
    let mut unasked = Probe::nats(&address, Some(&("joe".into(), secret("x"))));
    assert_eq!(unasked.once().await, UP);
    server.end();
    assert_eq!(probe.once().await, Verdict::Down(Why::Refused), "gone");
}

#[tokio::test]
async fn nats_that_asks_for_a_login_gets_it_or_counts_as_an_answer() {
    let (_server, address) = start(&["--user", "joe", "--pass", "say \"friend\""]);
    let login = |password: &str| ("joe".to_owned(), secret(password));
    let mut with = Probe::nats(&address, Some(&login("say \"friend\"")));
    let look = with.look().await;
    assert!(look.verdict == UP && look.note.is_none(), "{look:?}");
    let mut wrong = Probe::nats(&address, Some(&login("enter")));
    assert_eq!(wrong.once().await, Verdict::Down(Why::Login));
    let look = Probe::nats(&address, None).look().await;
    assert!(
        look.verdict == UP && matches!(look.note, Some(Note::NatsLogin)),
        "{look:?}"
    );
}
