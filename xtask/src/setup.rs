//! Installs what the end-to-end tests need: pinned Python and Node packages, below `target/e2e`.
//!
//! Works on a fresh Debian machine with only Rust, as root: a missing Python, Node,
//! Chromium, Firefox, PostgreSQL or Redis comes from the system's packages. Without root it says what to install. A
//! stamp holds what was installed, word for word, so that a second run does nothing. A
//! download that fails is tried once more; then it is an error, never a skipped test.
//!
//! The system's packages are not pinned to a version: Debian keeps only the newest of
//! each, so a pinned one would be gone with the next security update. What is there is
//! run instead, and its major version must be one that the tests can use.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    root,
    steps::{output, run},
    target_dir,
};

/// The clients use `asyncio.timeout`; Debian splits venv off into a package of its own.
const PYTHON_CHECK: &str = "import sys, venv, ensurepip; assert sys.version_info >= (3, 11)";
/// Vite and the clients' `fetch` and `FormData` need it; Debian 12 has 18.
const NODE_MAJOR_MIN: u32 = 18;
/// Where `--headless=new` is the browser that people have, and not another one.
const CHROMIUM_MAJOR_MIN: u32 = 120;
/// Debian's is the one with long support; older ones get no more of it.
const FIREFOX_MAJOR_MIN: u32 = 128;

/// What the notify tests' C program, and Node's `sd-notify`, are compiled with.
const LIBSYSTEMD: &str = "/usr/include/systemd/sd-daemon.h";
/// The one package that is compiled here: it wraps libsystemd.
const COMPILED: &str = "sd-notify";

/// `cargo xtask setup`.
pub(crate) fn setup() -> Result<(), String> {
    let (from, to) = (root().join("tests/e2e"), target_dir().join("e2e"));
    let wanted = wanted(&from)?;
    let stamp = to.join("stamp");
    if is_current(&to, &wanted) {
        println!("    {} is up to date", to.display());
        return Ok(());
    }
    install_missing()?;
    let missing = missing();
    if !missing.is_empty() {
        return Err(format!(
            "still missing, or too old, after the installation: {}",
            missing.join(" ")
        ));
    }
    let python = python().ok_or("python3 (3.11 or newer, with venv) is still missing after its installation")?;
    fs::create_dir_all(to.join("node")).map_err(|e| format!("cannot create {}: {e}", to.display()))?;
    // From here until the new stamp the folder is half done, and must not look finished.
    let _ = fs::remove_file(&stamp);
    install_python(&python, &from, &to)?;
    install_node(&from, &to)?;
    install_promtool(&to)?;
    fs::write(&stamp, wanted).map_err(|e| format!("cannot write {}: {e}", stamp.display()))?;
    println!("    installed into {}", to.display());
    Ok(())
}

/// What the stamp must say: the files that decide what is installed, and where (a venv cannot be moved).
fn wanted(from: &Path) -> Result<String, String> {
    let read = |name: &str| {
        let path = from.join(name);
        fs::read_to_string(&path).map_err(|e| format!("cannot read {}: {e}", path.display()))
    };
    Ok(format!(
        "{}\n{}\n{}\n{}",
        target_dir().display(),
        read("requirements.txt")?,
        read("package.json")?,
        read("package-lock.json")?
    ))
}

/// The stamp fits, and what it speaks of runs: an interpreter can be gone after an update of the system.
fn is_current(to: &Path, wanted: &str) -> bool {
    fs::read_to_string(to.join("stamp")).is_ok_and(|found| found == wanted)
        && output(Command::new(to.join("venv/bin/python")).args(["-c", "import websockets"])).is_some()
        && to.join("node/node_modules/ws/package.json").is_file()
        && to
            .join("node/node_modules")
            .join(COMPILED)
            .join("build/Release/notify.node")
            .is_file()
        && promtool(to).is_some()
        && missing().is_empty()
}

/// A Python that can make a venv. The system's own first: everybody may read it,
/// as the worker of a server that changes its user must.
fn python() -> Option<PathBuf> {
    ["/usr/bin/python3", "python3"]
        .into_iter()
        .map(PathBuf::from)
        .find(|python| output(Command::new(python).args(["-c", PYTHON_CHECK])).is_some())
}

