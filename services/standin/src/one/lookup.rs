//! Lists with filters and cursors.

use serde_json::{Map, Value, json};

use super::held::{Held, Record};
use super::schema::Entity;

/// Most records of one page.
const MAX_PAGE: u64 = 100;

/// Most keys in one filter.
const MAX_KEYS: usize = 25;

/// A list as asked for.
#[derive(Debug, PartialEq)]
pub(crate) struct Wanted {
    keys: Vec<String>,
    updated_from: Option<String>,
    first: u64,
    after: u64,
}

/// Reads filter, page size and cursor.
///
/// # Errors
/// A message for `BAD_USER_INPUT`.
pub(crate) fn wanted(
    entity: Entity,
    filter: &Value,
    first: Option<u64>,
    after: Option<&str>,
) -> Result<Wanted, String> {
    let empty = Map::new();
    let filter = match filter {
        Value::Null => &empty,
        Value::Object(filter) => filter,
        _ => return Err("filter must be an object".into()),
    };
    let (_, key_list, kind) = entity.list();
    for name in filter.keys() {
        if name != key_list && name != "clientId" && name != "updatedFrom" {
            return Err(format!(
                "Field \"{name}\" is not defined by type \"{kind}\"."
            ));
        }
    }
    let keys: Vec<String> = match filter.get(key_list) {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(list)) => list
            .iter()
            .map(|key| key.as_str().map(str::to_owned))
            .collect::<Option<_>>()
            .ok_or_else(|| format!("{key_list} must be a list of texts"))?,
        Some(_) => return Err(format!("{key_list} must be a list of texts")),
    };
    if keys.len() > MAX_KEYS {
        return Err(format!("at most {MAX_KEYS} keys"));
    }
    let after = match after {
        None => 0,
        Some(cursor) => cursor
            .strip_prefix("c")
            .and_then(|number| number.parse().ok())
            .ok_or("invalid cursor")?,
    };
    let first = first.unwrap_or(MAX_PAGE);
    if first == 0 || first > MAX_PAGE {
        return Err(format!("first must be 1 to {MAX_PAGE}"));
    }
    let updated_from = filter
        .get("updatedFrom")
        .and_then(Value::as_str)
        .map(str::to_owned);
    Ok(Wanted {
        keys,
        updated_from,
        first,
        after,
    })
}

/// The page.
pub(crate) fn page(held: &Held, entity: Entity, wanted: &Wanted) -> Value {
    let table = held.table(entity);
    let fits = |record: &Record| {
        wanted
            .updated_from
            .as_deref()
            .is_none_or(|from| at_or_after(&record.updated_at, from))
    };
    let room = usize::try_from(wanted.first).unwrap_or(usize::MAX);
    let mut found: Vec<&Record> = if wanted.keys.is_empty() {
        table
            .after(wanted.after)
            .filter(|r| fits(r))
            .take(room.saturating_add(1))
            .collect()
    } else {
        let mut found: Vec<&Record> = wanted
            .keys
            .iter()
            .filter_map(|key| table.get(key))
            .filter(|record| record.number > wanted.after && fits(record))
            .collect();
        found.sort_by_key(|record| record.number);
        found.dedup_by_key(|record| record.number);
        found
    };
    let more = found.len() > room;
    found.truncate(room);
    let end = found
        .last()
        .filter(|_| more)
        .map(|record| format!("c{}", record.number));
    let edges: Vec<Value> = found
        .iter()
        .map(|record| json!({ "node": node(record) }))
        .collect();
    json!({ "edges": edges, "pageInfo": { "hasNextPage": more, "endCursor": end } })
}

/// The fields of a record with its id.
fn node(record: &Record) -> Value {
    let mut node = record.fields.clone();
    node.insert("id".into(), json!(record.id));
    node.insert("updatedAt".into(), json!(record.updated_at));
    Value::Object(node)
}

/// Compares two RFC 3339 texts as instants; texts nobody can read match.
fn at_or_after(at: &str, from: &str) -> bool {
    match (
        chrono::DateTime::parse_from_rfc3339(at),
        chrono::DateTime::parse_from_rfc3339(from),
    ) {
        (Ok(at), Ok(from)) => at >= from,
        _ => true,
    }
}
