//! What may be said of a probability, and of a set of times, from what was counted. Pure.
//!
//! A share of *k* in *n* gets its exact (Clopper-Pearson) interval: the probabilities under which
//! *k* or fewer, and *k* or more, are not rarer than half of what the confidence leaves. It never
//! claims more than it may, also for 0 of n. Times get quantiles by nearest rank.

use greenroom_core::starts::nearest_rank;
use serde::{Deserialize, Serialize};

/// What is left of 1 by the confidence of all intervals here: 99.99 %.
pub const ALPHA: f64 = 1e-4;

/// `hits` of `of`, and where the probability behind it lies with 99.99 % confidence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Share {
    /// How often it happened.
    pub hits: u64,
    /// How often it could have.
    pub of: u64,
    /// The least probability that agrees with this.
    pub low: f64,
    /// The greatest.
    pub high: f64,
}

impl Share {
    /// `hits` (at the most `of`) of `of`. Of nothing, nothing is known: 0 to 1.
    #[must_use]
    pub fn new(hits: u64, of: u64) -> Self {
        let hits = hits.min(of);
        let (k, n) = (hits as f64, of as f64);
        // I_p(a, b) grows with p from 0 to 1.
        let low = if hits == 0 {
            0.0
        } else {
            solve(|p| incomplete_beta(k, n - k + 1.0, p) - ALPHA / 2.0)
        };
        let high = if hits == of {
            1.0
        } else {
            solve(|p| incomplete_beta(k + 1.0, n - k, p) - (1.0 - ALPHA / 2.0))
        };
        Self { hits, of, low, high }
    }

    /// Both together, as one.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self::new(self.hits + other.hits, self.of + other.of)
    }

    /// What was seen: `hits / of`; 0 of nothing.
    #[must_use]
    pub fn seen(&self) -> f64 {
        if self.of == 0 {
            0.0
        } else {
            self.hits as f64 / self.of as f64
        }
    }
}

/// With what probability `few`, `(hits, of)`, would have no more hits than it has, if it were as `many` is: Fisher's exact test,
/// one-sided.
#[must_use]
pub fn by_chance(many: (u64, u64), few: (u64, u64)) -> f64 {
    let ln_choose = |n: u64, k: u64| {
        let [n, k] = [n as f64, k as f64];
        ln_gamma(n + 1.0) - ln_gamma(k + 1.0) - ln_gamma(n - k + 1.0)
    };
    let (hits, of) = (many.0 + few.0, many.1 + few.1);
    let least = few.1.saturating_sub(of - hits); // as many must be among the few
    let of_all = |k: u64| ln_choose(hits, k) + ln_choose(of - hits, few.1 - k) - ln_choose(of, few.1);
    (least..=few.0.min(hits)).map(|k| of_all(k).exp()).sum::<f64>().min(1.0)
}

/// With what probability, at the most, the next of its kind is above the greatest of `count` that
/// were seen, with 99.99 % confidence.
#[must_use]
pub fn above_the_greatest(count: u64) -> f64 {
    Share::new(0, count).high
}

/// Where an increasing function on 0 to 1 crosses zero.
fn solve(f: impl Fn(f64) -> f64) -> f64 {
    let (mut low, mut high) = (0.0_f64, 1.0_f64);
    // Each step halves the error: 60 leave nothing that a float of this size can show.
    for _ in 0..60 {
        let middle = low.midpoint(high);
        if f(middle) < 0.0 {
            low = middle;
        } else {
            high = middle;
        }
    }
    low.midpoint(high)
}

/// The regularised incomplete beta function, by its continued fraction (Lentz).
fn incomplete_beta(a: f64, b: f64, x: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    if x >= 1.0 {
        return 1.0;
    }
    let front = (ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b) + a * x.ln() + b * (1.0 - x).ln()).exp();
    // The fraction converges fast only on this side of the mean.
    if x < (a + 1.0) / (a + b + 2.0) {
        front * fraction(a, b, x) / a
    } else {
        1.0 - front * fraction(b, a, 1.0 - x) / b
    }
}

fn fraction(a: f64, b: f64, x: f64) -> f64 {
    const TINY: f64 = 1e-300;
    let away = |value: f64| if value.abs() < TINY { TINY } else { value };
    let mut c = 1.0;
    let mut d = 1.0 / away(1.0 - (a + b) * x / (a + 1.0));
    let mut result = d;
    // Some √max(a, b) terms are needed: this is enough for a million clients.
    for m in 1..=5_000_u32 {
        let m = f64::from(m);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        d = 1.0 / away(1.0 + even * d);
        c = away(1.0 + even / c);
        result *= d * c;
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        d = 1.0 / away(1.0 + odd * d);
        c = away(1.0 + odd / c);
        result *= d * c;
        if (d * c - 1.0).abs() < 1e-15 {
            break;
        }
    }
    result
}