/// The system's packages that are missing, named as Debian names them.
fn missing() -> Vec<&'static str> {
    let mut packages = Vec::new();
    if python().is_none() {
        packages.extend(["python3", "python3-venv"]);
    }
    // npm comes with the Node that it belongs to, and is bound to no version by the tests.
    for (program, package, least) in [
        ("node", "nodejs", NODE_MAJOR_MIN),
        ("npm", "npm", 0),
        ("chromium", "chromium", CHROMIUM_MAJOR_MIN),
        ("firefox-esr", "firefox-esr", FIREFOX_MAJOR_MIN),
    ] {
        let version = output(Command::new(program).arg("--version"));
        if version.is_none_or(|text| major(&text).is_none_or(|major| major < least)) {
            packages.push(package);
        }
    }
    if postgres().is_none() {
        packages.push("postgresql");
    }
    if output(Command::new("redis-server").arg("--version")).is_none() {
        packages.push("redis-server");
    }
    for (program, package) in [("cc", "gcc"), ("c++", "g++"), ("make", "make")] {
        if output(Command::new(program).arg("--version")).is_none() {
            packages.push(package);
        }
    }
    if !Path::new(LIBSYSTEMD).is_file() {
        packages.push("libsystemd-dev");
    }
    // Asked of Node itself: where there is none yet, Debian's own has its headers in a package.
    if node_prefix().is_none_or(|prefix| !prefix.join("include/node/node_api.h").is_file()) {
        packages.push("libnode-dev");
    }
    packages
}

/// The PostgreSQL server, which Debian keeps out of PATH.
fn postgres() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok();
    let debian = versions.into_iter().flatten().filter_map(Result::ok);
    [PathBuf::from("postgres")]
        .into_iter()
        .chain(debian.map(|version| version.path().join("bin/postgres")))
        .find(|postgres| output(Command::new(postgres).arg("--version")).is_some())
}

/// The folder with `bin/node` in it, where its headers are too.
fn node_prefix() -> Option<PathBuf> {
    let program = output(Command::new("node").args(["-p", "process.execPath"]))?;
    Path::new(program.trim())
        .parent()
        .and_then(Path::parent)
        .map(Path::to_owned)
}

/// The first number of what a program says of its version: `v20.19.2`, `Chromium 140.0.7339.80 built on Debian`.
fn major(text: &str) -> Option<u32> {
    let digits = text.trim_start_matches(|c: char| !c.is_ascii_digit());
    digits.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

fn install_missing() -> Result<(), String> {
    let packages = missing();
    if packages.is_empty() {
        return Ok(());
    }
    let names = packages.join(" ");
    if output(Command::new("id").arg("-u")).as_deref() != Some("0") {
        return Err(format!(
            "the end-to-end tests need {names}; as root: apt-get install --no-install-recommends {names}"
        ));
    }
    if output(Command::new("apt-get").arg("--version")).is_none() {
        return Err(format!(
            "the end-to-end tests need {names}, and there is no apt-get; install them in your system's way"
        ));
    }
    let apt = |args: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(args).env("DEBIAN_FRONTEND", "noninteractive");
        command
    };
    twice(|| run(&mut apt(&["update"])))?;
    twice(|| run(apt(&["install", "-y", "--no-install-recommends"]).args(&packages)))
}

fn install_python(python: &Path, from: &Path, to: &Path) -> Result<(), String> {
    let venv = to.join("venv");
    // --clear: what an earlier set of requirements left behind must not decide a test.
    run(Command::new(python).args(["-m", "venv", "--clear"]).arg(&venv))?;
    twice(|| {
        let mut pip = Command::new(venv.join("bin/python"));
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"]);
        run(pip.arg(from.join("requirements.txt")))
    })
}

