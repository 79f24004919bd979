//! The commands around the configuration, as a shell sees them: what they print, where,
//! and how they end.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn greenroom(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_greenroom"));
    let settings = std::env::vars_os().filter(|(name, _)| name.as_bytes().starts_with(b"GREENROOM"));
    settings.for_each(|(name, _)| {
        command.env_remove(name);
    });
    command.args(args).env_remove("PORT").stdin(Stdio::null());
    command
}

/// Exit code, standard output, standard error.
fn ran(command: &mut Command) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

/// A folder of this test alone, gone at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("greenroom-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().into()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const RIGHT: &str = "[backend.app.process]\ncommand = [\"sh\", \"-c\", \"exit 7\"]\nenv = { TOKEN = \"hunter2\" }\n";

#[test]
fn check_says_ok_or_all_that_is_wrong() {
    let folder = Folder::new("check");
    let right = folder.file("right.toml", RIGHT);
    let (code, out, err) = ran(&mut greenroom(&["check", &right]));
    assert_eq!(
        (code, out.as_str(), err.as_str()),
        (0, "ok: 1 listener, 1 backend (1 to start), 1 route\n", "")
    );

    let wrong = folder.file("wrong.toml", "grace = 1\nlog = 2\n");
    let (code, out, err) = ran(greenroom(&["check", &wrong]).env("GREENROOM__GRAZE", "1s"));
    assert_eq!((code, out.as_str()), (1, ""));
    for part in [
        "wrong.toml:1:9",
        "wrong.toml:2:1",
        "no backend",
        "GREENROOM__GRACE",
        "4 errors\n",
    ] {
        assert!(err.contains(part), "{part} is not in\n{err}");
    }
    assert!(!err.contains('\u{1b}'), "colours on something that is no terminal");

    let (code, _, err) = ran(&mut greenroom(&["check", "/no/such.toml"]));
    assert_eq!(
        (code, err.as_str()),
        (
            1,
            "error: cannot read /no/such.toml: No such file or directory (os error 2)\n\n1 error\n"
        )
    );
}

#[test]
fn explain_names_the_origin_and_toml_reads_back() {
    let folder = Folder::new("explain");
    let file = folder.file("a.toml", RIGHT);
    let (code, out, _) = ran(greenroom(&["check", &file, "--explain"]).env("GREENROOM__GRACE", "3s"));
    assert_eq!(code, 0);
    let grace = out.lines().find(|line| line.starts_with("grace ")).unwrap();
    assert!(grace.ends_with("environment GREENROOM__GRACE"), "{grace}");
    assert!(out.contains("TOKEN") && !out.contains("hunter2"), "{out}");

    let (_, hidden, _) = ran(&mut greenroom(&["check", &file, "--toml"]));
    // A comment that says what is missing, and no value that would pass for one.
    assert!(
        hidden.contains("\n# env.TOKEN = (hidden: --show-secrets)\n"),
        "{hidden}"
    );
    assert!(hidden.starts_with("# 1 value is left out"), "{hidden}");
    assert!(!hidden.contains("hunter2") && !hidden.contains("[hidden]"), "{hidden}");
    let (_, shown, _) = ran(&mut greenroom(&["check", &file, "--toml", "--show-secrets"]));
    assert!(shown.contains("hunter2"));
    let copy = folder.file("copy.toml", &shown);
    let (code, again, err) = ran(&mut greenroom(&["check", &copy, "--toml", "--show-secrets"]));
    assert_eq!((code, again), (0, shown), "{err}");
}

#[test]
fn what_is_right_and_may_not_be_meant_is_a_note() {
    let folder = Folder::new("notes");
    let file = folder.file(
        "a.toml",
        "[backend.app.process]\ncommand = [\"app\", \"--port\", \"{prot}\"]\ncwd = \"/no/such/folder\"\n\
         [[route]]\npath = \"/ws\"\n[[route]]\npath = \"/ws/\"\n",
    );
    let (code, _, err) = ran(greenroom(&["check", &file]).env("GREENROOM_GRACE", "3s"));
    assert_eq!(code, 0, "{err}");
    for said in [
        "note: the variable GREENROOM_GRACE is no setting",
        "did you mean {port}?",
        "\"--port\" chooses a port, and so does greenroom",
        "/no/such/folder is no folder on this machine",
        "the first takes what is below /ws/, the second /ws alone",
    ] {
        assert!(err.contains(said), "{said}: {err}");
    }
}

