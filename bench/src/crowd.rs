//! As many held clients as the file limit lets there be: all are let in, in order, each closes after its echo.
//!
//! greenroom runs with [`FILES`] descriptors; held and relayed clients together are bounded by them. So most of the
//! crowd waits until others have closed. Once with a 101 of greenroom's own, and a message that it keeps; once without.

use std::path::Path;
use std::time::Duration;

use crate::process::{Stream, cpu, kernel_memory, memory as memory_of, quiet};
use crate::rivals::Files;
use crate::runs::{HOLDS, check_all_in, millis};
use crate::site::{PATIENCE, Site, Target};
use crate::table::Budgets;
use crate::{Failure, Options, admin};

/// Open files that greenroom may have.
pub(crate) const FILES: u64 = 20_000;
/// How long the crowd may take to come, and to be let in.
const CROWD_PATIENCE: Duration = Duration::from_secs(60);

/// The table, and what holds.
#[allow(clippy::cast_precision_loss)]
pub(crate) fn run(options: &Options, budgets: &mut Budgets) -> Result<(), Failure> {
    let clients = options.crowd;
    println!("\n{clients} held clients, at most {FILES} open files, each closes after its echo");
    println!(
        "  hold        held B  kernel B   came in s   from READY in s, to: first echo  last echo  last close   CPU s   inversions   after, MiB"
    );
    for hold in HOLDS {
        let files = Files::new(&format!("crowd-{hold}"))?;
        let socket = files.path("admin");
        let settings = [
            ("ADMIN__SOCKET", socket.display().to_string()),
            ("BACKEND__APP__HELD_MAX", clients.to_string()),
            ("ROUTE__0__HOLD", hold.to_owned()),
            ("ROUTE__0__HOLD_TIMEOUT", "5m".into()),
        ];
        let program = limited(&files, &options.greenroom)?;
        let mut site = Site::start_with(Target::Greenroom(&program), true, &settings)?;
        let pid = site.gateway().ok_or("no gateway")?;
        quiet(pid)?;
        let (before, kernel) = (memory_of(pid)?, kernel_memory()?);
        let mut words = vec![("connections", clients.to_string()), ("close", String::new())];
        words.extend((hold == "accept").then(|| ("accepted", String::new())));
        let load = site.part("clients", &words)?;
        let sent = load.event(Stream::Out, "sent", CROWD_PATIENCE)?;
        quiet(pid)?;
        let each = |before: u64, after: u64| (after as f64 - before as f64) / clients as f64;
        let held = each(before.anonymous, memory_of(pid)?.anonymous);
        let kernel_after = kernel_memory()?;
        let in_kernel = each(kernel.0 + kernel.1, kernel_after.0 + kernel_after.1);
        let used = cpu(pid)?;
        let ready = site.tell("ready")?["at"].clone();
        let result = load.event(Stream::Out, "result", CROWD_PATIENCE)?;
        check_all_in(&result, clients)?;
        let used = cpu(pid)? - used;
        let report = site.tell("report")?;
        let inversions = report["inversions"].as_f64().unwrap_or(f64::NAN);
        if report["numbered"] != clients {
            return Err(format!("not every opening had a Greenroom-Session: {report}").into());
        }
        admin::emptied(&socket, PATIENCE)?;
        let came = millis(&sent["began"], &sent["at"]) / 1e3;
        let [first, last, ended] = ["first_echo", "last_echo", "ended"].map(|name| millis(&ready, &result[name]) / 1e3);
        println!(
            "  {hold:<10} {held:>7.0} {in_kernel:>9.0}  {came:>10.2}  {first:>33.3}  {last:>9.2}  {ended:>10.2}  {used:>6.2}  {inversions:>11}  {:>11.1}",
            memory_of(pid)?.anonymous as f64 / 1_048_576.0,
        );
        budgets.at_most(format!("a crowd of {clients}, {hold}: inversions"), inversions, 0.0, "");
        drop(load);
    }
    println!("  (kernel: buffers and small objects of both ends of a client's connection)");
    Ok(())
}

/// A program that starts greenroom with [`FILES`] descriptors.
fn limited(files: &Files, program: &Path) -> Result<std::path::PathBuf, Failure> {
    use std::os::unix::fs::PermissionsExt as _;
    let (path, program) = (files.path("greenroom"), program.canonicalize()?);
    std::fs::write(
        &path,
        format!("#!/bin/sh\nulimit -n {FILES} && exec '{}' \"$@\"\n", program.display()),
    )?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
    Ok(path)
}