/// ln Γ for x > 0, by Lanczos' approximation (g = 7, nine terms): 15 digits.
fn ln_gamma(x: f64) -> f64 {
    const TERMS: [f64; 8] = [
        676.520_368_121_885_1,
        -1_259.139_216_722_402_8,
        771.323_428_777_653_1,
        -176.615_029_162_140_6,
        12.507_343_278_686_905,
        -0.138_571_095_265_720_12,
        9.984_369_578_019_572e-6,
        1.505_632_735_149_311_6e-7,
    ];
    let x = x - 1.0;
    let mut sum = 0.999_999_999_999_809_9;
    for (index, term) in TERMS.iter().enumerate() {
        sum += term / (x + index as f64 + 1.0);
    }
    let t = x + 7.5;
    0.5 * (2.0 * std::f64::consts::PI).ln() + (x + 0.5) * t.ln() - t + sum.ln()
}

/// Quantiles of a set of times, in nanoseconds, by nearest rank; all 0 for none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quantiles {
    /// How many.
    pub count: u64,
    /// The least.
    pub min_ns: u64,
    /// Half are at most this.
    pub p50_ns: u64,
    /// 90 of 100 are at most this.
    pub p90_ns: u64,
    /// 99 of 100 are at most this.
    pub p99_ns: u64,
    /// The greatest.
    pub max_ns: u64,
}

impl Quantiles {
    /// Of these times.
    #[must_use]
    pub fn of(mut times: Vec<u64>) -> Self {
        times.sort_unstable();
        let at = |percent| nearest_rank(&times, percent).unwrap_or(0);
        Self {
            count: times.len() as u64,
            min_ns: at(0),
            p50_ns: at(50),
            p90_ns: at(90),
            p99_ns: at(99),
            max_ns: at(100),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// P(X ≤ k) of a binomial distribution, summed up term by term.
    fn at_most(k: u64, n: u64, p: f64) -> f64 {
        let choose = |i: u64| ln_gamma(n as f64 + 1.0) - ln_gamma(i as f64 + 1.0) - ln_gamma((n - i) as f64 + 1.0);
        (0..=k)
            .map(|i| (choose(i) + i as f64 * p.ln() + (n - i) as f64 * (1.0 - p).ln()).exp())
            .sum()
    }

    #[test]
    fn known_intervals_come_out() {
        // Nothing in 1,000: 1 - (α/2)^(1/n).
        let none = Share::new(0, 1_000);
        let exact = 1.0 - (ALPHA / 2.0).powf(1.0 / 1_000.0);
        assert!(none.low == 0.0 && (none.high - exact).abs() < 1e-12, "{none:?} {exact}");
        let all = Share::new(1_000, 1_000);
        assert!((all.low - (1.0 - exact)).abs() < 1e-12 && all.high == 1.0, "{all:?}");
        assert_eq!((Share::new(0, 0).low, Share::new(0, 0).high), (0.0, 1.0));
        assert!((above_the_greatest(100) - (1.0 - (ALPHA / 2.0).powf(0.01))).abs() < 1e-12);
    }

    #[test]
    fn quantiles_are_of_the_nearest_rank() {
        let found = Quantiles::of((1..=200).rev().collect());
        let expected = (200, 1, 100, 180, 198, 200);
        let found = (
            found.count,
            found.min_ns,
            found.p50_ns,
            found.p90_ns,
            found.p99_ns,
            found.max_ns,
        );
        assert_eq!(found, expected);
        assert_eq!(Quantiles::of(Vec::new()), Quantiles::default());
    }

    proptest! {
        #[test]
        fn each_end_of_an_interval_leaves_half_of_alpha_outside(n in 1_u64..3_000, part in 0.0..1.0_f64) {
            let k = ((n as f64) * part) as u64;
            let share = Share::new(k, n);
            prop_assert!(share.low <= share.seen() && share.seen() <= share.high);
            if k > 0 {
                let upper_tail = 1.0 - at_most(k - 1, n, share.low);
                prop_assert!((upper_tail - ALPHA / 2.0).abs() < 1e-7, "{share:?}: {upper_tail}");
            }
            if k < n {
                let lower_tail = at_most(k, n, share.high);
                prop_assert!((lower_tail - ALPHA / 2.0).abs() < 1e-7, "{share:?}: {lower_tail}");
            }
        }

        #[test]
        fn more_of_the_same_narrows_the_interval(n in 10_u64..500, part in 0.0..1.0_f64) {
            let k = ((n as f64) * part) as u64;
            let (once, tenfold) = (Share::new(k, n), Share::new(10 * k, 10 * n));
            prop_assert!(tenfold.high - tenfold.low < once.high - once.low);
        }
    }
}
