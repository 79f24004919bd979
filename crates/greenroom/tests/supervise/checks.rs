//! Commands of `exec` checks beside supervised children: each end comes to whoever asked.

use std::fs;
use std::io::Write;

use crate::helper::{Helper, kill, parent_of, until};

const LOOKS: u32 = 200;
/// Ends at once, with another code each time, and leaves an orphan now and then.
const CHECK: &str = "[ $(($1 % 10)) = 0 ] && (sleep 0 &); exit $(($1 % 5))";

fn all_verdicts_are_right(helper: &mut Helper) {
    helper.order(&format!("look {LOOKS}"));
    for number in 0..LOOKS {
        let expected = match number % 5 {
            0 => "Up".to_owned(),
            code => format!("Down(Exit({code}))"),
        };
        assert_eq!(helper.expect(&format!("@look {number} ")), format!("{expected}."));
    }
    helper.expect("@looked");
}

/// The child itself does nothing.
const IDLE: &[&str] = &["/bin/sh", "-c", "exec sleep 1000"];

#[test]
fn the_supervisor_takes_no_end_away_from_a_check() {
    let mut helper = Helper::new(IDLE, &[("SUPERVISE_CHECK", CHECK)], "");
    helper.spawn(1);
    all_verdicts_are_right(&mut helper);
    assert_eq!(helper.terminate(0), "killed=true left=0");
}

#[test]
fn nor_does_it_as_the_first_process_of_a_container() {
    // A user namespace goes with it, so that no root is needed.
    let first = "exec unshare --user --map-root-user --pid --fork --kill-child --mount-proc \
                 \"$0\" helper::helper --exact --nocapture";
    let mut helper = Helper::new(IDLE, &[("SUPERVISE_CHECK", CHECK)], first);
    helper.spawn(1);
    all_verdicts_are_right(&mut helper);
    assert_eq!(helper.terminate(0), "killed=true left=0");
}

#[test]
fn the_command_of_a_check_is_no_stray_of_a_child_and_outlives_its_sweep() {
    let folder = std::env::temp_dir().join(format!("greenroom-supervise-check-{}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir(&folder).unwrap();
    let (begun, gate) = (folder.join("begun"), folder.join("gate"));
    // Reads its own number, and ends when it may.
    let check = format!("echo $$ >{}; read line <{}; exit 4", begun.display(), gate.display());
    rustix::fs::mknodat(rustix::fs::CWD, &gate, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let mut helper = Helper::new(
        &["/bin/sh", "-c", "exec sleep 1000"],
        &[("SUPERVISE_CHECK", &check)],
        "",
    );
    let child = helper.spawn(1);
    helper.order("look_beside 1");
    until("the check has begun", || {
        fs::read_to_string(&begun).is_ok_and(|pid| pid.ends_with('\n'))
    });

    // Without its warden the child is lost, and who belongs to it is no longer known for sure.
    kill(parent_of(child));
    helper.expect("@ended 1 ");
    assert!(helper.terminate(1000).ends_with("left=0"));
    // For reading too, so that this does not wait for a reader who may be gone.
    let mut open = fs::File::options().read(true).write(true).open(&gate).unwrap();
    open.write_all(b"go\n").unwrap();
    assert_eq!(helper.expect("@look 0 "), "Down(Exit(4)).");
    fs::remove_dir_all(folder).unwrap();
}
