//! The table of the policies that take turns: smooth weighted round robin.
//!
//! Every member gains its weight at each turn; the one that has gained most gets the turn and pays the sum
//! of all weights for it. After as many turns as that sum everyone has had exactly as many as its weight
//! says, and nobody had them in a row: that is one period, and the table holds just one.

use core::cmp::Ordering;

use super::fill::slot_of;
use super::{MEMBERS_MAX, Member, SLOTS, Slot};

/// Fills the table and returns the number of slots in use.
pub(super) fn populate(table: &mut [Slot; SLOTS], members: &[Member]) -> u32 {
    let period = sum_in_lowest_terms(members).min(SLOTS as u32);
    let turns = share_out(period, members);
    let mut gains = [0i64; MEMBERS_MAX];
    for slot in table.iter_mut().take(period as usize) {
        let mut most = 0;
        for (index, turns) in turns.iter().take(members.len()).enumerate() {
            gains[index] += i64::from(*turns);
            if gains[index] > gains[most] {
                most = index;
            }
        }
        gains[most] -= i64::from(period);
        *slot = slot_of(members, most);
    }
    period
}

/// The sum of all weights in lowest terms.
fn sum_in_lowest_terms(members: &[Member]) -> u32 {
    let divisor = members.iter().fold(0, |divisor, member| common_divisor(divisor, member.weight));
    let sum: u32 = members.iter().map(|member| u32::from(member.weight)).sum();
    sum.checked_div(u32::from(divisor)).unwrap_or(0)
}

/// Shares `slots` out among members by weight, as near as whole slots come, and one at least: exactly, if
/// the weights allow it. There are at least as many slots as members.
pub(super) fn share_out(slots: u32, members: &[Member]) -> [u32; MEMBERS_MAX] {
    let mut shares = [0u32; MEMBERS_MAX];
    let sum: u64 = members.iter().map(|member| u64::from(member.weight)).sum();
    // What a member is due and what it has, times the sum of all weights.
    let due = |member: &Member| u64::from(member.weight) * u64::from(slots);
    let owed =
        |member: &Member, share: u32| due(member).cast_signed() - (u64::from(share) * sum).cast_signed();
    for (share, member) in shares.iter_mut().zip(members) {
        *share = due(member).checked_div(sum).map_or(1, |whole| whole.max(1)) as u32;
    }
    loop {
        let given: u32 = shares.iter().sum();
        let owing = shares.iter_mut().zip(members).map(|(share, member)| (owed(member, *share), share));
        match given.cmp(&slots) {
            Ordering::Less => {
                let Some((_, share)) = owing.max_by_key(|(owed, _)| *owed) else { break };
                *share += 1;
            }
            Ordering::Greater => {
                let several = owing.filter(|(_, share)| **share > 1);
                let Some((_, share)) = several.min_by_key(|(owed, _)| *owed) else { break };
                *share -= 1;
            }
            Ordering::Equal => break,
        }
    }
    shares
}

const fn common_divisor(mut a: u16, mut b: u16) -> u16 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    fn order(weights: &[u16]) -> Vec<usize> {
        let members: Vec<Member> = (1..)
            .zip(weights)
            .map(|(backend, weight)| Member { backend, weight: *weight, limit: 0 })
            .collect();
        let mut table = [Slot::default(); SLOTS];
        let period = populate(&mut table, &members) as usize;
        table[..period].iter().map(|slot| slot.index() as usize).collect()
    }

    fn turns(order: &[usize], index: usize) -> usize {
        order.iter().filter(|at| **at == index).count()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn a_period_has_as_many_turns_as_the_weights_say(
            weights in proptest::collection::vec(1..=64u16, 1..=MEMBERS_MAX), factor in 1..1000u16,
        ) {
            let order = order(&weights.iter().map(|weight| weight * factor).collect::<Vec<_>>());
            let divisor = weights.iter().fold(0, |divisor, weight| common_divisor(divisor, *weight));
            for (index, weight) in weights.iter().enumerate() {
                prop_assert_eq!(turns(&order, index), usize::from(weight / divisor));
            }
        }

        #[test]
        fn weights_too_fine_for_the_table_are_met_to_within_a_slot(
            weights in proptest::collection::vec(1000..=u16::MAX, 8..=MEMBERS_MAX),
        ) {
            let order = order(&weights);
            let sum: u32 = weights.iter().copied().map(u32::from).sum();
            for (index, weight) in weights.iter().enumerate() {
                let due = order.len() as f64 * f64::from(*weight) / f64::from(sum);
                prop_assert!((turns(&order, index) as f64 - due).abs() <= 1.0);
            }
        }

        /// Nobody is ever a whole turn ahead of its share, nor one and a half behind it.
        #[test]
        fn turns_come_evenly(weights in proptest::collection::vec(1..=200u16, 1..=MEMBERS_MAX)) {
            let order = order(&weights);
            let period = order.len() as f64;
            let mut had = [0.0f64; MEMBERS_MAX];
            let shares: Vec<f64> =
                (0..weights.len()).map(|index| turns(&order, index) as f64 / period).collect();
            for (turn, index) in order.iter().enumerate() {
                had[*index] += 1.0;
                for (had, share) in had.iter().zip(&shares) {
                    let ahead = had - (turn + 1) as f64 * share;
                    prop_assert!(ahead < 1.0 && ahead > -1.5, "{}", ahead);
                }
            }
        }
    }

    #[test]
    fn the_lightest_member_has_a_turn_beside_the_heaviest() {
        let order = order(&[u16::MAX, 1]);
        assert_eq!((order.len(), turns(&order, 1)), (SLOTS, 1));
    }
}
