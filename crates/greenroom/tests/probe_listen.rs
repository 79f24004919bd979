//! `listen` and "CMD listens elsewhere", with real processes: whose listener
//! counts, and that nothing but a listener does.
//!
//! The children are this test program itself (see [`child_main`]), told over
//! stdin what to do, so that nothing but a shell is needed.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests, which may")]

use std::io::{BufRead, BufReader, Lines, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use greenroom::config::Address;
use greenroom::probe::{Of, Place, Probe, Verdict, Why, elsewhere, watch};
use socket2::{Domain, Socket, Type};
use tokio::sync::{Mutex, Notify, mpsc};

const UP: Verdict = Verdict::Up;

/// One test at a time: the children of another would be taken for what left the
/// child, and between fork and exec they have all sockets of this process.
static ALONE: Mutex<()> = Mutex::const_new(());

fn tcp(text: &str, reuse: bool) -> TcpListener {
    let at: SocketAddr = text.parse().unwrap();
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, None).unwrap();
    socket.set_reuse_port(reuse).unwrap();
    socket.bind(&at.into()).unwrap();
    socket.listen(16).unwrap();
    socket.into()
}

/// Set for the children of the tests.
const CHILD: &str = "PROBE_LISTEN_CHILD";

/// What a child does: obeys stdin, answers with lines that begin with `@`.
#[test]
fn child_main() {
    if std::env::var_os(CHILD).is_none() {
        return; // run as a test of its own: there is nobody to obey
    }
    let (mut listeners, mut unix) = (Vec::new(), Vec::new());
    println!("\n@{}", std::process::id());
    for line in std::io::stdin().lines() {
        let line = line.unwrap();
        match line.split_once(' ') {
            Some(("tcp", at)) => listeners.push(tcp(at, false)),
            Some(("reuse", at)) => listeners.push(tcp(at, true)),
            Some(("unix", path)) => unix.push(UnixListener::bind(path).unwrap()),
            _ => {
                listeners.clear();
                unix.clear();
            }
        }
        match listeners.last() {
            Some(listener) => println!("@{}", listener.local_addr().unwrap()),
            None => println!("@-"),
        }
    }
}

/// A child that obeys. Ends with its stdin, and is killed when dropped.
struct Obeying {
    process: Child,
    stdin: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
    /// The process that listens; the child itself or below it.
    listens: u32,
}

impl Obeying {
    fn start() -> Self {
        Self::through(None)
    }

    /// Behind a shell script that starts `"$0" "$@"`.
    fn through(script: Option<&str>) -> Self {
        let own = std::env::current_exe().unwrap();
        let mut command = match script {
            None => Command::new(&own),
            Some(script) => {
                let mut command = Command::new("/bin/sh");
                command.args(["-c", script]).arg(&own);
                command
            }
        };
        command.args(["--exact", "child_main", "--nocapture"]).env(CHILD, "1");
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null()) // it may end while it writes
            .spawn().unwrap();
        let mut child = Self {
            stdin: process.stdin.take(),
            lines: BufReader::new(process.stdout.take().unwrap()).lines(),
            process,
            listens: 0,
        };
        child.listens = child.answer().parse().unwrap();
        child
    }

    fn answer(&mut self) -> String {
        self.lines
            .find_map(|line| Some(line.unwrap().strip_prefix('@')?.to_owned()))
            .unwrap()
    }

    fn tell(&mut self, line: &str) -> String {
        writeln!(self.stdin.as_ref().unwrap(), "{line}").unwrap();
        self.answer()
    }

    /// Its probe: of the process that was started, not of the one that listens.
    fn of(&self) -> Of {
        Of::Children(Arc::new(AtomicU32::new(self.process.id())))
    }
}

