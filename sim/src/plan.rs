//! How the backend of a world is to be judged: its phases, checks and needs, drawn from the seed.

use core::time::Duration;

use greenroom_core::check;
use greenroom_core::phase;
use greenroom_core::readiness::{Item, Need, Plan, WhenDegraded};

use crate::backend::Truth;
use crate::rng::Rng;

/// No phase has less: a start that is not held up makes it.
pub(crate) const TIMEOUT_LEAST: Duration = Duration::from_millis(400);

pub(crate) fn draw(truth: &Truth, rng: &mut Rng) -> Plan {
    let mut plan = Plan::plain(truth.source, truth.is_ours);
    if rng.one_in(3) {
        return plan;
    }
    let phases = if rng.one_in(4) { 0 } else { rng.size(1, 6) };
    let timed = rng.one_in(2);
    plan.phases = (0..phases)
        .map(|index| phase::Rule {
            name: format!("phase{index}").into(),
            timeout: (timed && rng.one_in(2)).then(|| TIMEOUT_LEAST + Duration::from_millis(rng.range(0, 1_500))),
        })
        .collect();
    let checks = rng.size(0, 4);
    plan.checks = (0..checks)
        .map(|index| check::Rule {
            name: format!("check{index}").into(),
            rise: rng.pick(&[1, 1, 2, 3]),
            fall: rng.pick(&[1, 2, 3]),
            phase: (phases > 0 && rng.one_in(3)).then(|| rng.size(0, phases)),
            critical: rng.one_in(2),
            weight: rng.pick(&[1, 1, 3]),
        })
        .collect();
    let needs = rng.size(1, 5);
    plan.needs = (0..needs).map(|_| need(phases, checks, rng)).collect();
    plan
}

fn need(phases: usize, checks: usize, rng: &mut Rng) -> Need {
    let mut items = Vec::new();
    if checks > 0 && !rng.one_in(3) {
        items.push(Item::Check(rng.size(0, checks)));
    }
    if phases > 0 && !rng.one_in(3) {
        items.push(Item::Phase(rng.size(0, phases)));
    }
    Need {
        require: Some(items).filter(|items| !items.is_empty() && !rng.one_in(3)),
        degraded: rng.pick(&[
            WhenDegraded::Serve,
            WhenDegraded::Serve,
            WhenDegraded::Hold,
            WhenDegraded::Refuse,
        ]),
    }
}
