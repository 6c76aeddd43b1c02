//! Which class is served next: smooth weighted round robin (as in nginx's `upstream`) over the
//! classes that have work, 8 : 3 : 1. High work goes first, and low work is never starved (O8).

use sluice_core::QueueClass;

/// Weights of high, normal and low.
const WEIGHTS: [i64; 3] = [8, 3, 1];

/// The memory of earlier picks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Picker {
    credit: [i64; 3],
}

impl Picker {
    /// The class to serve, of those for which `has_work` holds; `None` when there is none.
    /// Classes without work earn nothing, so that a class that slept has no claim to catch up.
    pub fn pick(&mut self, has_work: impl Fn(QueueClass) -> bool) -> Option<QueueClass> {
        let mut total = 0;
        let mut best: Option<(QueueClass, i64)> = None;
        for ((class, credit), weight) in QueueClass::ALL
            .into_iter()
            .zip(&mut self.credit)
            .zip(WEIGHTS)
        {
            if !has_work(class) {
                *credit = 0;
                continue;
            }
            *credit += weight;
            total += weight;
            // Of equals the more urgent one, which comes first.
            if best.is_none_or(|(_, most)| *credit > most) {
                best = Some((class, *credit));
            }
        }
        let (class, _) = best?;
        for (known, credit) in QueueClass::ALL.into_iter().zip(&mut self.credit) {
            if known == class {
                *credit -= total;
            }
        }
        Some(class)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn picks(count: usize, has_work: impl Fn(QueueClass) -> bool) -> Vec<QueueClass> {
        let mut picker = Picker::default();
        (0..count).filter_map(|_| picker.pick(&has_work)).collect()
    }

    #[test]
    fn with_work_everywhere_twelve_picks_are_eight_three_one_and_mixed() {
        let picks = picks(12, |_| true);
        let count = |class| picks.iter().filter(|picked| **picked == class).count();
        assert_eq!(QueueClass::ALL.map(count), [8, 3, 1], "{picks:?}");
        assert_eq!(picks[0], QueueClass::High);
        assert!(
            picks.windows(4).all(|few| few.contains(&QueueClass::High)),
            "{picks:?}"
        );
    }

    #[test]
    fn without_work_nothing_is_picked() {
        assert_eq!(Picker::default().pick(|_| false), None);
    }

    proptest! {
        /// O8: urgent work is served within two picks, and low work within twelve, whatever came
        /// before; no class without work is picked.
        #[test]
        fn nobody_starves(history in proptest::collection::vec((any::<bool>(), any::<bool>(), any::<bool>()), 0..200)) {
            let mut picker = Picker::default();
            let has = |work: &(bool, bool, bool), class| match class {
                QueueClass::High => work.0,
                QueueClass::Normal => work.1,
                QueueClass::Low => work.2,
            };
            for work in &history {
                let picked = picker.pick(|class| has(work, class));
                prop_assert_eq!(picked.is_some(), work.0 || work.1 || work.2);
                if let Some(class) = picked {
                    prop_assert!(has(work, class));
                }
            }
            let mut low = picker.clone();
            prop_assert!((0..13).any(|_| low.pick(|_| true) == Some(QueueClass::Low)));
            prop_assert!((0..3).any(|_| picker.pick(|_| true) == Some(QueueClass::High)));
        }
    }
}
