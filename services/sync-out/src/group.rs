//! Which pushes travel in one call: pure.

use sluice_connectors::target::PushOperation;
use sluice_core::EntityType;

/// Pushes of one entity type and operation, few enough for one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group<T> {
    pub entity: EntityType,
    pub operation: PushOperation,
    pub items: Vec<T>,
}

/// Groups pushes by entity type and operation, in the order in which each kind first appears, and
/// cuts each group to the size the target takes. Within a group the order is kept, so the most
/// urgent go first.
pub fn group<T>(
    items: impl IntoIterator<Item = (EntityType, PushOperation, T)>,
    size: impl Fn(&EntityType, PushOperation) -> usize,
) -> Vec<Group<T>> {
    let mut groups: Vec<Group<T>> = Vec::new();
    for (entity, operation, item) in items {
        // The last group of a kind is the one that still has room.
        let open = groups
            .iter_mut()
            .rev()
            .find(|group| group.operation == operation && group.entity == entity)
            .filter(|group| group.items.len() < size(&entity, operation).max(1));
        match open {
            Some(group) => group.items.push(item),
            None => groups.push(Group {
                entity,
                operation,
                items: vec![item],
            }),
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn operation() -> impl Strategy<Value = PushOperation> {
        prop::sample::select(vec![
            PushOperation::Create,
            PushOperation::Update,
            PushOperation::Delete,
        ])
    }

    proptest! {
        /// Every push travels once, with its own kind, in groups that fit, as few as possible.
        #[test]
        fn groups_partition_the_pushes(
            kinds in proptest::collection::vec((0_u8..3, operation()), 0..200), size in 0_usize..20,
        ) {
            let entity = |n: u8| EntityType::from(["Location", "Resident", "ServiceRequest"][usize::from(n)]);
            let items = kinds.iter().enumerate().map(|(index, (n, op))| (entity(*n), *op, index));
            let groups = group(items, |_, _| size);
            let mut seen: Vec<usize> = Vec::new();
            for group in &groups {
                prop_assert!(!group.items.is_empty() && group.items.len() <= size.max(1));
                prop_assert!(group.items.is_sorted());
                for index in &group.items {
                    let (n, op) = kinds[*index];
                    prop_assert!(group.entity == entity(n) && group.operation == op);
                    seen.push(*index);
                }
            }
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..kinds.len()).collect::<Vec<_>>());
            let mut fewest = 0;
            for n in 0..3 {
                for op in [PushOperation::Create, PushOperation::Update, PushOperation::Delete] {
                    let count = kinds.iter().filter(|kind| **kind == (n, op)).count();
                    fewest += count.div_ceil(size.max(1));
                }
            }
            prop_assert_eq!(groups.len(), fewest);
        }
    }
}
