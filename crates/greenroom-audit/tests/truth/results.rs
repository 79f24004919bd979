//! Runs the tests that are wanted, and tells whoever asked for it what came out of each.

use std::time::Instant;

use greenroom_audit::audit::report::Machine;

use crate::{Test, either};

fn machine() -> Machine {
    Machine::here()
}

/// Tells what came out to whoever asked for it.
pub(crate) fn record(line: &serde_json::Value) {
    use std::io::Write as _;
    if let Some(path) = std::env::var_os("GREENROOM_AUDIT_TRUTH_RESULTS") {
        let mut file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .unwrap();
        writeln!(file, "{line}").unwrap();
    }
}

/// Runs these, and tells whoever asked for it what came out of each. Whether all passed.
pub(crate) fn all(tests: Vec<Test>) -> bool {
    println!("running {} tests", tests.len());
    let (began, mut failed) = (Instant::now(), 0);
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    record(&serde_json::json!({"part": "begin", "machine": machine(), "profile": profile, "long": either(1, 0) == 1}));
    for (name, test) in tests {
        let began = Instant::now();
        let passed = std::panic::catch_unwind(test).is_ok();
        let took_s = (began.elapsed().as_secs_f64() * 1e3).round() / 1e3;
        record(&serde_json::json!({"part": "test", "name": name, "passed": passed, "took_s": took_s}));
        println!(
            "test {name} ... {} ({took_s:.1} s)",
            if passed { "ok" } else { "FAILED" }
        );
        failed += u32::from(!passed);
    }
    record(&serde_json::json!({"part": "end", "load": machine().load, "took_s": began.elapsed().as_secs()}));
    failed == 0
}
