//! The warden: a small process between greenroom and one child.
//!
//! ```text
//!  greenroom ──▶ warden ──▶ CMD ──▶ its workers      the process tree
//!       ▲          │ └────▶ what CMD made a daemon of
//!       └─reports──┘                  CMD's process group: CMD, workers, and the warden
//! ```
//!
//! It is this program once more, started from `/proc/self/exe` for each life of a
//! child (so also when the file was replaced meanwhile), and does four things:
//!
//! - *It is the parent.* It starts the child and waits for it, and says to greenroom
//!   that it started, stopped, continued, ended. As a subreaper it also takes in
//!   what the child leaves behind: whoever belongs to this life is below its warden,
//!   and nobody else is. Sweep, notify and probes go by that.
//! - *It hears the terminal.* It is a member of the child's group, and so it gets the
//!   SIGINT and SIGQUIT of Ctrl-C and Ctrl-\, and the SIGWINCH of a new size, that
//!   greenroom, in another group, does not. Only those that the kernel itself sent count: a child that signals its own
//!   group (`kill -INT 0`) is not the user.
//! - *It outlives greenroom by a moment.* When greenroom is gone, however it ended, the
//!   socket between them has an end: then the warden kills all that is below it,
//!   removes the notify folder, and goes.
//! - *It keeps the group's number.* While it is a member and not waited for, nobody
//!   else can get that number, so signals to the group cannot go astray.
//!
//! It holds no other descriptor of ours: no socket, no terminal. All signals are
//! blocked in it from before its exec on, so what is meant for the group does
//! not end it; greenroom ends it with KILL when it has swept. If it is killed by
//! somebody else, its child is killed with it (PDEATHSIG) and the rest comes to
//! greenroom. Its name does not hold "greenroom", so that `pkill -9 greenroom` leaves
//! it to do its duty. Its cost is one more exec before the child's own, and some
//! 300 KiB of memory beside the pages of the program file that it shares with us.
//! Nothing of READY passes through it.

mod guard;
mod guarded;
mod report;
pub(super) mod spec;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{self, Child};

use rustix::fs::MemfdFlags;

pub use guarded::Guarded;
pub(super) use report::{Report, read};
use spec::Spec;

/// How a program knows that it is called to be a warden: the numbers of two descriptors.
const CALL: &str = "GREENROOM_WARDEN";

/// How this program is called to be a warden, besides a variable in its environment.
///
/// A program that has a [`super::Supervisor`] calls [`main_if_called`] first of all;
/// then the default is right.
#[derive(Clone, Debug)]
pub struct Call {
    /// The name by which `ps` shows it.
    pub name: OsString,
    /// Arguments, for a program that comes to [`main_if_called`] by them only.
    pub args: Vec<OsString>,
    /// Variables, for the same. A warden sees no other.
    pub env: Vec<(OsString, OsString)>,
}

impl Default for Call {
    fn default() -> Self {
        Self {
            name: "room-warden".into(),
            args: Vec::new(),
            env: Vec::new(),
        }
    }
}

/// Is a warden, if this process was started to be one, and gives its exit code at
/// the end. The first act of a program that supervises.
#[must_use]
pub fn main_if_called() -> Option<u8> {
    std::env::var_os(CALL).map(|call| guard::main(&call))
}

/// Starts a warden for what `spec` describes. It runs when this returns; what
/// became of its child it reports. `output` is the child's stdout and stderr; `None`:
/// they are our own. Only the supervisor's thread may call this.
pub(super) fn start(call: &Call, spec: &Spec, output: Option<[OwnedFd; 2]>) -> io::Result<(Child, UnixStream)> {
    let (ours, theirs) = UnixStream::pair()?; // both close-on-exec
    let told = File::from(rustix::fs::memfd_create("greenroom-spec", MemfdFlags::CLOEXEC)?);
    (&told).write_all(&spec.encode())?;
    let told = OwnedFd::from(told);
    let mut warden = process::Command::new("/proc/self/exe");
    warden.arg0(&call.name).args(&call.args).env_clear();
    warden.envs(call.env.iter().map(|(name, value)| (name, value)));
    let kept = [theirs.as_raw_fd(), told.as_raw_fd()];
    if let Some([stdout, stderr]) = output {
        warden.stdout(stdout).stderr(stderr); // the child inherits them, and the warden lets go
    }
    warden.env(CALL, format!("{},{}", kept[0], kept[1]));
    guard::prepare(&mut warden, kept);
    let child = warden.spawn()?;
    ours.set_nonblocking(true)?;
    Ok((child, ours))
}
