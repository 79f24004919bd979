//! A real Redis: loading, serving, with a password, without its master, gone.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use greenroom::probe::{Note, Probe, Said, Verdict, Why};

use crate::servers::{Folder, Server, UP, becomes, secret};

/// So many keys, each with a delay of its own, take longer to load than any test waits.
const KEYS: usize = 5_000;

fn start(folder: &Folder, more: &[&str]) -> Server {
    let mut redis = Command::new("redis-server");
    redis.args([
        "--port",
        "0",
        "--save",
        "",
        "--appendonly",
        "no",
        "--dbfilename",
        "dump.rdb",
    ]);
    redis.arg("--unixsocket").arg(folder.path("redis.sock"));
    redis.arg("--dir").arg(folder.path("")).args(more);
    Server::start(redis.stdout(Stdio::null()))
}

/// Sends a command and waits for the end of its one-line answer.
fn command(folder: &Folder, words: &[&str]) -> String {
    let mut stream = UnixStream::connect(folder.path("redis.sock")).unwrap();
    let words: Vec<String> = words
        .iter()
        .map(|word| format!("${}\r\n{word}\r\n", word.len()))
        .collect();
    write!(stream, "*{}\r\n{}", words.len(), words.concat()).unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n") {
        let mut byte = [0];
        assert_eq!(stream.read(&mut byte).unwrap(), 1, "the answer ends");
        answer.extend(byte);
    }
    String::from_utf8(answer).unwrap().trim_end().to_owned()
}

#[tokio::test]
async fn redis_is_down_while_it_loads_and_up_when_it_has() {
    let folder = Folder::new();
    let probe = || Probe::redis(&folder.socket("redis.sock"), None);
    assert_eq!(probe().once().await, Verdict::Down(Why::NoSocketFile));
    let server = start(&folder, &[]);
    becomes(probe(), UP).await;
    let fill =
        format!("for n = 1, {KEYS} do redis.call('set', n, string.rep('x', 1000)) end return redis.status_reply('OK')");
    assert_eq!(command(&folder, &["EVAL", &fill, "0"]), "+OK");
    assert_eq!(command(&folder, &["SAVE"]), "+OK");
    server.end();
    assert_eq!(probe().once().await, Verdict::Down(Why::Refused), "gone");

    // 100 s for all keys together; events are taken in between, every 1024 bytes.
    let slowly = [
        "--key-load-delay",
        "20000",
        "--loading-process-events-interval-bytes",
        "1024",
        "--rdbcompression",
        "no",
    ];
    let _server = start(&folder, &slowly);
    becomes(probe(), Verdict::Down(Why::Loading)).await;
    assert_eq!(probe().once().await, Verdict::Down(Why::Loading), "it stays");
    assert_eq!(command(&folder, &["CONFIG", "SET", "key-load-delay", "0"]), "+OK");
    let (_, before) = becomes(probe(), UP).await;
    assert!(
        before.iter().all(|verdict| *verdict == Verdict::Down(Why::Loading)),
        "{before:?}"
    );
}

#[tokio::test]
async fn redis_that_asks_for_a_password_gets_it_or_counts_as_an_answer() {
    let folder = Folder::new();
    let address = folder.socket("redis.sock");
    let _server = start(&folder, &["--requirepass", "swordfish"]);
    let (look, _) = becomes(Probe::redis(&address, None), UP).await;
    assert!(matches!(look.note, Some(Note::LoadingUnseen)), "{look:?}");
    let mut without = Probe::redis(&address, None);
    assert!(
        without.look().await.note.is_some() && without.look().await.note.is_none(),
        "said once"
    );
    let mut with = Probe::redis(&address, Some(&secret("swordfish")));
    let look = with.look().await;
    assert!(look.verdict == UP && look.note.is_none(), "{look:?}");
    let mut wrong = Probe::redis(&address, Some(&secret("tuna")));
    assert_eq!(wrong.once().await, Verdict::Down(Why::Login));
}

#[tokio::test]
async fn redis_that_needs_no_password_takes_a_check_that_has_one() {
    let folder = Folder::new();
    let _server = start(&folder, &[]);
    let probe = Probe::redis(&folder.socket("redis.sock"), Some(&secret("unasked")));
    becomes(probe, UP).await;
}

#[tokio::test]
async fn redis_that_has_lost_its_master_says_so_itself() {
    let folder = Folder::new();
    let probe = || Probe::redis(&folder.socket("redis.sock"), None);
    let _server = start(&folder, &["--replica-serve-stale-data", "no"]);
    becomes(probe(), UP).await;
    // Nobody listens on port 1.
    assert_eq!(command(&folder, &["REPLICAOF", "127.0.0.1", "1"]), "+OK");
    let (look, _) = becomes(probe(), Verdict::Down(Why::Redis(Said::new(b"MASTERDOWN")))).await;
    let Verdict::Down(why) = look.verdict else {
        panic!("{look:?}")
    };
    assert_eq!(why.to_string(), "Redis answered MASTERDOWN");
}
