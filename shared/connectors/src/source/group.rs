//! `GroupingPartitionRouter`: several partitions of another router are read with one request.

use std::collections::HashSet;

use serde_json::{Map, Value};
use sluice_core::{Error, Result, fingerprint};

use super::{
    manifest::Component,
    partition::{Partition, Router},
    template::Templates,
};

/// The key of a parent's partition; it tells partitions apart but is none of their values.
const PARENT_SLICE: &str = "parent_slice";

/// `GroupingPartitionRouter`.
#[derive(Debug)]
pub struct Group {
    size: usize,
    deduplicate: bool,
    pub inner: Box<Router>,
}

impl Group {
    pub fn build(component: &Component<'_>, templates: &mut Templates) -> Result<Self> {
        let size = component
            .integer("group_size")
            .and_then(|size| usize::try_from(size).ok())
            .filter(|size| *size > 0)
            .ok_or_else(|| component.invalid("group_size", "must be a whole number above 0"))?;
        let inner = component.required("underlying_partition_router")?;
        let router = Router::build(std::slice::from_ref(&inner), templates)?;
        if router.injects() {
            return Err(inner.invalid(
                "request_option",
                "cannot hold a group: set the parameter in the requester, from `stream_partition`",
            ));
        }
        Ok(Self {
            size,
            deduplicate: component.get("deduplicate").is_none() || component.flag("deduplicate"),
            inner: Box::new(router),
        })
    }

    /// Whether partitions that repeat are wanted all the same.
    pub fn keeps_repeated(&self) -> bool {
        !self.deduplicate
    }

    /// Partitions in groups, in their order: each key holds the list of its values.
    ///
    /// # Errors
    /// `partition_group_invalid` for partitions of more than one value.
    pub fn groups(&self, partitions: Vec<Partition>) -> Result<Vec<Partition>> {
        let mut seen = HashSet::new();
        let mut wanted = Vec::with_capacity(partitions.len());
        for partition in partitions {
            let value = value_of(&partition)?;
            if !self.deduplicate || seen.insert(fingerprint::canonical_json(value)) {
                wanted.push(partition);
            }
        }
        Ok(wanted.chunks(self.size).map(grouped).collect())
    }
}

fn value_of(partition: &Partition) -> Result<&Value> {
    let mut values = partition
        .values
        .iter()
        .filter(|(key, _)| *key != PARENT_SLICE);
    match (values.next(), values.next()) {
        (Some((_, value)), None) => Ok(value),
        _ => Err(Error::config(
            "partition_group_invalid",
            "only partitions of one value each can be grouped",
        )),
    }
}

fn grouped(batch: &[Partition]) -> Partition {
    // Partitions of several parents may have different keys; the first one's count.
    let keys = batch.first().into_iter().flat_map(|one| one.values.keys());
    let mut extra: Vec<&String> = Vec::new();
    for key in batch.iter().flat_map(|one| one.extra.keys()) {
        if !extra.contains(&key) {
            extra.push(key);
        }
    }
    Partition {
        values: lists(keys, batch, |one| &one.values),
        extra: lists(extra.into_iter(), batch, |one| &one.extra),
        page: None,
    }
}

fn lists<'a>(
    keys: impl Iterator<Item = &'a String>,
    batch: &[Partition],
    part: impl Fn(&Partition) -> &Map<String, Value>,
) -> Map<String, Value> {
    keys.map(|key| {
        let values = batch.iter().map(|one| part(one).get(key).cloned());
        let values: Vec<Value> = values.map(Option::unwrap_or_default).collect();
        (key.clone(), values.into())
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn partition(values: Value, extra: Value) -> Partition {
        Partition {
            values: values.as_object().unwrap().clone(),
            extra: extra.as_object().unwrap().clone(),
            page: None,
        }
    }

    fn group(size: usize, deduplicate: bool) -> Group {
        Group {
            size,
            deduplicate,
            inner: Box::new(Router::None),
        }
    }

    #[test]
    fn groups_hold_lists_and_repeated_values_count_once() {
        let partitions: Vec<Partition> = [1, 2, 1, 3]
            .into_iter()
            .map(|id| {
                partition(
                    json!({"id": id, "parent_slice": {"p": id}}),
                    json!({"name": id * 10}),
                )
            })
            .collect();
        let groups = group(2, true).groups(partitions.clone()).unwrap();
        assert_eq!(
            groups,
            [
                partition(
                    json!({"id": [1, 2], "parent_slice": [{"p": 1}, {"p": 2}]}),
                    json!({"name": [10, 20]})
                ),
                partition(
                    json!({"id": [3], "parent_slice": [{"p": 3}]}),
                    json!({"name": [30]})
                ),
            ]
        );
        let groups = group(3, false).groups(partitions).unwrap();
        assert_eq!(groups[0].values["id"], json!([1, 2, 1]));
        assert_eq!(groups.len(), 2);
    }

    #[test]
    fn partitions_of_two_values_cannot_be_grouped() {
        let error = group(2, true)
            .groups(vec![partition(json!({"a": 1, "b": 2}), json!({}))])
            .unwrap_err();
        assert_eq!(error.code(), "partition_group_invalid");
    }

    #[test]
    fn sizes_below_one_and_options_of_single_partitions_are_refused() {
        let list = json!({"type": "ListPartitionRouter", "values": ["a"], "cursor_field": "id"});
        let mut with_option = list.clone();
        with_option["request_option"] =
            json!({"type": "RequestOption", "inject_into": "header", "field_name": "x"});
        for (size, inner, place) in [
            (json!(0), &list, "manifest.group_size"),
            (json!("x"), &list, "manifest.group_size"),
            (
                json!(2),
                &with_option,
                "manifest.underlying_partition_router.request_option",
            ),
        ] {
            let group = json!({"type": "GroupingPartitionRouter", "group_size": size, "underlying_partition_router": inner});
            let component = Component::new(&group, "manifest").unwrap();
            let error = Group::build(&component, &mut Templates::new()).unwrap_err();
            assert_eq!(error.code(), "manifest_invalid");
            assert!(error.message().starts_with(place), "{error}");
        }
    }
}
