//! Which tags to send for a set of settled messages: pure, because a wrong `multiple` settles
//! messages nobody has worked on.

use std::collections::BTreeSet;

/// Removes `tags` from `unsettled` and says how to tell the broker: `(tag, multiple)`, where
/// `multiple` means this and every earlier unsettled one. Unknown tags are left out.
pub(crate) fn plan(unsettled: &mut BTreeSet<u64>, tags: &[u64]) -> Vec<(u64, bool)> {
    let settled: BTreeSet<u64> = tags
        .iter()
        .copied()
        .filter(|tag| unsettled.remove(tag))
        .collect();
    let oldest_kept = unsettled.first().copied().unwrap_or(u64::MAX);
    let mut plan = Vec::new();
    if let Some(last) = settled.range(..oldest_kept).next_back() {
        plan.push((*last, true));
    }
    plan.extend(settled.range(oldest_kept..).map(|tag| (*tag, false)));
    plan
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a broker does with a plan.
    fn carry_out(unsettled: &BTreeSet<u64>, plan: &[(u64, bool)]) -> BTreeSet<u64> {
        let settles = |tag: &u64| {
            plan.iter()
                .any(|(last, multiple)| tag == last || (*multiple && tag < last))
        };
        unsettled
            .iter()
            .copied()
            .filter(|tag| !settles(tag))
            .collect()
    }

    proptest! {
        #[test]
        fn exactly_the_given_ones_are_settled(
            before in prop::collection::btree_set(1_u64..40, 0..30),
            tags in prop::collection::vec(1_u64..45, 0..30),
        ) {
            let mut ours = before.clone();
            let plan = plan(&mut ours, &tags);
            let expected: BTreeSet<_> =
                before.iter().copied().filter(|tag| !tags.contains(tag)).collect();
            prop_assert_eq!(&ours, &expected);
            prop_assert_eq!(carry_out(&before, &plan), expected);
            prop_assert!(plan.iter().all(|(tag, _)| before.contains(tag)), "unknown tags close channels");
        }
    }

    #[test]
    fn a_whole_batch_is_one_frame() {
        let mut unsettled = (1..=500).collect();
        let tags: Vec<_> = (1..=500).rev().collect();
        assert_eq!(plan(&mut unsettled, &tags), [(500, true)]);
    }
}
