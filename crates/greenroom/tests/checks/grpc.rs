//! The health service of gRPC's own library: serving, not serving, not there, gone.

use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};

use greenroom::config::Address;
use greenroom::probe::{Probe, Verdict, Why};
use rustix::process::Signal;

use crate::servers::{Folder, Server, UP, e2e, fixture};

struct Health {
    _folder: Folder,
    server: Server,
    address: Address,
    unix: Address,
    say: ChildStdin,
    hear: BufReader<ChildStdout>,
}

impl Health {
    fn start(health: &str) -> Self {
        let folder = Folder::new();
        let mut python = Command::new(e2e("venv/bin/python"));
        python
            .arg(fixture("checks_grpc.py"))
            .env("SOCKET", folder.path("grpc.sock"));
        python.env("HEALTH", health).env("PYTHONDONTWRITEBYTECODE", "1");
        let mut child = python.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (say, hear) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut health = Self {
            unix: folder.socket("grpc.sock"),
            _folder: folder,
            server: Server::of(child, Signal::KILL),
            address: "127.0.0.1:1".parse().unwrap(),
            say,
            hear: BufReader::new(hear),
        };
        let port = health.line();
        health.address = format!("127.0.0.1:{port}").parse().unwrap();
        health
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.hear.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn set(&mut self, service: &str, status: &str) {
        writeln!(self.say, "{service} {status}").unwrap();
        assert_eq!(self.line(), "ok");
    }
}

#[tokio::test]
async fn grpc_is_what_the_health_service_says() {
    let mut health = Health::start("yes");
    let (mut whole, mut shop) = (
        Probe::grpc(&health.address, ""),
        Probe::grpc(&health.address, "shop.Orders"),
    );
    assert_eq!(whole.once().await, UP, "the library's own default");
    assert_eq!(shop.once().await, Verdict::Down(Why::UnknownService));
    for (status, verdict) in [
        ("NOT_SERVING", Verdict::Down(Why::Health("NOT_SERVING"))),
        ("UNKNOWN", Verdict::Down(Why::Health("UNKNOWN"))),
        ("SERVICE_UNKNOWN", Verdict::Down(Why::Health("SERVICE_UNKNOWN"))),
        ("SERVING", UP),
    ] {
        health.set("shop.Orders", status);
        assert_eq!(shop.once().await, verdict);
        assert_eq!(whole.once().await, UP);
    }
    health.set("-", "NOT_SERVING");
    assert_eq!(whole.once().await, Verdict::Down(Why::Health("NOT_SERVING")));
    assert_eq!(
        Probe::grpc(&health.unix, "shop.Orders").once().await,
        UP,
        "over a Unix socket"
    );
    health.server.end();
    assert_eq!(whole.once().await, Verdict::Down(Why::Refused), "gone");
}

#[tokio::test]
async fn a_grpc_server_without_a_health_service_is_down_and_it_is_said_why() {
    let health = Health::start("no");
    let mut probe = Probe::grpc(&health.address, "");
    assert_eq!(probe.once().await, Verdict::Down(Why::NoHealthService));
}
