//! The budgets of the design, beside what was measured.

use std::ops::RangeInclusive;

/// Lines for the end of the report.
#[derive(Default)]
pub(crate) struct Budgets(Vec<Line>);

struct Line {
    what: String,
    measured: String,
    budget: String,
    met: bool,
}

impl Budgets {
    /// Adds `measured`, which must be at most `budget`, in `unit`.
    pub(crate) fn at_most(&mut self, what: impl Into<String>, measured: f64, budget: f64, unit: &str) {
        // What could not be measured (NaN) is not met.
        let met = measured <= budget;
        let (measured, budget) = (format!("{measured:.3} {unit}"), format!("≤ {budget} {unit}"));
        self.0.push(Line {
            what: what.into(),
            measured,
            budget,
            met,
        });
    }

    /// Adds `measured`, which must be at least `budget`, in `unit`.
    pub(crate) fn at_least(&mut self, what: impl Into<String>, measured: f64, budget: f64, unit: &str) {
        let met = measured >= budget;
        let (measured, budget) = (format!("{measured:.3} {unit}"), format!("≥ {budget} {unit}"));
        self.0.push(Line {
            what: what.into(),
            measured,
            budget,
            met,
        });
    }

    /// Adds `measured`, which must be within `range` (with both ends), in `unit`; says whether it is.
    pub(crate) fn within(
        &mut self,
        what: impl Into<String>,
        measured: f64,
        range: RangeInclusive<f64>,
        unit: &str,
    ) -> bool {
        let met = range.contains(&measured);
        let (from, to) = range.into_inner();
        self.0.push(Line {
            what: what.into(),
            measured: format!("{measured:.3} {unit}"),
            budget: if from == 0.0 {
                format!("≤ {to} {unit}")
            } else {
                format!("{from} to {to} {unit}")
            },
            met,
        });
        met
    }

    pub(crate) fn all_met(&self) -> bool {
        self.0.iter().all(|line| line.met)
    }

    pub(crate) fn print(&self) {
        if self.0.is_empty() {
            return;
        }
        println!("\nBudgets");
        for Line {
            what,
            measured,
            budget,
            met,
        } in &self.0
        {
            println!(
                "  {what:<62} {measured:>16}  {budget:<16} {}",
                if *met { "met" } else { "MISSED" }
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_met_at_its_edge_and_missed_behind_it_or_without_a_number() {
        for (measured, most, least) in [
            (1.0, true, true),
            (1.1, false, true),
            (0.9, true, false),
            (f64::NAN, false, false),
        ] {
            let mut budgets = Budgets::default();
            budgets.at_most("x", measured, 1.0, "ms");
            assert_eq!(budgets.all_met(), most, "{measured}");
            let mut budgets = Budgets::default();
            budgets.at_least("x", measured, 1.0, "ms");
            assert_eq!(budgets.all_met(), least, "{measured}");
        }
        for (measured, met) in [(1.0, true), (2.0, true), (0.9, false), (2.1, false), (f64::NAN, false)] {
            let mut budgets = Budgets::default();
            assert_eq!(budgets.within("x", measured, 1.0..=2.0, "ms"), met, "{measured}");
            assert_eq!(budgets.all_met(), met, "{measured}");
        }
    }
}
