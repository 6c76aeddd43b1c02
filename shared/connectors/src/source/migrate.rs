//! `LegacyToPerPartitionStateMigration`: states of connectors that were written in Python, in the
//! shape this engine reads.

use serde_json::{Map, Value, json};
use sluice_core::Result;

use super::{
    cursor::Cursor,
    manifest::Component,
    partition::Router,
    template::{Scope, Template},
};

/// What is done to a state before it is used.
#[derive(Debug)]
pub struct StateMigration {
    /// The partition's key. Without one nothing is to be done: a state of several parents does not
    /// tell which of them it is of.
    field: Option<Template>,
}

impl StateMigration {
    /// Custom migrations are passed over: a state that nobody understands is read from the start.
    pub fn build(
        stream: &Component<'_>,
        router: &Router,
        cursor: Option<&Cursor>,
    ) -> Result<Option<Self>> {
        for component in stream.children("state_migrations")? {
            match component.kind() {
                "LegacyToPerPartitionStateMigration" => {}
                _ if component.is_custom() => continue,
                _ => return Err(component.unsupported()),
            }
            let Router::Substream(parents) = router else {
                return Err(stream.invalid(
                    "state_migrations",
                    "states by parent need a SubstreamPartitionRouter",
                ));
            };
            if cursor.is_none() {
                return Err(
                    stream.invalid("state_migrations", "states by parent need incremental_sync")
                );
            }
            let field = match parents.as_slice() {
                [parent] => Some(parent.field.clone()),
                _ => None,
            };
            return Ok(Some(Self { field }));
        }
        Ok(None)
    }

    /// The state in the new shape; `None` when it is in it already, or in none that is known.
    pub fn migrated(
        &self,
        state: &Value,
        cursor: &Cursor,
        scope: &Scope<'_>,
    ) -> Result<Option<Value>> {
        let Some(field) = &self.field else {
            return Ok(None);
        };
        Ok(per_partition(
            state,
            &field.text(scope)?,
            &cursor.field(scope)?,
        ))
    }
}

/// `{"<id>": {cursor: value}}` with a partition for each id.
fn per_partition(state: &Value, field: &str, cursor: &str) -> Option<Value> {
    let state = state.as_object().filter(|state| !state.is_empty())?;
    if state.contains_key("states") {
        return None;
    }
    let is_cursor = |value: &Map<String, Value>| value.len() == 1 && value.contains_key(cursor);
    let states = state.iter().map(|(id, value)| {
        let value = value.as_object().filter(|value| is_cursor(value))?;
        Some(json!({"partition": {field: id}, "cursor": value}))
    });
    let states = states.collect::<Option<Vec<_>>>()?;
    Some(json!({ "states": states }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_states_by_id_are_migrated() {
        assert_eq!(
            per_partition(&json!({"7": {"at": "x"}, "8": {"at": "y"}}), "id", "at"),
            Some(json!({"states": [
                {"partition": {"id": "7"}, "cursor": {"at": "x"}},
                {"partition": {"id": "8"}, "cursor": {"at": "y"}},
            ]}))
        );
        for other in [
            json!({}),
            json!(null),
            json!({"at": "x"}),
            json!({"7": {"at": "x"}, "8": {"other": "y"}}),
            json!({"7": {"at": "x", "more": 1}}),
            json!({"states": [], "7": {"at": "x"}}),
        ] {
            assert_eq!(per_partition(&other, "id", "at"), None, "{other}");
        }
    }
}
