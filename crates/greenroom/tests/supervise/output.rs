//! Children whose output comes through greenroom, because something is looked for in it.

use std::fs::{self, File};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use super::helper::{Helper, until};
use super::terminal::{HELPER, JOB, session_of};

/// A path of the test's own.
fn path(name: &str) -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("greenroom-{name}-{}-{number}", std::process::id()))
}

/// A pipe with a name.
fn fifo() -> PathBuf {
    let path = path("fifo");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    path
}

/// Runs a shell script with its output looked through; `before` runs in the shell that becomes greenroom.
fn of(patterns: &[&str], script: &str, before: &str) -> Helper {
    let patterns: Vec<_> = patterns.iter().map(|pattern| format!("pattern={pattern}")).collect();
    let mut words: Vec<&str> = patterns.iter().map(String::as_str).collect();
    words.extend(["/bin/sh", "-c", script]);
    Helper::new(&words, &[], before)
}

#[test]
fn a_line_of_either_stream_is_found_once_in_each_life() {
    let script = "echo starting; echo Listening on 8000 >&2; echo listening on 8000; echo Listening again";
    let mut helper = of(&["^Listening", "^no such line$"], script, "");
    for life in [1, 2] {
        helper.spawn(life);
        helper.expect(&format!("@ended {life} 0"));
        helper.expect(&format!("@line {life} 0 Listening"));
        helper.terminate(0);
        helper.order("flush 10000");
        helper.expect("@flushed true");
        helper.expect("starting");
        helper.expect("Listening again");
        assert!(!helper.has("@line"));
    }
}

#[test]
fn the_output_is_passed_on_byte_for_byte_and_whole_at_the_end() {
    // All bytes, in pieces of all lengths, without an end of line at the end.
    let program = "import os, random
random.seed(7); total = 0
while total < 1 << 20:
    piece = random.randbytes(random.choice([1, 17, 4096, 70000])); total += len(piece)
    while piece: piece = piece[os.write(2, piece):]";
    let (through, direct) = (path("through"), path("direct"));
    let script = format!("exec python3 -c '{program}'");
    let run = |patterns: &[&str], to: &PathBuf| {
        let mut helper = of(patterns, &script, &format!("exec 2>{}", to.display()));
        helper.spawn(1);
        helper.expect("@ended 1 0");
        helper.terminate(0);
        helper.order("flush 10000");
        helper.expect("@flushed true");
        fs::read(to).unwrap()
    };
    let (through_us, as_it_is) = (run(&["never"], &through), run(&[], &direct));
    assert!(as_it_is.len() >= 1 << 20);
    assert!(
        through_us == as_it_is,
        "{} and {} bytes",
        through_us.len(),
        as_it_is.len()
    );
    fs::remove_file(through).unwrap();
    fs::remove_file(direct).unwrap();
}

#[test]
fn without_anything_to_look_for_the_child_has_our_own_output() {
    let script = "echo out $(readlink /proc/self/fd/1) $(readlink /proc/$$/fd/1)";
    let mut helper = Helper::of(script);
    helper.spawn(1);
    let theirs = helper.expect("out ");
    let ours = fs::read_link(format!("/proc/{}/fd/1", helper.pid())).unwrap();
    assert!(
        theirs.ends_with(ours.to_str().unwrap()),
        "{theirs} and {}",
        ours.display()
    );
}

#[test]
fn stdout_and_stderr_keep_their_order_where_they_are_one() {
    let script = "n=0; while [ $n -lt 200 ]; do echo in turn $n; echo in turn $n- >&2; n=$((n+1)); done; echo end";
    let mut helper = of(&["^end$"], script, "exec 2>&1");
    helper.spawn(1);
    for n in 0..200 {
        assert_eq!(helper.expect("in turn "), n.to_string());
        assert_eq!(helper.expect("in turn "), format!("{n}-"));
    }
}

/// F27, full: somebody holds our stderr open and does not read it.
#[test]
fn a_reader_that_stands_still_hides_no_line_and_makes_only_the_child_wait() {
    let full = fifo();
    // Nobody but the helper itself has it open, for reading too.
    let before = format!("exec 2<>{}", full.display());
    let program = "import os, signal, time
say = lambda *words: os.write(1, (' '.join(map(str, words)) + '\\n').encode())
total = os.write(2, b'\\n' * 150000) + os.write(2, b'ready\\n')
say('told')
os.set_blocking(2, False)
last = time.monotonic()
while time.monotonic() - last < 0.5:
    try: total += os.write(2, b'x' * 4096); last = time.monotonic()
    except BlockingIOError: time.sleep(0.01)
say('stuck', total)
signal.pause()";
    let mut helper = Helper::new(&["pattern=^ready$", "python3", "-c", program], &[], &before);
    helper.spawn(1);
    helper.expect("@line 1 0 ready");
    helper.expect("told"); // more than a pipe holds, and it went on
    let total: usize = helper.expect("stuck ").parse().unwrap();
    assert!(total < 1 << 20, "kept without a bound: {total}");
    assert_eq!(helper.terminate(10_000), "killed=false left=0");
    helper.order("flush 50");
    helper.expect("@flushed false"); // and greenroom can end
    fs::remove_file(full).unwrap();
}