impl Drop for Obeying {
    fn drop(&mut self) {
        self.stdin = None;
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn socket_path() -> PathBuf {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let directory = std::env::temp_dir().join(format!("greenroom-probe-{}-{count}", std::process::id()));
    let _ = std::fs::remove_dir_all(&directory);
    std::fs::create_dir(&directory).unwrap();
    directory.join("app.sock")
}

fn address(text: &str) -> Address {
    text.parse().unwrap()
}

#[tokio::test]
async fn a_childs_own_listener_is_up_for_as_long_as_it_listens() {
    let _alone = ALONE.lock().await;
    let mut child = Obeying::start();
    for bind in ["127.0.0.1:0", "0.0.0.0:0", "[::]:0"] {
        let at: SocketAddr = child.tell(&format!("tcp {bind}")).parse().unwrap();
        let mut probe = Probe::listen(&address(&format!("127.0.0.1:{}", at.port())), child.of());
        assert_eq!(probe.once().await, UP, "{bind}");
        assert_eq!(probe.once().await, UP, "{bind}, known by now");
        child.tell("close");
        assert_eq!(probe.once().await, Verdict::Down(Why::NobodyListens), "{bind}");
    }
}

#[tokio::test]
async fn a_listener_on_another_address_of_the_machine_does_not_count() {
    let _alone = ALONE.lock().await;
    let listener = tcp("127.0.0.2:0", false);
    let port = listener.local_addr().unwrap().port();
    let mut probe = Probe::listen(&address(&format!("127.0.0.1:{port}")), Of::Anyone);
    assert_eq!(probe.once().await, Verdict::Down(Why::NobodyListens));
}

#[tokio::test]
async fn a_strangers_listener_does_not_count() {
    let _alone = ALONE.lock().await;
    let child = Obeying::start();
    let stranger = tcp("127.0.0.1:0", false);
    let at = address(&stranger.local_addr().unwrap().to_string());
    let mut probe = Probe::listen(&at, child.of());
    assert_eq!(probe.once().await, Verdict::Down(Why::NotOurs));
    assert_eq!(probe.once().await, Verdict::Down(Why::NotOurs), "known by now");
    assert_eq!(Probe::listen(&at, Of::Anyone).once().await, UP);
}

#[tokio::test]
async fn without_a_child_nothing_counts() {
    let _alone = ALONE.lock().await;
    let stranger = tcp("127.0.0.1:0", false);
    let at = address(&stranger.local_addr().unwrap().to_string());
    let none = Of::Children(Arc::new(AtomicU32::new(0)));
    assert_eq!(Probe::listen(&at, none).once().await, Verdict::Down(Why::NoChild));
}

#[tokio::test]
async fn a_grandchilds_listener_counts() {
    let _alone = ALONE.lock().await;
    let mut child = Obeying::through(Some("\"$0\" \"$@\"; true"));
    assert_ne!(child.listens, child.process.id());
    let at = child.tell("tcp 127.0.0.1:0");
    assert_eq!(Probe::listen(&address(&at), child.of()).once().await, UP);
}

/// Starts the server as a daemon does: its parent ends, and the subreaper gets it.
const DAEMON: &str = "exec 3<&0; (\"$0\" \"$@\" <&3 &); exec sleep 1000";

fn parent_and_start(pid: u32) -> (u32, u64) {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    (fields[1].parse().unwrap(), fields[19].parse().unwrap())
}

#[tokio::test]
async fn a_daemon_of_the_child_counts_and_one_of_an_earlier_child_does_not() {
    let _alone = ALONE.lock().await;
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).unwrap();
    let mut first = Obeying::through(Some(DAEMON));
    let (_, orphan_started) = loop {
        let (parent, started) = parent_and_start(first.listens);
        if parent == std::process::id() {
            break (parent, started); // its own parent has ended
        }
        tokio::task::yield_now().await;
    };
    let at = address(&first.tell("tcp 127.0.0.1:0"));
    let pid = Arc::new(AtomicU32::new(first.process.id()));
    let mut probe = Probe::listen(&at, Of::Children(Arc::clone(&pid)));
    assert_eq!(probe.once().await, UP);

    // The kernel counts starts in ticks of 10 ms: a next child of the same tick would tell nothing.
    let second = loop {
        let second = Obeying::start();
        if parent_and_start(second.process.id()).1 > orphan_started {
            break second;
        }
    };
    pid.store(second.process.id(), Ordering::Release);
    assert_eq!(
        probe.once().await,
        Verdict::Down(Why::NotOurs),
        "what was known was the earlier child's"
    );
}

#[tokio::test]
async fn a_port_shared_with_a_stranger_counts_while_the_child_shares_it() {
    let _alone = ALONE.lock().await;
    let mut child = Obeying::start();
    let strangers = tcp("127.0.0.1:0", true);
    let at = strangers.local_addr().unwrap().to_string();
    let more: Vec<TcpListener> = (0..8).map(|_| tcp(&at, true)).collect();
    child.tell(&format!("reuse {at}"));
    assert_eq!(Probe::listen(&address(&at), child.of()).once().await, UP);
    drop(more);
    child.tell("close");
    assert_eq!(
        Probe::listen(&address(&at), child.of()).once().await,
        Verdict::Down(Why::NotOurs)
    );
}

#[tokio::test]
async fn a_listener_bound_to_a_device_is_found_within_ten_looks() {
    let _alone = ALONE.lock().await;
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    if socket.bind_device(Some(b"lo")).is_err() {
        return; // kernels before 5.7 ask for a privilege
    }
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket.listen(1).unwrap();
    let at = socket.local_addr().unwrap().as_socket().unwrap();
    let mut probe = Probe::listen(&address(&at.to_string()), Of::Anyone);
    let mut up = 0;
    for _ in 0..10 {
        up += usize::from(probe.once().await == UP);
    }
    assert!(up >= 1);
}

#[tokio::test]
async fn a_unix_socket_is_up_when_the_child_listens_there_and_not_by_its_file() {
    let _alone = ALONE.lock().await;
    let path = socket_path();
    let at = address(&format!("unix:{}", path.display()));
    let mut child = Obeying::start();
    let mut probe = Probe::listen(&at, child.of());
    assert_eq!(probe.once().await, Verdict::Down(Why::NoSocketFile));

    std::fs::write(&path, "").unwrap();
    assert_eq!(probe.once().await, Verdict::Down(Why::NotASocket));
    std::fs::remove_file(&path).unwrap();

    drop(UnixListener::bind(&path).unwrap());
    assert_eq!(probe.once().await, Verdict::Down(Why::NobodyListens), "left by a crash");
    std::fs::remove_file(&path).unwrap();

    let bound = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    bound.bind(&socket2::SockAddr::unix(&path).unwrap()).unwrap();
    assert_eq!(
        probe.once().await,
        Verdict::Down(Why::NobodyListens),
        "bound, not listening"
    );
    bound.listen(1).unwrap();
    assert_eq!(probe.once().await, Verdict::Down(Why::NotOurs));
    assert_eq!(Probe::listen(&at, Of::Anyone).once().await, UP);
    std::fs::remove_file(&path).unwrap();

    // The stranger still listens, on a file that is gone.
    let file_only = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    file_only.bind(&socket2::SockAddr::unix(&path).unwrap()).unwrap();
    assert_eq!(
        Probe::listen(&at, Of::Anyone).once().await,
        Verdict::Down(Why::NobodyListens)
    );
    std::fs::remove_file(&path).unwrap();

    child.tell(&format!("unix {}", path.display()));
    assert_eq!(probe.once().await, UP);
    assert_eq!(probe.once().await, UP, "known by now");
    std::fs::remove_file(&path).unwrap();
    file_only.listen(1).unwrap(); // on a file that is gone
    let next = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    next.bind(&socket2::SockAddr::unix(&path).unwrap()).unwrap();
    assert_eq!(
        probe.once().await,
        Verdict::Down(Why::NobodyListens),
        "bound anew, perhaps with the same inode"
    );
    std::fs::remove_file(&path).unwrap();

    child.tell(&format!("unix {}", path.display()));
    assert_eq!(probe.once().await, UP);
    child.tell("close");
    assert_eq!(probe.once().await, Verdict::Down(Why::NobodyListens));
    std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
}

#[tokio::test]
async fn a_socket_file_that_appears_wakes_the_look() {
    let _alone = ALONE.lock().await;
    let path = socket_path();
    let directory = path.parent().unwrap().to_owned();
    let at = address(&format!("unix:{}", path.display()));
    let (tell, mut looks) = mpsc::unbounded_channel();
    let nudge = Notify::new();
    let hour = Duration::from_secs(3600);
    let watching = watch(Probe::listen(&at, Of::Anyone), hour, &nudge, |look| {
        tell.send(look.verdict).unwrap();
    });
    let story = async {
        assert_eq!(looks.recv().await, Some(Verdict::Down(Why::NoSocketFile)));
        std::fs::write(directory.join("another.file"), "").unwrap(); // wakes nobody
        let other = directory.join("app.tmp");
        let _listener = UnixListener::bind(&other).unwrap();
        std::fs::rename(&other, &path).unwrap();
        assert_eq!(looks.recv().await, Some(UP));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(looks.recv().await, Some(Verdict::Down(Why::NoSocketFile)));
        std::fs::remove_dir_all(&directory).unwrap(); // wakes once, and must not spin
        std::fs::create_dir(&directory).unwrap();
    };
    let story = tokio::time::timeout(Duration::from_secs(20), story);
    tokio::select! {
        _ = watching => {}
        done = story => done.unwrap(),
    }
    std::fs::remove_dir_all(&directory).unwrap();
}

#[tokio::test]
async fn where_the_childs_family_listens_is_seen() {
    let _alone = ALONE.lock().await;
    let path = socket_path();
    let mut child = Obeying::through(Some("\"$0\" \"$@\"; true"));
    assert_eq!(elsewhere(child.process.id()).await, []);
    let one: SocketAddr = child.tell("tcp 127.0.0.1:0").parse().unwrap();
    let any: SocketAddr = child.tell("tcp [::]:0").parse().unwrap();
    child.tell(&format!("unix {}", path.display()));
    let _stranger = tcp("127.0.0.1:0", false);
    let seen = elsewhere(child.process.id()).await;
    assert_eq!(seen, [Place::Tcp(one), Place::Tcp(any), Place::Unix(path.clone())]);
    assert_eq!(seen[1].to_string(), format!("127.0.0.1:{}", any.port()));
    std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
}