fn install_node(from: &Path, to: &Path) -> Result<(), String> {
    let folder = to.join("node");
    let _ = fs::remove_dir_all(folder.join("node_modules"));
    for name in ["package.json", "package-lock.json"] {
        fs::copy(from.join(name), folder.join(name))
            .map_err(|e| format!("cannot copy {name} into {}: {e}", folder.display()))?;
    }
    twice(|| {
        let mut npm = Command::new("npm");
        // Exactly what the lock says, of what the packages need in turn as well.
        npm.args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"]);
        run(npm.current_dir(&folder))
    })?;
    // With the headers that are here: without them it would fetch some.
    let prefix = node_prefix().ok_or("node does not say where it is (node -p process.execPath)")?;
    let mut npm = Command::new("npm");
    npm.args(["rebuild", COMPILED])
        .arg(format!("--nodedir={}", prefix.display()));
    run(npm.current_dir(&folder))
}

/// Prometheus' own checker of metrics and rules: the machine's, or the one that `install_promtool` has put here.
fn promtool(to: &Path) -> Option<PathBuf> {
    [PathBuf::from("promtool"), to.join("promtool")]
        .into_iter()
        .find(|promtool| output(Command::new(promtool).arg("--version")).is_some())
}

/// Out of Debian's package, without installing that: it would start a server.
fn install_promtool(to: &Path) -> Result<(), String> {
    if promtool(to).is_some() {
        return Ok(());
    }
    let folder = to.join("prometheus");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).map_err(|e| format!("cannot create {}: {e}", folder.display()))?;
    let download = || {
        run(Command::new("apt-get")
            .args(["download", "prometheus"])
            .current_dir(&folder))
    };
    download().or_else(|why| {
        println!("    {why}; once more, with new lists");
        let _ = run(Command::new("apt-get").arg("update")); // as root only
        download()
    })?;
    let packages = fs::read_dir(&folder).map_err(|e| format!("cannot read {}: {e}", folder.display()))?;
    let is_package = |path: &PathBuf| path.extension().is_some_and(|end| end == "deb");
    let package = (packages.filter_map(Result::ok).map(|entry| entry.path()))
        .find(is_package)
        .ok_or("apt-get has downloaded no package of prometheus")?;
    run(Command::new("dpkg-deb").arg("--extract").args([&package, &folder]))?;
    let unpacked = folder.join("usr/bin/promtool");
    fs::rename(&unpacked, to.join("promtool"))
        .map_err(|e| format!("the package of prometheus has no {}: {e}", unpacked.display()))?;
    let _ = fs::remove_dir_all(&folder); // the server, which nobody needs here
    Ok(())
}

/// A download may fail once.
fn twice(mut work: impl FnMut() -> Result<(), String>) -> Result<(), String> {
    work().or_else(|why| {
        println!("    {why}; once more");
        work()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_download_is_tried_twice_and_not_three_times() {
        let mut tries = 0;
        let result = twice(|| {
            tries += 1;
            Err(format!("try {tries}"))
        });
        assert_eq!(result, Err("try 2".to_owned()));
    }

    #[test]
    fn every_requirement_is_pinned_to_one_version() {
        let text = fs::read_to_string(root().join("tests/e2e/requirements.txt")).unwrap();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            assert!(line.contains("=="), "not pinned: {line}");
        }
        let text = fs::read_to_string(root().join("tests/e2e/package.json")).unwrap();
        assert!(
            !text.contains(['^', '~', '*']),
            "package.json pins exact versions: {text}"
        );
    }

    #[test]
    fn a_major_version_is_found_in_what_programs_say() {
        assert_eq!(major("v20.19.2"), Some(20));
        assert_eq!(
            major("Chromium 140.0.7339.80 built on Debian GNU/Linux 13 (trixie)"),
            Some(140)
        );
        assert_eq!(major("Mozilla Firefox 140.3.1esr"), Some(140));
        assert_eq!(major("9.2.0"), Some(9));
        assert_eq!(major("none"), None);
    }

    #[test]
    fn another_requirement_makes_the_stamp_old() {
        let wanted = wanted(&root().join("tests/e2e")).unwrap();
        assert!(wanted.contains("fastapi==") && wanted.contains("\"ws\""));
        assert!(!is_current(
            &target_dir().join("e2e"),
            &format!("{wanted}one-more==1.0\n")
        ));
    }
}