#[test]
fn run_and_serve_refuse_what_they_cannot_use_before_anything_is_started() {
    let folder = Folder::new("refuse");
    let witness = folder.0.join("started");
    let touch = format!(
        "[backend.app.process]\ncommand = [\"touch\", \"{}\"]\n",
        witness.display()
    );
    let process = folder.file("process.toml", &touch);
    let plain = folder.file("plain.toml", "[backend.app]\naddress = \"127.0.0.1:9\"\n");
    let wrong = folder.file("wrong.toml", &format!("{touch}\n[[route]]\nhold = \"refus\"\n"));
    for (args, said) in [
        (vec!["run", "--config", &wrong], "did you mean \"refuse\"?"),
        (vec!["run", "--config", &plain], "nothing to run"),
        (vec!["run", "--config", &process, "--", "true"], "two commands"),
        (vec!["run", "--config", &process, "--grace", "5"], "no unit"),
        (vec!["serve", "--config", &process], "greenroom run --config"),
        (vec!["serve", "--config", "/"], "a folder"),
    ] {
        let (code, _, err) = ran(&mut greenroom(&args));
        assert_eq!(code, 2, "{args:?}: {err}");
        assert!(err.contains(said), "{args:?}: {err}");
    }
    assert!(!witness.exists(), "a process was started");
}

#[test]
fn run_takes_a_file_and_ends_as_its_process_ends() {
    let folder = Folder::new("run");
    let file = folder.file(
        "a.toml",
        "[listener.main]\naddress = \"127.0.0.1:0\"\n[backend.app.process]\ncommand = [\"sh\", \"-c\", \"exit 7\"]\nrestart = \"always\"\n",
    );
    // The flag wins over the file: it is not started again.
    let (code, _, err) = ran(&mut greenroom(&["run", "--config", &file, "--restart", "never"]));
    assert_eq!(code, 7, "{err}");
}

#[test]
fn completions_and_manual_pages_are_there_for_each_command() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let (code, out, _) = ran(&mut greenroom(&["completions", shell]));
        assert_eq!(code, 0);
        for word in ["serve", "hold-timeout", "handshake", "completions"] {
            assert!(out.contains(word), "{shell} does not complete {word}");
        }
    }
    let folder = Folder::new("man");
    let (code, _, err) = ran(greenroom(&["man"]).arg(&folder.0));
    assert_eq!(code, 0, "{err}");
    let mut pages: Vec<_> = std::fs::read_dir(&folder.0)
        .unwrap()
        .map(|page| page.unwrap().path())
        .collect();
    pages.sort();
    let names: Vec<_> = pages
        .iter()
        .filter_map(|page| page.file_name().and_then(OsStr::to_str))
        .collect();
    assert_eq!(
        names,
        [
            "greenroom-audit.1",
            "greenroom-check.1",
            "greenroom-close.1",
            "greenroom-completions.1",
            "greenroom-demo.1",
            "greenroom-drain.1",
            "greenroom-events.1",
            "greenroom-hold.1",
            "greenroom-man.1",
            "greenroom-open.1",
            "greenroom-phase.1",
            "greenroom-ps.1",
            "greenroom-refuse.1",
            "greenroom-reload.1",
            "greenroom-run.1",
            "greenroom-schema.1",
            "greenroom-send.1",
            "greenroom-serve.1",
            "greenroom-show.1",
            "greenroom-status.1",
            "greenroom-why.1",
            "greenroom.1"
        ]
    );
    let run = std::fs::read_to_string(Path::new(&folder.0).join("greenroom-run.1")).unwrap();
    assert!(run.contains(".TH") && run.contains("hold\\-timeout"), "{run}");
}

#[test]
fn schema_prints_what_is_checked_in() {
    let (code, out, _) = ran(&mut greenroom(&["schema"]));
    assert_eq!(
        (code, out.as_str()),
        (0, include_str!("../../../docs/greenroom.schema.json"))
    );
}

#[test]
fn a_reader_that_has_seen_enough_is_no_fault() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = greenroom(&["schema"]).stdout(writer).output().unwrap();
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0));
}
