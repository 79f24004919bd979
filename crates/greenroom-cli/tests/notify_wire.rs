//! Attacks on the way READY comes: A21 to A23, A25 and A26, as seen through the program.
//!
//! CMD is this test program itself, told by `NOTIFY_WIRE_CHILD` to be the child:
//! it says what it was given on standard output, and does what it is told over a
//! connection of the test, line by line. PID reuse (A22) and senders that are gone are
//! tested in `supervise`, where the receiver can be held still.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::{
    fs,
    io::{BufRead as _, BufReader, IoSlice, Write as _},
    net::TcpStream,
    os::{
        fd::AsFd as _,
        unix::{fs::FileTypeExt as _, fs::PermissionsExt as _, net::UnixDatagram},
    },
    path::{Path, PathBuf},
};

use common::{
    Greenroom,
    raw::{SOON, Stub},
};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde_json::Value;

const CHILD: &str = "NOTIFY_WIRE_CHILD";

/// Not a test: the child, when it is one.
#[test]
fn child() {
    let Some(test) = std::env::var_os(CHILD) else { return };
    let mut test = TcpStream::connect(test.to_str().unwrap()).unwrap();
    let names: Vec<String> = std::env::vars().map(|(name, _)| name).collect();
    // Everything that is open but what this process opened by itself: its connection and the folder being read.
    let inherited: Vec<String> = fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| fs::read_link(entry.unwrap().path()).ok())
        .map(|target| target.display().to_string())
        .collect();
    let path = std::env::var("NOTIFY_SOCKET").unwrap();
    writeln!(
        test,
        "{}",
        serde_json::json!({ "names": names, "open": inherited, "notify": path })
    )
    .unwrap();
    let socket = UnixDatagram::unbound().unwrap();
    socket.connect(&path).unwrap();
    let (mut flooding, over) = (None, std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false)));
    for line in BufReader::new(test.try_clone().unwrap()).lines().map_while(Result::ok) {
        match line.as_str() {
            "symlink" => replace_by_link(Path::new(&path)),
            "grandchild" => grandchild(),
            "flood on" => {
                let (socket, over) = (socket.try_clone().unwrap(), over.clone());
                flooding = Some(std::thread::spawn(move || {
                    while !over.load(std::sync::atomic::Ordering::SeqCst) {
                        let _ = socket.send(b"STATUS=flood");
                    }
                }));
            }
            "flood off" => {
                over.store(true, std::sync::atomic::Ordering::SeqCst);
                flooding.take().unwrap().join().unwrap();
            }
            "flood" => {
                for number in 0..2_000 {
                    let _ = socket.send(format!("STATUS=flood {number}").as_bytes());
                }
            }
            "giant" => {
                let _ = socket.send(format!("READY=1\nSTATUS={}", "x".repeat(100_000)).as_bytes());
                let _ = socket.send(&[0xff; 4096]);
                let _ = socket.send(b"");
            }
            "descriptors" => descriptors(&socket),
            message => {
                socket.send(message.replace('|', "\n").as_bytes()).unwrap();
            }
        }
        writeln!(test, "done").unwrap();
    }
}

/// The socket's place is taken by a link to something dear.
fn replace_by_link(path: &Path) {
    let victim = path.parent().unwrap().with_extension("victim");
    fs::write(&victim, "kept").unwrap();
    fs::remove_file(path).unwrap();
    std::os::unix::fs::symlink(&victim, path).unwrap();
}

/// Says something from a process that stays: of one that is gone only the user would be known.
fn grandchild() {
    let script = "import os, socket, time\n\
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b'STATUS=grandchild', os.environ['NOTIFY_SOCKET'])\n\
        time.sleep(1000)";
    let shell = format!("python3 -c \"{script}\" & true");
    std::process::Command::new("sh").args(["-c", &shell]).status().unwrap();
}

/// Ten thousand descriptors, in fifty messages.
fn descriptors(socket: &UnixDatagram) {
    let file = fs::File::open("/dev/null").unwrap();
    let fds = [file.as_fd(); 200];
    for _ in 0..50 {
        let mut space = vec![std::mem::MaybeUninit::uninit(); 4096];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(&fds)));
        let text = IoSlice::new(b"STATUS=take these");
        sendmsg(socket, &[text], &mut ancillary, SendFlags::empty()).unwrap();
    }
}

