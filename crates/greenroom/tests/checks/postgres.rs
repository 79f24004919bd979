//! A real PostgreSQL: starting up, in recovery, promoted, gone; and each way to log in.

use std::io::Write;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use greenroom::config::Address;
use greenroom::probe::{Note, Probe, Said, Verdict, Why};
use rustix::process::Signal;

use crate::servers::{Folder, Server, UP, becomes, secret};

/// PostgreSQL refuses to run as root; this is `nobody` on every Linux.
const NOBODY: u32 = 65534;

/// Where Debian keeps the server's programs, else PATH.
fn program(name: &str) -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let debian = versions.map(|version| version.unwrap().path().join("bin").join(name));
    debian
        .filter(|path| path.is_file())
        .max()
        .unwrap_or_else(|| name.into())
}

fn command(name: &str) -> Command {
    let mut command = Command::new(program(name));
    if rustix::process::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command.current_dir("/").stdout(Stdio::null()).stderr(Stdio::null());
    command
}

struct Cluster {
    folder: Folder,
}

impl Cluster {
    /// A new one, with these lines of configuration.
    fn new(config: &str) -> Self {
        let folder = Folder::new();
        if rustix::process::geteuid().is_root() {
            chown(folder.path(""), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let cluster = Self { folder };
        let mut initdb = command("initdb");
        initdb.arg("-D").arg(cluster.data()).args([
            "-U",
            "trusty",
            "-A",
            "trust",
            "--no-sync",
            "--locale=C",
            "-E",
            "UTF8",
        ]);
        let made = initdb.stderr(Stdio::piped()).output();
        let made =
            made.unwrap_or_else(|error| panic!("initdb of PostgreSQL, which `cargo xtask setup` installs: {error}"));
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let sockets = cluster.folder.path("").display().to_string();
        cluster.append("postgresql.conf", &format!(
            "listen_addresses = ''\nunix_socket_directories = '{sockets}'\nfsync = off\nshared_buffers = 8MB\n{config}\n"
        ));
        cluster
    }

    fn data(&self) -> PathBuf {
        self.folder.path("data")
    }

    fn append(&self, file: &str, text: &str) {
        let mut options = std::fs::File::options();
        let mut file = options.append(true).create(true).open(self.data().join(file)).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    /// Runs SQL, a statement in a line, while no server runs.
    fn single(&self, sql: &str) {
        let mut postgres = command("postgres");
        postgres
            .arg("--single")
            .arg("-D")
            .arg(self.data())
            .args(["-c", "exit_on_error=on", "postgres"]);
        let mut child = postgres.stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(sql.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
    }

    fn start(&self) -> Server {
        // QUIT ends all its processes at once.
        Server::start_to_end_by(Signal::QUIT, command("postgres").arg("-D").arg(self.data()))
    }

    fn address(&self) -> Address {
        self.folder.socket(".s.PGSQL.5432")
    }

    fn probe(&self, user: &str, password: Option<&str>) -> Probe {
        Probe::postgres(&self.address(), user, "postgres", password.map(secret).as_ref(), false)
    }
}

fn touch(path: &Path) {
    std::fs::write(path, "").unwrap();
}

#[tokio::test]
async fn postgres_is_down_while_it_starts_up_and_in_recovery_unless_that_is_allowed() {
    // A standby whose first look into the archive takes until the gate is there: so long it starts up.
    let open = Folder::new();
    let gate = open.path("gate");
    let restore = format!("while [ ! -e {} ]; do sleep 0.05; done; false", gate.display());
    let cluster = Cluster::new(&format!(
        "hot_standby = on\nwal_retrieve_retry_interval = 100ms\nrestore_command = '{restore}'"
    ));
    touch(&cluster.data().join("standby.signal"));
    let probe = || cluster.probe("trusty", None);
    let any = || Probe::postgres(&cluster.address(), "trusty", "postgres", None, true);
    assert_eq!(probe().once().await, Verdict::Down(Why::NoSocketFile));

    let server = cluster.start();
    becomes(probe(), Verdict::Down(Why::NotNow)).await;
    assert_eq!(
        any().once().await,
        Verdict::Down(Why::NotNow),
        "it stays, whatever is allowed"
    );
    touch(&gate);
    let (_, before) = becomes(probe(), Verdict::Down(Why::InRecovery)).await;
    assert!(
        before.iter().all(|verdict| *verdict == Verdict::Down(Why::NotNow)),
        "{before:?}"
    );
    assert_eq!(any().once().await, UP);

    let promoted = command("pg_ctl")
        .arg("promote")
        .arg("-D")
        .arg(cluster.data())
        .status()
        .unwrap();
    assert!(promoted.success());
    let (_, before) = becomes(probe(), UP).await;
    assert!(
        before.iter().all(|verdict| *verdict == Verdict::Down(Why::InRecovery)),
        "{before:?}"
    );
    server.end();
    let gone = probe().once().await;
    assert!(
        matches!(gone, Verdict::Down(Why::NoSocketFile | Why::Refused)),
        "{gone:?}"
    );
}

#[tokio::test]
async fn postgres_that_lets_no_client_in_during_recovery_is_starting_up_for_ever() {
    let cluster = Cluster::new("hot_standby = off\nrestore_command = 'false'");
    touch(&cluster.data().join("standby.signal"));
    let _server = cluster.start();
    becomes(cluster.probe("trusty", None), Verdict::Down(Why::NotNow)).await;
}

#[tokio::test]
async fn each_login_of_postgres_works_and_each_refusal_is_named() {
    let cluster = Cluster::new("");
    let roles = ["clear", "hashed", "scram"].map(|role| {
        let encryption = if role == "hashed" { "md5" } else { "scram-sha-256" };
        format!("SET password_encryption = '{encryption}'\nCREATE ROLE {role} LOGIN PASSWORD 'sword,fish='\n")
    });
    cluster.single(&roles.concat());
    std::fs::write(
        cluster.data().join("pg_hba.conf"),
        "local all trusty trust\nlocal all clear password\nlocal all hashed md5\nlocal all scram scram-sha-256\n",
    )
    .unwrap();
    let _server = cluster.start();
    becomes(cluster.probe("trusty", None), UP).await;

    for role in ["clear", "hashed", "scram"] {
        let mut right = cluster.probe(role, Some("sword,fish="));
        for look in [right.look().await, right.look().await] {
            assert!(look.verdict == UP && look.note.is_none(), "{role}: {look:?}");
        }
        let mut wrong = cluster.probe(role, Some("tuna"));
        assert_eq!(wrong.once().await, Verdict::Down(Why::Login), "{role}");
        let mut none = cluster.probe(role, None);
        let look = none.look().await;
        assert!(
            look.verdict == UP && matches!(look.note, Some(Note::RecoveryUnseen)),
            "{role}: {look:?}"
        );
        assert!(none.look().await.note.is_none(), "said once");
    }
    let unknown = |user: &str, database: &str| Probe::postgres(&cluster.address(), user, database, None, false);
    let refused = |code: &[u8]| Verdict::Down(Why::Postgres(Said::new(code)));
    assert_eq!(unknown("trusty", "nowhere").once().await, refused(b"3D000"));
    assert_eq!(
        unknown("stranger", "postgres").once().await,
        refused(b"28000"),
        "no line for him"
    );
}
