//! Runs many seeds and says in one line how they went: `sim [--seeds N] [--from S]`.
//!
//! Exit 0 when no invariant broke; 1 with the seed, the last events and how to
//! replay them; 2 when the arguments are wrong.

use std::process::ExitCode;

fn arguments() -> Result<(u64, u64), String> {
    let (mut seeds, mut from) = (2_000, 0);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let slot = match word.as_str() {
            "--seeds" => &mut seeds,
            "--from" => &mut from,
            other => return Err(format!("{other} is not known: sim [--seeds N] [--from S]")),
        };
        let value = words.next().ok_or(format!("{word} needs a number"))?;
        *slot = value
            .parse()
            .map_err(|_| format!("{word} needs a number, not {value}"))?;
    }
    Ok((seeds, from))
}

fn main() -> ExitCode {
    let (seeds, from) = match arguments() {
        Ok(arguments) => arguments,
        Err(what) => {
            eprintln!("{what}");
            return ExitCode::from(2);
        }
    };
    let mut sum = sim::Report::default();
    for seed in from..from.saturating_add(seeds) {
        match sim::run(seed, None) {
            Ok(report) => sum.add(&report),
            Err(failure) => {
                eprintln!("{failure}");
                return ExitCode::FAILURE;
            }
        }
    }
    println!(
        "{seeds} seeds from {from}: {} events, {} clients, {} let in, {} refused, {} sent back to their place, {} canaries, {} accepted, {} in fair turns, {} phases, {} failed starts, {} changes of checks, {} bytes relayed, 0 violations, trace {:016x}",
        sum.steps,
        sum.clients,
        sum.let_in,
        sum.refused,
        sum.requeued,
        sum.canaries,
        sum.accepted,
        sum.fair_turns,
        sum.phases,
        sum.failed_starts,
        sum.checks,
        sum.relayed,
        sum.hash
    );
    ExitCode::SUCCESS
}