/// `greenroom run` with such a child, and the line to it.
struct Run {
    greenroom: Greenroom,
    line: BufReader<TcpStream>,
    said: Value,
}

impl Run {
    fn start() -> Self {
        let stub = Stub::listen();
        let own = std::env::current_exe().unwrap();
        let args = ["run", "--listen", "127.0.0.1:0", "--ready", "notify", "--"];
        let child = [own.to_str().unwrap(), "--exact", "child", "--nocapture"];
        let mut command = Greenroom::command(&[&args[..], &child[..]].concat());
        command
            .env(CHILD, stub.address())
            .env("NOTIFY_SOCKET", "/nowhere/of/the/outer/manager")
            .env("WATCHDOG_USEC", "1000000")
            .env("WATCHDOG_PID", "1")
            .env("LISTEN_FDS", "1")
            .env("LISTEN_PID", "1")
            .env("LISTEN_FDNAMES", "x");
        let greenroom = Greenroom::spawn(&mut command);
        let mut line = BufReader::new(stub.accept().0);
        let mut said = String::new();
        line.read_line(&mut said).unwrap();
        let said = serde_json::from_str(&said).unwrap();
        Self { greenroom, line, said }
    }

    fn tell(&mut self, what: &str) {
        writeln!(self.line.get_mut(), "{what}").unwrap();
        let mut done = String::new();
        self.line.read_line(&mut done).unwrap();
        assert_eq!(done, "done\n");
    }

    fn socket(&self) -> PathBuf {
        self.said["notify"].as_str().unwrap().into()
    }

    /// Waits until the child's own words of this status were heard: all before them were, too.
    fn hears(&mut self, status: &str) {
        self.tell(&format!("STATUS={status}"));
        self.greenroom.wait_for(|event| event["status"] == status, SOON);
    }

    fn is_ready(&self) -> bool {
        self.greenroom.events().iter().any(|event| event["event"] == "ready")
    }

    fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.greenroom.pid()))
            .unwrap()
            .count()
    }
}

/// A21. Whoever is no descendant of CMD is not believed, though the socket is open to all.
#[test]
fn a21_ready_from_another_process_is_ignored() {
    let mut run = Run::start();
    let outsider = UnixDatagram::unbound().unwrap();
    for message in [
        "READY=1",
        "STATUS=from outside",
        "READY=1\nMAINPID=1",
        "X_GREENROOM_PHASE=complete",
    ] {
        outsider.send_to(message.as_bytes(), run.socket()).unwrap();
    }
    run.hears("from inside");
    assert!(!run.is_ready(), "{}", run.greenroom.stderr());
    let outside = |event: &Value| event["status"] == "from outside";
    assert!(!run.greenroom.events().iter().any(outside));
    run.tell("READY=1");
    run.greenroom.wait_for_event("ready", SOON);
}

/// A21. A process of another user is not believed, be it gone or not when its word is read.
#[test]
fn a21_ready_from_another_user_is_ignored() {
    assert!(
        rustix::process::geteuid().is_root(),
        "this test needs root: it sends as another user (nobody)"
    );
    let mut run = Run::start();
    let script = "import socket, sys\n\
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b'READY=1', sys.argv[1])\n\
        sys.stdin.read()";
    let mut sender = std::process::Command::new("setpriv");
    sender
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "python3", "-c", script])
        .arg(run.socket())
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin") // whose interpreter he may enter
        .stdin(std::process::Stdio::piped());
    let mut stays = sender.spawn().unwrap();
    run.greenroom
        .warns(&format!("process {} of user 65534", stays.id()), SOON);
    drop(stays.stdin.take());
    stays.wait().unwrap();
    let mut gone = sender.stdin(std::process::Stdio::null()).spawn().unwrap();
    gone.wait().unwrap();
    run.hears("from inside");
    assert!(!run.is_ready(), "{}", run.greenroom.stderr());
}

/// A21. What CMD started speaks for it, however far below; a greenroom beside this one does not.
#[test]
fn a21_a_grandchild_is_believed_and_the_child_of_another_greenroom_is_not() {
    let mut run = Run::start();
    run.tell("grandchild");
    run.greenroom.wait_for(|event| event["status"] == "grandchild", SOON);

    let script = "import os, socket, sys, time\n\
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b'READY=1', sys.argv[1])\n\
        time.sleep(1000)";
    let socket = run.socket();
    let args = ["run", "--listen", "127.0.0.1:0", "--", "python3", "-c", script];
    let _sibling = Greenroom::start(&[&args[..], &[socket.to_str().unwrap()]].concat());
    run.greenroom.warns("no process of the backend", SOON);
    run.hears("from inside");
    assert!(!run.is_ready(), "{}", run.greenroom.stderr());
}

