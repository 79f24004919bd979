//! What greenroom's own process uses, by the names that every Prometheus client has for it.
//!
//! Read from the kernel at each scrape. The process of a backend, and its warden, are others and not in it.
//! What cannot be read has no sample.

use std::path::Path;
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use greenroom_core::time::Time;
use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use super::exposition::{Family, Kind, Page, Value};
use crate::clock;

/// Writes them.
pub(super) fn write(page: &mut Page) {
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    let cpu = cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9;
    let help = "User and system CPU time of greenroom itself";
    page.family(Kind::Counter, "process_cpu_seconds", help).is(&[], cpu);
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let help = "Resident memory of greenroom itself";
    some(
        page.family(Kind::Gauge, "process_resident_memory_bytes", help),
        kib(&status, "VmRSS:"),
    );
    let help = "Virtual memory of greenroom itself";
    some(
        page.family(Kind::Gauge, "process_virtual_memory_bytes", help),
        kib(&status, "VmSize:"),
    );
    let help = "Open file descriptors of greenroom itself";
    some(page.family(Kind::Gauge, "process_open_fds", help), open_fds());
    let help = "File descriptors that greenroom may have open";
    some(
        page.family(Kind::Gauge, "process_max_fds", help),
        getrlimit(Resource::Nofile).current,
    );
    let help = "When greenroom started, in seconds since 1970";
    page.family(Kind::Gauge, "process_start_time_seconds", help)
        .is(&[], started());
}

fn some(mut family: Family<'_>, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        family.is(&[], value);
    }
}

/// A line of /proc/self/status, which is in KiB.
fn kib(status: &str, field: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    line.trim()
        .strip_suffix("kB")?
        .trim()
        .parse::<u64>()
        .ok()
        .map(|kib| kib * 1024)
}

/// Since Linux 6.2 the folder's size is their number; before, they are counted.
fn open_fds() -> Option<u64> {
    let folder = Path::new("/proc/self/fd");
    let size = std::fs::metadata(folder).ok()?.len();
    if size > 0 {
        return Some(size);
    }
    let count = std::fs::read_dir(folder).ok()?.count() as u64; // no usize is wider
    Some(count.saturating_sub(1)) // less the one that reads
}

/// Found once, so that it never moves.
fn started() -> f64 {
    static AT: OnceLock<f64> = OnceLock::new();
    *AT.get_or_init(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        now.saturating_sub(clock::now().since(Time::ZERO)).as_secs_f64()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::exposition::Format;

    #[test]
    fn all_of_them_are_read_and_make_sense() {
        let mut page = Page::new(Format::Text);
        write(&mut page);
        let text = page.end();
        let value = |name: &str| -> f64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.unwrap_or_else(|| panic!("{name}:\n{text}")).parse().unwrap()
        };
        assert!(value("process_resident_memory_bytes") > 1e6);
        assert!(value("process_virtual_memory_bytes") > value("process_resident_memory_bytes"));
        let open = value("process_open_fds");
        assert!(open >= 3.0 && open <= value("process_max_fds"));
        let more: Vec<_> = (0..20).map(|_| std::fs::File::open("/dev/null").unwrap()).collect();
        assert!(open_fds().unwrap() as f64 >= open, "{} more", more.len());
        assert!(value("process_cpu_seconds_total") > 0.0);
        let started = value("process_start_time_seconds");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        assert!(started <= now && now - started < 3_600.0);
    }
}
