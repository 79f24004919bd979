//! Bounds of the whole process, and of what one address may take of it.

use greenroom_core::limits::{
    ADDRESS_BITS, DESCRIPTORS_MAX, EARLY_BUDGET, EARLY_BUDGET_RANGE, EARLY_MAX, EARLY_MAX_RANGE, HANDSHAKES_MAX,
    HEAD_MAX, HEAD_MAX_RANGE, HEAD_TIMEOUT, HEAD_TIMEOUT_RANGE,
};

use super::super::model;
use super::super::problem::Problem;
use super::super::units::{show_size, size_in};
use super::super::written::{Field, Limits, Number, Size, join};
use super::Checker;

impl Checker<'_> {
    pub(super) fn limits(&mut self, field: Field<Limits>) -> model::Limits {
        let written = field.present().map(|written| written.value).unwrap_or_default();
        let connections_max = self.at_will(
            "limits.connections_max",
            written.connections_max,
            "as many as there are descriptors",
            DESCRIPTORS_MAX,
        );
        let mut per_address = |key: &str, field, max| self.at_will(&join("limits", key), field, "no limit", max);
        let connections_per_address = per_address(
            "connections_per_address",
            written.connections_per_address,
            DESCRIPTORS_MAX,
        );
        let handshakes_per_address =
            per_address("handshakes_per_address", written.handshakes_per_address, HANDSHAKES_MAX);
        let v4 = self.bits("limits.address_bits_v4", written.address_bits_v4, ADDRESS_BITS.0, 32);
        let v6 = self.bits("limits.address_bits_v6", written.address_bits_v6, ADDRESS_BITS.1, 128);
        let head_max = self.size("limits.head_max", written.head_max, HEAD_MAX, HEAD_MAX_RANGE);
        let head_max = head_max.unwrap_or(HEAD_MAX);
        let (min, max) = HEAD_TIMEOUT_RANGE;
        let head_timeout = self.duration("limits.head_timeout", written.head_timeout, HEAD_TIMEOUT, min, max);
        let max_place = written.early_max.place().cloned();
        let budget_place = written.early_budget.place().cloned();
        let early_max = self.size("limits.early_max", written.early_max, EARLY_MAX, EARLY_MAX_RANGE);
        let early_budget = self.size(
            "limits.early_budget",
            written.early_budget,
            EARLY_BUDGET,
            EARLY_BUDGET_RANGE,
        );
        if let (Some(early_max), Some(early_budget)) = (early_max, early_budget)
            && early_budget < early_max
        {
            self.problems.add(
                Problem::new(format!(
                    "`limits.early_budget` is {}, and one client may have {} of it (`limits.early_max`)",
                    show_size(early_budget as u64),
                    show_size(early_max as u64)
                ))
                .near(budget_place.as_ref().or(max_place.as_ref()))
                .related(max_place.as_ref().filter(|_| budget_place.is_some()), "said here")
                .help("let the budget be for many clients, or let one client have less"),
            );
        }
        let user = self.user_limit(written.max_connections_per_user, written.on_user_limit);
        model::Limits {
            connections_max,
            connections_per_address,
            handshakes_per_address,
            address_bits: (v4, v6),
            head_max,
            head_timeout,
            early_max: early_max.unwrap_or(EARLY_MAX),
            early_budget: early_budget.unwrap_or(EARLY_BUDGET),
            user,
        }
    }

    fn bits(&mut self, key: &str, field: Field<Number>, default: u8, most: u8) -> u8 {
        let bits = self.number(key, field, usize::from(default), usize::from(most));
        u8::try_from(bits).unwrap_or(most)
    }

    /// `None` if it is wrong.
    fn size(&mut self, key: &str, field: Field<Size>, default: usize, (min, max): (u64, u64)) -> Option<usize> {
        if field.is_absent() {
            self.note(key, show_size(default as u64), None);
            return Some(default);
        }
        let read = |text: &str| {
            let size = size_in(text, min, max).map_err(|error| error.to_string())?;
            usize::try_from(size).map_err(|_| format!("{text} is more than this machine can count"))
        };
        self.text(key, field, read).map(|placed| placed.value)
    }
}
