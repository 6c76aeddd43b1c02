//! The records Lessen360 holds, and its memory of idempotency keys.

use std::collections::{BTreeMap, HashMap, VecDeque};

use serde_json::{Map, Value, json};

use super::schema::Resource;

/// Most idempotency keys remembered; the oldest make room.
const MAX_KEYS: usize = 100_000;

/// One record.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub id: String,
    pub number: u64,
    pub external_id: String,
    pub status: String,
    pub version: u64,
    pub updated_at: String,
    pub fields: Map<String, Value>,
    pub writes: u64,
}

impl Record {
    /// The short answer to a write.
    pub(crate) fn receipt(&self) -> Value {
        json!({ "id": self.id, "status": self.status, "version": self.version, "updatedAt": self.updated_at })
    }

    /// The whole record.
    pub(crate) fn view(&self) -> Value {
        let mut view = Map::new();
        view.insert("id".into(), json!(self.id));
        view.extend(self.fields.clone());
        view.insert("externalId".into(), json!(self.external_id));
        view.insert("status".into(), json!(self.status));
        view.insert("version".into(), json!(self.version));
        view.insert("updatedAt".into(), json!(self.updated_at));
        Value::Object(view)
    }

    /// The record for comparers.
    pub(crate) fn truth(&self, resource: Resource) -> Value {
        let mut view = self.view();
        if let Value::Object(object) = &mut view {
            object.insert(
                "key".into(),
                json!(format!("{}:{}", resource.kind(), self.external_id)),
            );
            object.insert("writes".into(), json!(self.writes));
        }
        view
    }

    /// The caller's version of the record, from `source.version`.
    pub(crate) fn source_version(&self) -> i64 {
        source_version(&self.fields).unwrap_or(0)
    }
}

/// `source.version` of a body.
pub(crate) fn source_version(body: &Map<String, Value>) -> Option<i64> {
    body.get("source")?.get("version")?.as_i64()
}

/// The records of one resource.
#[derive(Debug, Default)]
pub(crate) struct Table {
    records: BTreeMap<u64, Record>,
    by_id: HashMap<String, u64>,
    by_external: HashMap<String, u64>,
    next: u64,
}

impl Table {
    pub(crate) fn by_id(&self, id: &str) -> Option<&Record> {
        self.records.get(self.by_id.get(id)?)
    }

    pub(crate) fn by_id_mut(&mut self, id: &str) -> Option<&mut Record> {
        self.records.get_mut(self.by_id.get(id)?)
    }

    pub(crate) fn by_external(&self, external: &str) -> Option<&Record> {
        self.records.get(self.by_external.get(external)?)
    }

    pub(crate) fn insert(
        &mut self,
        resource: Resource,
        external_id: &str,
        status: &str,
        fields: Map<String, Value>,
        now: &str,
    ) -> &Record {
        self.next += 1;
        let number = self.next;
        let id = format!("{}_{number}", resource.id_prefix());
        self.by_id.insert(id.clone(), number);
        self.by_external.insert(external_id.to_owned(), number);
        self.records.entry(number).or_insert(Record {
            id,
            number,
            external_id: external_id.to_owned(),
            status: status.to_owned(),
            version: 1,
            updated_at: now.to_owned(),
            fields,
            writes: 1,
        })
    }

    pub(crate) fn remove(&mut self, id: &str) -> bool {
        let Some(number) = self.by_id.remove(id) else {
            return false;
        };
        if let Some(record) = self.records.remove(&number) {
            self.by_external.remove(&record.external_id);
        }
        true
    }

    /// Records behind a position in the order of creation.
    pub(crate) fn after(&self, number: u64) -> impl Iterator<Item = &Record> {
        self.records.range(number + 1..).map(|(_, record)| record)
    }

    /// The id of the record at or behind a position, for picking one at random.
    pub(crate) fn id_near(&self, number: u64) -> Option<String> {
        self.records
            .range(number..)
            .next()
            .or_else(|| self.records.iter().next())
            .map(|(_, record)| record.id.clone())
    }

    pub(crate) fn last_number(&self) -> u64 {
        self.next
    }
}

/// A recorded answer.
#[derive(Debug, Clone)]
pub(crate) struct Recorded {
    pub request_hash: [u8; 32],
    pub status: u16,
    pub body: Value,
}

/// Everything Lessen360 holds.
#[derive(Debug, Default)]
pub(crate) struct Held {
    tables: [Table; 4],
    recorded: HashMap<String, Recorded>,
    recorded_order: VecDeque<String>,
    pub(crate) edits: u64,
}

impl Held {
    pub(crate) fn table(&self, resource: Resource) -> &Table {
        let [property, resident, work_order, attachment] = &self.tables;
        match resource {
            Resource::Property => property,
            Resource::Resident => resident,
            Resource::WorkOrder => work_order,
            Resource::Attachment => attachment,
        }
    }

    pub(crate) fn table_mut(&mut self, resource: Resource) -> &mut Table {
        let [property, resident, work_order, attachment] = &mut self.tables;
        match resource {
            Resource::Property => property,
            Resource::Resident => resident,
            Resource::WorkOrder => work_order,
            Resource::Attachment => attachment,
        }
    }

    pub(crate) fn recorded(&self, key: &str) -> Option<&Recorded> {
        self.recorded.get(key)
    }

    pub(crate) fn record(&mut self, key: &str, answer: Recorded) {
        if self.recorded.insert(key.to_owned(), answer).is_none() {
            self.recorded_order.push_back(key.to_owned());
        }
        if self.recorded_order.len() > MAX_KEYS
            && let Some(oldest) = self.recorded_order.pop_front()
        {
            self.recorded.remove(&oldest);
        }
    }
}
