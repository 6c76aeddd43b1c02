//! A record between its page and whoever gets it.
//!
//! Most records go through as they came, or with a field looked at here and one changed there.
//! Taking each apart into values costs more than everything else that happens to it, so the records
//! of a JSON page may stay text, of which only the fields that somebody wants are taken apart.

mod page;
mod row;

use std::{borrow::Cow, io, sync::Arc};

use minijinja::value::{Enumerator, Object, Value as Jinja};
use serde_json::{Map, Value};
use sluice_core::Result;

use super::{
    edit::{ends, remove_at, set},
    extract::{glob, is_pattern},
    template::json,
};
pub use page::read;
pub use row::Row;

/// What records are wanted as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Values,
    /// Text where that is possible.
    Rows,
}

/// A record of a page.
#[derive(Debug, Clone)]
pub enum Record {
    Value(Value),
    Row(Row),
}

impl From<Map<String, Value>> for Record {
    fn from(fields: Map<String, Value>) -> Self {
        Self::Value(Value::Object(fields))
    }
}

impl Record {
    /// Whether it has fields; what a format's decoder hands out need not.
    pub fn is_mapping(&self) -> bool {
        match self {
            Self::Value(value) => value.is_object(),
            Self::Row(_) => true,
        }
    }

    pub fn into_value(self) -> Value {
        match self {
            Self::Value(value) => value,
            Self::Row(row) => Value::Object(row.to_map()),
        }
    }

    /// Its fields; none when it is no mapping.
    pub fn into_map(self) -> Map<String, Value> {
        match self {
            Self::Value(Value::Object(fields)) => fields,
            Self::Value(_) => Map::new(),
            Self::Row(row) => row.to_map(),
        }
    }

    /// A field's value.
    pub fn get(&self, field: &str) -> Option<Cow<'_, Value>> {
        match self {
            Self::Value(value) => value.get(field).map(Cow::Borrowed),
            Self::Row(row) => row.get(field),
        }
    }

    /// The value at a path through mappings.
    pub fn at(&self, path: &[String]) -> Option<Value> {
        let Some((first, rest)) = path.split_first() else {
            return Some(self.clone().into_value());
        };
        let field = self.get(first)?;
        let found = rest.iter().try_fold(&*field, |value, key| value.get(key));
        found.cloned()
    }

    /// Sets a value as [`set`] does.
    pub fn set(&mut self, path: &[String], value: Value) -> Result<()> {
        match (self, path) {
            (Self::Row(row), [last]) => row.set(last, value),
            (Self::Row(row), [first, rest @ ..]) => {
                if row.get(first).is_none_or(|child| child.is_null()) {
                    row.set(first, Value::Object(Map::new()));
                }
                if let Some(child) = row.value_mut(first) {
                    return set(child, rest, value);
                }
            }
            (Self::Value(whole), path) => return set(whole, path, value),
            (Self::Row(_), []) => {}
        }
        Ok(())
    }

    /// Removes what is at a path as [`remove_at`] does. Without a condition no value is looked at.
    pub fn remove(
        &mut self,
        pointer: &[String],
        condition: Option<&impl Fn(&Value) -> Result<bool>>,
    ) -> Result<()> {
        let remove = |value: &Value| condition.map_or(Ok(true), |condition| condition(value));
        if let Self::Value(value) = self {
            return remove_at(value, pointer, &remove);
        }
        let Some((first, rest)) = pointer.split_first() else {
            return Ok(());
        };
        if first == "**" && !rest.is_empty() {
            self.remove(rest, condition)?;
        }
        let Self::Row(row) = self else {
            return Ok(());
        };
        // `**` goes on in all there is.
        let below = if first == "**" { pointer } else { rest };
        let keys: Vec<String> = match is_pattern(first) {
            true => row
                .keys()
                .filter(|key| glob(first, key))
                .map(Cow::into_owned)
                .collect(),
            false => vec![first.clone()],
        };
        for key in keys {
            if ends(below) && condition.is_none() {
                row.remove(&key);
            } else if let Some(child) = row.value_mut(&key) {
                if ends(below) && remove(child)? {
                    row.remove(&key);
                } else if !below.is_empty() {
                    remove_at(child, below, &remove)?;
                }
            }
        }
        Ok(())
    }

    /// Writes it as JSON.
    pub fn write(&self, out: &mut impl io::Write) -> io::Result<()> {
        match self {
            Self::Value(value) => Ok(serde_json::to_writer(out, value)?),
            Self::Row(row) => row.write(out),
        }
    }

    /// What templates see: only the parts they look at are converted.
    pub fn shared(record: &Arc<Self>) -> Jinja {
        Jinja::from_dyn_object(Arc::new(Shared(Arc::clone(record))))
    }

    /// The same for one that is not needed afterwards.
    pub fn to_jinja(&self) -> Jinja {
        match self {
            Self::Value(value) => json::of(value),
            Self::Row(_) => Self::shared(&Arc::new(self.clone())),
        }
    }
}

#[derive(Debug)]
struct Shared(Arc<Record>);

impl Object for Shared {
    fn get_value(self: &Arc<Self>, key: &Jinja) -> Option<Jinja> {
        let key = key.as_str()?;
        match &*self.0 {
            Record::Value(value) => value.get(key).map(json::of),
            Record::Row(row) => row.jinja(key),
        }
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(match &*self.0 {
            Record::Value(Value::Object(fields)) => fields.keys().map(Jinja::from).collect(),
            Record::Value(_) => Vec::new(),
            Record::Row(row) => row.keys().map(Jinja::from).collect(),
        })
    }
}

#[cfg(test)]
mod tests;
