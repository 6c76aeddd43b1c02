//! The records ONE holds.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value, json};

use super::schema::Entity;

/// One record.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub id: String,
    /// Order of creation, for cursors.
    pub number: u64,
    pub fields: Map<String, Value>,
    pub created_at: String,
    pub updated_at: String,
    pub writes: u64,
}

/// The records of one entity.
#[derive(Debug, Default)]
pub(crate) struct Table {
    by_key: HashMap<String, Record>,
    order: BTreeMap<u64, String>,
    next: u64,
}

impl Table {
    pub(crate) fn get(&self, key: &str) -> Option<&Record> {
        self.by_key.get(key)
    }

    pub(crate) fn get_mut(&mut self, key: &str) -> Option<&mut Record> {
        self.by_key.get_mut(key)
    }

    pub(crate) fn insert(
        &mut self,
        entity: Entity,
        key: &str,
        fields: Map<String, Value>,
        now: &str,
    ) -> String {
        self.next += 1;
        let id = format!("{}_{}", entity.id_prefix(), self.next);
        let record = Record {
            id: id.clone(),
            number: self.next,
            fields,
            created_at: now.to_owned(),
            updated_at: now.to_owned(),
            writes: 1,
        };
        self.order.insert(self.next, key.to_owned());
        self.by_key.insert(key.to_owned(), record);
        id
    }

    pub(crate) fn remove(&mut self, key: &str) {
        if let Some(record) = self.by_key.remove(key) {
            self.order.remove(&record.number);
        }
    }

    /// Records behind a position in the order of creation.
    pub(crate) fn after(&self, number: u64) -> impl Iterator<Item = &Record> {
        self.order
            .range(number + 1..)
            .filter_map(|(_, key)| self.by_key.get(key))
    }

    /// The key of the record at or behind a position, for picking one at random.
    pub(crate) fn key_near(&self, number: u64) -> Option<&String> {
        self.order
            .range(number..)
            .next()
            .or_else(|| self.order.iter().next())
            .map(|(_, key)| key)
    }

    pub(crate) fn last_number(&self) -> u64 {
        self.next
    }
}

/// Everything ONE holds.
#[derive(Debug, Default)]
pub(crate) struct Held {
    tables: [Table; 4],
    /// File names per work order, for numbering repeated ones.
    pub(crate) file_names: HashMap<String, Vec<String>>,
    pub(crate) mutations: u64,
    pub(crate) edits: u64,
}

impl Held {
    pub(crate) fn table(&self, entity: Entity) -> &Table {
        let [location, resident, request, attachment] = &self.tables;
        match entity {
            Entity::Location => location,
            Entity::Resident => resident,
            Entity::ServiceRequest => request,
            Entity::Attachment => attachment,
        }
    }

    pub(crate) fn table_mut(&mut self, entity: Entity) -> &mut Table {
        let [location, resident, request, attachment] = &mut self.tables;
        match entity {
            Entity::Location => location,
            Entity::Resident => resident,
            Entity::ServiceRequest => request,
            Entity::Attachment => attachment,
        }
    }
}

impl Record {
    /// The record for comparers.
    pub(crate) fn truth(&self, entity: Entity) -> Value {
        let mut value = Value::Object(self.fields.clone());
        let key = self
            .fields
            .get(entity.key())
            .and_then(Value::as_str)
            .unwrap_or("");
        if let Value::Object(object) = &mut value {
            object.insert("key".into(), json!(format!("{}:{key}", entity.kind())));
            object.insert("id".into(), json!(self.id));
            object.insert("createdAt".into(), json!(self.created_at));
            object.insert("updatedAt".into(), json!(self.updated_at));
            object.insert("writes".into(), json!(self.writes));
        }
        value
    }
}