/// F27, closed, and F26: nobody reads our stderr any more, or the disk is full.
#[test]
fn a_reader_that_is_gone_or_a_full_disk_ends_nobody_and_hides_no_line() {
    let closed = fifo();
    let reader = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(&closed)
        .unwrap();
    let script = "echo up; read go <&3; echo one >&2; echo two >&2; echo ready >&2; echo alive; exit 5";
    let go = fifo();
    let script = format!("exec 3<>{}; {script}", go.display());
    for (to, reader) in [(closed.to_str().unwrap(), Some(reader)), ("/dev/full", None)] {
        let mut helper = of(&["^ready$"], &script, &format!("exec 2>{to}"));
        helper.spawn(1);
        helper.expect("up");
        drop(reader);
        fs::write(&go, "go\n").unwrap();
        helper.expect("@line 1 0 ready");
        helper.expect("alive");
        assert_eq!(helper.expect("@ended 1 "), "5 interrupted=false", "{to}");
        helper.terminate(0);
    }
    fs::remove_file(closed).unwrap();
    fs::remove_file(go).unwrap();
}

#[test]
fn at_a_terminal_the_child_writes_to_one_and_all_else_is_as_without() {
    let program = "import os, signal
say = lambda *words: os.write(1, (' '.join(map(str, words)) + '\\n').encode()) # each line in one piece
say('tty', os.isatty(0), os.isatty(1), os.isatty(2), os.tcgetpgrp(0) == os.getpgrp())
signal.signal(signal.SIGWINCH, lambda *_: say('size', *os.get_terminal_size(1)))
say('\\x1b[1mup\\x1b[0m')
say('heard', input())
while True: signal.pause()";
    let mut session = session_of(HELPER, &["pattern=^up$", "python3", "-c", program]);
    let said = session.see("tty ");
    assert_eq!(said, "True True True True");
    session.see("@line 1 0 up");
    session.resize(33, 99);
    session.see("size 99 33");
    session.press(b"hello\n");
    assert_eq!(session.see("heard "), "hello");
    session.resize(11, 22);
    session.see("size 22 11");
    session.press(b"\x03");
    assert_eq!(session.see("@key 1 "), "Interrupt");
    session.see("@ended 1 ");
}

#[test]
fn at_a_terminal_its_size_at_the_start_is_ours_and_what_is_written_is_not_changed_twice() {
    let leader = format!("stty rows 44 cols 55; {HELPER}");
    let program = "import os; os.write(1, b'size %d %d\\n' % os.get_terminal_size(1)); os.write(1, b'tab\\tand\\rback\\ndone\\n')";
    let session = session_of(&leader, &["pattern=x", "python3", "-c", program]);
    session.see("size 55 44");
    session.see("done");
    // Lines end with what our own terminal makes of a newline, and with it once.
    assert!(!session.has("back\r"));
    assert_eq!(session.see("tab"), "and\rback");
}

#[test]
fn ctrl_z_and_fg_work_while_the_output_comes_through_us() {
    let child = [
        "pattern=got",
        "/bin/sh",
        "-c",
        "echo up; read line; echo got $line; read line",
    ];
    let mut session = session_of(JOB, &child);
    session.see("up");
    session.press(b"\x1a");
    session.see("@stopped 1 ");
    let code: i32 = session.see("the shell sees ").parse().unwrap();
    assert!(code > 128, "{code}");
    session.press(b"hello\n");
    session.see("@line 1 0 got hello");
    session.press(b"\n");
    session.see("@ended 1 ");
    assert_eq!(session.see("after fg "), "0");
}

#[test]
fn nothing_is_left_open_of_a_life_that_is_over() {
    let mut helper = of(&["never"], "echo up", "");
    let open = |helper: &Helper| fs::read_dir(format!("/proc/{}/fd", helper.pid())).unwrap().count();
    let mut before = None;
    for life in 1..5 {
        helper.spawn(life);
        helper.expect(&format!("@ended {life} 0"));
        helper.terminate(0);
        helper.order("flush 10000");
        helper.expect("@flushed true");
        let first = *before.get_or_insert(open(&helper));
        until("all is closed", || open(&helper) <= first);
    }
}
