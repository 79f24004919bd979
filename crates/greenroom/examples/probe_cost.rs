//! What a look of `listen` costs while the machine has 10,000 TCP connections,
//! printed: `cargo run --release -p greenroom --example probe_cost`.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a measurement: whatever goes wrong ends it"
)]

use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use greenroom::probe::{Of, Probe};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};

const LOOKS: u32 = 2_000;

fn cpu() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec.try_into().unwrap(), now.tv_nsec.try_into().unwrap())
}

async fn cost(what: &str, probe: &mut Probe) -> Duration {
    let first = format!("{:?}", probe.once().await);
    let (began, wall) = (cpu(), std::time::Instant::now());
    for _ in 0..LOOKS {
        probe.once().await;
    }
    let (each, wall) = ((cpu() - began) / LOOKS, wall.elapsed() / LOOKS);
    println!("{what:45} {each:>9.1?} CPU, {wall:>9.1?} in all, {first}");
    each
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let most = getrlimit(Resource::Nofile).maximum;
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: most,
            maximum: most,
        },
    )
    .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let directory = std::env::temp_dir().join(format!("greenroom-cost-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let path = directory.join("app.sock");
    let unix = UnixListener::bind(&path).unwrap();
    let tcp_address = at.to_string().parse().unwrap();
    let unix_address = format!("unix:{}", path.display()).parse().unwrap();
    let child = || Of::Children(Arc::new(AtomicU32::new(std::process::id())));
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .to_string()
        .parse()
        .unwrap();

    let mut kept = Vec::new();
    for connections in [0, 9_900] {
        while kept.len() < connections {
            let client = TcpStream::connect(at).unwrap();
            kept.push((client, listener.accept().unwrap().0));
        }
        println!("{connections} connections:");
        let costs = [
            cost("listen, nobody there", &mut Probe::listen(&free, child())).await,
            cost("listen, the child's own", &mut Probe::listen(&tcp_address, child())).await,
            cost(
                "listen, a stranger's (pid 1 is the child)",
                &mut Probe::listen(&tcp_address, Of::Children(Arc::new(AtomicU32::new(1)))),
            )
            .await,
            cost("listen, anyone's", &mut Probe::listen(&tcp_address, Of::Anyone)).await,
            cost(
                "listen, Unix socket, the child's own",
                &mut Probe::listen(&unix_address, child()),
            )
            .await,
        ];
        assert!(costs.iter().all(|&each| each <= Duration::from_micros(50)), "{costs:?}");
    }
    kept.clear();
    let mut pairs = Vec::new();
    for _ in 0..9_900 {
        let client = loop {
            match UnixStream::connect(&path) {
                Ok(client) => break client,
                Err(_) => drop(unix.accept().unwrap()),
            }
        };
        pairs.push((client, unix.accept().unwrap().0));
    }
    println!("9,900 Unix connections:");
    cost(
        "listen, Unix socket, the child's own",
        &mut Probe::listen(&unix_address, child()),
    )
    .await;
    std::fs::remove_dir_all(directory).unwrap();
}