/// A23. While a flood waits to be read greenroom serves as ever.
#[test]
fn a23_a_flood_does_not_keep_clients_waiting() {
    let mut run = Run::start();
    let address = run.greenroom.address();
    run.tell("flood on");
    run.greenroom.wait_for(
        |event| {
            event["message"]
                .as_str()
                .is_some_and(|text| text.contains("notifications came within a second"))
        },
        SOON,
    );
    let _held = common::wire::Wire::knock(&address);
    run.greenroom.wait_for_event("held", SOON);
    run.tell("flood off");
    run.tell("READY=1");
    run.greenroom.wait_for_event("ready", SOON);
}

/// A23. A flood, a giant and empty datagram, and thousands of descriptors: the child is still heard, and nothing is kept.
#[test]
fn a23_floods_giants_and_descriptors_do_no_harm() {
    let mut run = Run::start();
    run.hears("before");
    let before = run.descriptors();
    run.tell("giant");
    run.tell("descriptors");
    run.hears("after the descriptors");
    assert!(!run.is_ready(), "a message that was cut is none");
    let after = run.descriptors();
    assert!(after <= before + 1, "{before} descriptors before, {after} after");
    run.tell("flood");
    run.tell("READY=1|STATUS=at last");
    run.greenroom.wait_for_event("ready", SOON);
    assert!(run.descriptors() <= before + 1);
}

/// A25. A path, no abstract name: a socket of 0666 in a folder of 0711, both gone afterwards.
#[test]
fn a25_the_socket_has_a_path_of_its_own_and_is_removed() {
    let mut run = Run::start();
    let socket = run.socket();
    let folder = socket.parent().map(Path::to_owned).unwrap();
    let mode = |path: &Path| fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777;
    assert!(socket.is_absolute(), "{}", socket.display());
    assert!(fs::symlink_metadata(&socket).unwrap().file_type().is_socket());
    assert_eq!((mode(&folder), mode(&socket)), (0o711, 0o666));
    run.greenroom.signal(rustix::process::Signal::TERM);
    run.greenroom.wait_exit_code(SOON);
    assert!(!socket.exists() && !folder.exists(), "{}", folder.display());
}

/// A25. What was put in the place of the socket is neither followed nor removed.
#[test]
fn a25_a_link_in_the_place_of_the_socket_is_not_followed() {
    let mut run = Run::start();
    let socket = run.socket();
    let victim = socket.parent().unwrap().with_extension("victim");
    run.tell("symlink");
    run.greenroom.signal(rustix::process::Signal::TERM);
    run.greenroom.wait_exit_code(SOON);
    assert_eq!(fs::read_to_string(&victim).unwrap(), "kept");
    assert!(
        fs::symlink_metadata(&socket).unwrap().is_symlink(),
        "not ours to remove"
    );
    fs::remove_dir_all(socket.parent().unwrap()).unwrap();
    fs::remove_file(victim).unwrap();
}

/// A26. The child gets the three standard streams and nothing else that is open; the outer manager's variables are not its own.
#[test]
fn a26_the_child_inherits_no_descriptor_and_no_variable_of_ours() {
    let run = Run::start();
    let names: Vec<_> = run.said["names"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    for gone in [
        "WATCHDOG_USEC",
        "WATCHDOG_PID",
        "LISTEN_FDS",
        "LISTEN_PID",
        "LISTEN_FDNAMES",
    ] {
        assert!(!names.contains(&gone), "{gone} in {names:?}");
    }
    assert!(!run.socket().starts_with("/nowhere"));
    let open: Vec<_> = run.said["open"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let sockets = open.iter().filter(|target| target.starts_with("socket:")).count();
    assert_eq!(sockets, 1, "its own connection to this test and no other: {open:?}");
    for kind in ["anon_inode:", "pidfd"] {
        assert!(!open.iter().any(|target| target.contains(kind)), "{open:?}");
    }
}
