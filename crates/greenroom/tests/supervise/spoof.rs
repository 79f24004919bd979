//! Ways to speak in the backend's name, all of which must fail.
//!
//! | way | test |
//! |---|---|
//! | another process of the same user | `notify::ready_of_a_process_that_is_not_the_childs_is_ignored_said_once_and_counted` |
//! | a process of another user, there or gone | `notify::ready_of_another_user_is_ignored…`, `notify::of_a_sender_that_is_gone_the_user_decides` |
//! | a child of a second backend, or of a second greenroom | `several`, and `notify_wire` of the program |
//! | a process number used again | `notify::a_number_that_came_to_the_child_does_not_make_its_former_owner_believed` |
//! | what an earlier life has left behind | `notify::what_an_earlier_generation_left_behind_cannot_speak_for_the_next` |
//! | MAINPID of somebody else | `notify::a_main_pid_that_is_not_the_childs_is_not_believed` |
//! | a flood, a giant, descriptors by the thousand | `notify`, and `notify_wire` of the program |
//! | a link in the place of the socket | `notify_wire` of the program |
//! | the child's own socket, taken or handed over | here |
//! | a child of greenroom's that greenroom did not start | here |
//! | credentials of the child, forged | here |
//! | the folder listed, emptied, renamed or filled | here |
//! | the name taken in the abstract namespace | here |
//! | signs of life for a child that hangs, a cry for help for one that does not | here |
//! | wishes for more time | here |

use std::fs;
use std::os::fd::AsFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use super::helper::{Helper, need_root, send, until};

const NOTIFY: &str = "import os, signal, socket, sys, time
sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
sender.connect(os.environ['NOTIFY_SOCKET'])
notify = lambda text: sender.send(text.encode())
say = lambda *words: os.write(1, (' '.join(map(str, words)) + '\\n').encode())
";
const STAY: &str = "say('socket', sender.fileno(), os.environ['NOTIFY_SOCKET'])
while True: signal.pause()";

/// Says READY when it gets SIGHUP.
const WHEN_TOLD: &str = "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])
say('socket', sender.fileno(), os.environ['NOTIFY_SOCKET'])
signal.sigwait([signal.SIGHUP]); notify('READY=1')
while True: signal.pause()";

/// A Python child with a socket of its own; gives its number, that of the socket in it, and the path.
fn child(settings: &[&str], program: &str) -> (Helper, i32, i32, PathBuf) {
    let program = format!("{NOTIFY}{program}");
    let mut helper = Helper::new(&[settings, &["python3", "-c", &program]].concat(), &[], "");
    let pid = helper.spawn(1);
    let said = helper.expect("socket ");
    let (fd, path) = said.split_once(' ').unwrap();
    (helper, pid, fd.parse().unwrap(), path.into())
}

/// Waits until all that was said has been judged.
fn settled(helper: &mut Helper, ignored: u32) {
    until("all is judged", || {
        helper.order("counts");
        helper.expect("@counts ").ends_with(&format!("ignored={ignored}"))
    });
}

/// The kernel names who sends, not whose socket it is.
#[test]
fn who_sends_through_the_childs_own_socket_is_still_somebody_else() {
    need_root();
    let (mut helper, pid, fd, _) = child(&[], STAY);
    let process = pidfd_open(Pid::from_raw(pid).unwrap(), PidfdFlags::empty()).unwrap();
    let taken = pidfd_getfd(process.as_fd(), fd, PidfdGetfdFlags::empty()).unwrap();
    let socket = UnixDatagram::from(taken);
    socket.send(b"READY=1").unwrap();
    let said = helper.expect("@ignored 1 ");
    assert!(said.starts_with(&std::process::id().to_string()), "{said}");
    settled(&mut helper, 1);
    assert!(!helper.has("@notified"));
}

/// A child of greenroom's own process, but not of its making: it was there before.
#[test]
fn who_was_there_before_greenroom_is_no_process_of_the_child() {
    // The shell that becomes greenroom leaves one behind, which speaks when it is told the path.
    let file = std::env::temp_dir().join(format!("greenroom-spoof-{}", std::process::id()));
    let before = format!(
        "python3 -c \"import os, socket, time
while not os.path.exists('{f}'): time.sleep(0.01)
socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b'READY=1', open('{f}').read())
time.sleep(60)\" >/dev/null 2>&1 & echo before $!",
        f = file.display()
    );
    let program = format!("{NOTIFY}{STAY}");
    let mut helper = Helper::new(&["python3", "-c", &program], &[], &before);
    let outsider = helper.expect("before ");
    helper.spawn(1);
    let said = helper.expect("socket ");
    let path = said.split_once(' ').unwrap().1;
    fs::write(file.with_extension("new"), path).unwrap();
    fs::rename(file.with_extension("new"), &file).unwrap();
    let said = helper.expect("@ignored 1 ");
    assert_eq!(
        said,
        format!("{outsider} {} Foreign", rustix::process::getuid().as_raw())
    );
    settled(&mut helper, 1);
    fs::remove_file(file).unwrap();
    let outsider = Pid::from_raw(outsider.parse().unwrap()).unwrap();
    rustix::process::kill_process(outsider, rustix::process::Signal::KILL).unwrap();
}

/// What an unprivileged sender claims to be, the kernel does not pass on.
#[test]
fn credentials_are_not_forged_without_a_privilege() {
    need_root();
    let (mut helper, pid, _, path) = child(&[], STAY);
    let script = "import array, os, socket, struct, sys
sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
for claim in [(int(sys.argv[2]), 0, 0), (int(sys.argv[2]), 65534, 65534), (os.getpid(), 0, 0)]:
    try:
        sender.sendmsg([b'READY=1'], [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, struct.pack('3i', *claim))], 0, sys.argv[1])
        sys.exit(7)
    except PermissionError: pass
sender.sendto(b'READY=1', sys.argv[1])";
    assert!(as_nobody(&[
        "python3",
        "-c",
        script,
        path.to_str().unwrap(),
        &pid.to_string()
    ]));
    helper.expect("@ignored 1 ");
    settled(&mut helper, 1);
    assert!(!helper.has("@notified"));
}

/// Its name may be guessed, or read in the list of the place: that gives nobody anything.
#[test]
fn nobody_else_can_list_fill_empty_rename_or_replace_the_folder() {
    need_root();
    let (mut helper, _, _, path) = child(&[], WHEN_TOLD);
    let folder = path.parent().unwrap();
    let shell = |script: &str| {
        let words = [
            "sh",
            "-c",
            script,
            "sh",
            folder.to_str().unwrap(),
            path.to_str().unwrap(),
        ];
        as_nobody(&words)
    };
    for script in [
        "ls \"$1\"",
        "rm -f \"$2\"; test ! -e \"$2\"",
        "mv \"$1\" \"$1-mine\"",
        "rmdir \"$1\"",
        "touch \"$1/other\"",
        "ln -sf /dev/null \"$2\"",
        "chmod 777 \"$1\"",
        "mv /dev/null \"$2\"",
    ] {
        assert!(!shell(script), "{script}");
    }
    assert!(
        shell("test -S \"$2\""),
        "it may be written to: the child may have changed its user"
    );
    helper.order("forward HUP");
    helper.expect("@notified 1 ready=true");
}

#[test]
fn who_takes_the_name_in_the_abstract_namespace_hears_nothing_and_says_nothing() {
    let (mut helper, _, _, path) = child(&[], WHEN_TOLD);
    let name = path.to_str().unwrap();
    let squatters = [name, &name[1..]].map(|name| {
        let name = SocketAddr::from_abstract_name(name).unwrap();
        UnixDatagram::bind_addr(&name).unwrap()
    });
    helper.order("forward HUP");
    helper.expect("@notified 1 ready=true");
    for squatter in squatters {
        squatter.set_nonblocking(true).unwrap();
        assert!(squatter.recv(&mut [0; 64]).is_err());
        squatter.send_to(b"STOPPING=1", &path).unwrap(); // judged as anybody's word
    }
    settled(&mut helper, 2);
    assert!(!helper.has("@notified"));
}

/// Somebody else's signs of life keep nobody alive, and his cries for help end nobody.
#[test]
fn nobody_else_keeps_a_child_alive_or_has_it_ended() {
    let (mut helper, _, _, path) = child(&["watchdog_ms=700"], &format!("notify('READY=1')\n{STAY}"));
    for word in [
        "WATCHDOG=trigger",
        "ERRNO=5",
        "X_GREENROOM_PHASE=failed\nX_GREENROOM_REASON=lies",
        "STOPPING=1",
        "WATCHDOG_USEC=0",
        "WATCHDOG_USEC=3600000000",
        "EXTEND_TIMEOUT_USEC=3600000000",
        "WATCHDOG=1",
        "READY=1",
    ] {
        send(&path, word.as_bytes(), 0);
    }
    settled(&mut helper, 9);
    assert!(!helper.has("@watchdog 1 None"));
    helper.expect("@watchdog 1 Some(700ms)"); // as if nobody had said anything
    assert!(helper.expect("@notified 1 ").starts_with("ready=true"));
    assert!(!helper.has("@notified"), "the child's own, and no other");
}

#[test]
fn nobody_else_puts_off_its_end() {
    let program = format!("signal.signal(signal.SIGTERM, lambda *_: say('term'))\n{STAY}");
    let (mut helper, _, _, path) = child(&[], &program);
    helper.order("terminate 400");
    helper.expect("term");
    send(&path, b"EXTEND_TIMEOUT_USEC=3600000000", 0);
    assert_eq!(helper.expect("@terminated "), "killed=true left=0");
}

/// Runs a command as another user, without any privilege; whether it succeeded.
fn as_nobody(words: &[&str]) -> bool {
    Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"])
        .args(words)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin") // whose interpreter he may enter
        .current_dir(Path::new("/"))
        .stderr(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .status()
        .unwrap()
        .success()
}
