//! Raw records: batches in, marks, expiry.

use std::collections::HashMap;

use futures::TryStreamExt;
use mongodb::bson::{Document, doc, oid::ObjectId};
use sluice_core::{ConnectionId, EntityType, Error, OrganizationId, Result, Timestamp};
use sluice_store::raw::{OutboundMark, PutRecords, RawRecord, seen_order};

use crate::{
    MongoRaw,
    errors::{damaged, duplicates, failed},
    fields::{date, object_id, optional_date, part, text},
    record_document::{new, outcome_part, target_key},
};

/// Most bytes of updates sent as one command; the server's limit is 48 MB.
const UPDATE_BATCH: usize = 16_000_000;

/// More than any batch has, so that one reply brings all; the server's own first reply has 101.
const ONE_REPLY: u32 = 2_000;

/// Whose records they are: the fields that a batch usually has in common.
type Owner<'a> = (OrganizationId, ConnectionId, &'a EntityType);

/// A known record of a batch.
struct Known {
    id: ObjectId,
    outcome: String,
}

/// One record of a batch with what was computed for it.
struct Item<'a> {
    record: &'a RawRecord,
    outcome: String,
    seen_order: i64,
}

impl MongoRaw {
    pub(crate) async fn put_batch(&self, records: &[RawRecord]) -> Result<PutRecords> {
        let mut put = PutRecords::default();
        let mut items: Vec<_> = records
            .iter()
            .zip(seen_order(records))
            .map(|(record, seen_order)| Item {
                record,
                outcome: record.outcome().to_hex(),
                seen_order,
            })
            .collect();
        // More than one round only when others store the same records at the same moment.
        while !items.is_empty() {
            items = self.put_round(items, &mut put).await?;
        }
        Ok(put)
    }

    /// Stores a batch; returns the records that somebody else inserted in between.
    async fn put_round<'a>(
        &self,
        items: Vec<Item<'a>>,
        put: &mut PutRecords,
    ) -> Result<Vec<Item<'a>>> {
        let mut known = self.find_known(&items).await?;
        let (mut fresh, mut seen, mut changed) = (Vec::new(), Vec::new(), Vec::new());
        for item in items {
            let key = (
                owner(item.record),
                item.record.source_id.clone(),
                item.record.hash.to_hex(),
            );
            match known.remove(&key) {
                None => fresh.push(item),
                Some(known) if known.outcome == item.outcome => seen.push((known.id, item)),
                Some(known) => changed.push((known.id, item)),
            }
        }
        self.see_again(&seen).await?;
        put.seen_again += seen.len() as u64;
        self.change(&changed).await?;
        put.changed += changed.len() as u64;
        let count = fresh.len();
        let collided = self.insert(fresh).await?;
        put.new += (count - collided.len()) as u64;
        Ok(collided)
    }

    async fn find_known<'a>(
        &self,
        items: &[Item<'a>],
    ) -> Result<HashMap<(Owner<'a>, String, String), Known>> {
        let mut by_owner: HashMap<Owner<'a>, (Vec<&str>, Vec<String>)> = HashMap::new();
        for item in items {
            let (ids, hashes) = by_owner.entry(owner(item.record)).or_default();
            ids.push(&item.record.source_id);
            hashes.push(item.record.hash.to_hex());
        }
        let mut known = HashMap::new();
        for (owner, (ids, hashes)) in by_owner {
            let mut filter = owned_by(owner);
            filter.insert("sourceId", doc! { "$in": ids });
            filter.insert("metadata.hash", doc! { "$in": hashes });
            let mut found = self
                .records
                .find(filter)
                .projection(doc! { "sourceId": 1, "metadata.hash": 1, "outcome": 1 })
                .batch_size(ONE_REPLY)
                .await
                .map_err(failed)?;
            while let Some(document) = found.try_next().await.map_err(failed)? {
                let hash = text(part(&document, "metadata")?, "hash")?;
                let one = Known {
                    id: object_id(&document, "_id")?,
                    outcome: text(&document, "outcome")?,
                };
                known.insert((owner, text(&document, "sourceId")?, hash), one);
            }
        }
        Ok(known)
    }

    /// Inserts and returns those that were there already.
    async fn insert<'a>(&self, items: Vec<Item<'a>>) -> Result<Vec<Item<'a>>> {
        if items.is_empty() {
            return Ok(items);
        }
        let documents: Vec<_> = items
            .iter()
            .map(|item| new(item.record, &item.outcome, item.seen_order))
            .collect::<Result<_>>()?;
        let inserted = self.raw_records.insert_many(documents).ordered(false).await;
        let Err(error) = inserted else {
            return Ok(Vec::new());
        };
        let Some(places) = duplicates(&error) else {
            return Err(failed(error));
        };
        let collided = items
            .into_iter()
            .enumerate()
            .filter_map(|(place, item)| places.contains(&place).then_some(item));
        Ok(collided.collect())
    }

    /// Moves last-seen. Records of a batch share their dates, so this is one call almost always.
    async fn see_again(&self, seen: &[(ObjectId, Item<'_>)]) -> Result<()> {
        let mut alike: HashMap<_, Vec<ObjectId>> = HashMap::new();
        for (id, item) in seen {
            let dates = (
                item.seen_order,
                item.record.sync_date,
                item.record.expires_at,
            );
            alike.entry(dates).or_default().push(*id);
        }
        for ((seen_order, sync_date, expires_at), ids) in alike {
            let mut max = doc! { "seenOrder": seen_order, "lastSeen": date(sync_date) };
            if expires_at.is_some() {
                max.insert("expiresAfter", optional_date(expires_at));
            }
            let update = doc! { "$max": max };
            let updated = self
                .records
                .update_many(doc! { "_id": { "$in": ids } }, update)
                .await;
            updated.map_err(failed)?;
        }
        Ok(())
    }

    /// Replaces outcomes: one command of many updates, since each differs.
    async fn change(&self, changed: &[(ObjectId, Item<'_>)]) -> Result<()> {
        let (mut updates, mut bytes) = (Vec::new(), 0);
        for (id, item) in changed {
            let set = outcome_part(item.record, &item.outcome)?;
            let mut update = Document::new();
            if item.record.processed.is_none() {
                update.insert("$unset", doc! { "processedData": "" });
            }
            let latest =
                doc! { "seenOrder": item.seen_order, "lastSeen": date(item.record.sync_date) };
            update.insert("$max", latest);
            bytes += set.as_bytes().len();
            let set = Document::try_from(&set).map_err(|_| damaged("rawData"))?;
            update.insert("$set", set);
            updates.push(doc! { "q": { "_id": id }, "u": update });
            if bytes > UPDATE_BATCH {
                self.update_all(std::mem::take(&mut updates)).await?;
                bytes = 0;
            }
        }
        self.update_all(updates).await
    }

    /// One `update` command. The driver's own bulk write needs server 8.0.
    async fn update_all(&self, updates: Vec<Document>) -> Result<()> {
        if updates.is_empty() {
            return Ok(());
        }
        let concern = self.records.write_concern().cloned().unwrap_or_default();
        let concern =
            mongodb::bson::serialize_to_bson(&concern).map_err(|_| damaged("writeConcern"))?;
        let answer = self
            .database
            .run_command(doc! {
                "update": self.records.name(),
                "updates": updates,
                "ordered": false,
                "writeConcern": concern,
            })
            .await
            .map_err(failed)?;
        for (field, code) in [
            ("writeErrors", "mongo_failed"),
            ("writeConcernError", "mongo_no_majority"),
        ] {
            if answer.contains_key(field) {
                return Err(Error::internal(
                    code,
                    "MongoDB did not carry out all updates of a batch",
                ));
            }
        }
        Ok(())
    }

    /// Ids of the newest document of each source id, among those of one owner.
    pub(crate) async fn newest(
        &self,
        owner: Owner<'_>,
        source_ids: Vec<&str>,
    ) -> Result<HashMap<String, ObjectId>> {
        let mut filter = owned_by(owner);
        filter.insert("sourceId", doc! { "$in": source_ids });
        let latest = doc! { "$max": { "order": "$seenOrder", "id": "$_id" } };
        let pipeline = vec![
            doc! { "$match": filter },
            doc! { "$project": { "sourceId": 1, "seenOrder": 1 } },
            doc! { "$group": { "_id": "$sourceId", "latest": latest } },
        ];
        let groups = self.records.aggregate(pipeline).batch_size(ONE_REPLY);
        let mut groups = groups.await.map_err(failed)?;
        let mut newest = HashMap::new();
        while let Some(group) = groups.try_next().await.map_err(failed)? {
            let id = object_id(part(&group, "latest")?, "id")?;
            newest.insert(text(&group, "_id")?, id);
        }
        Ok(newest)
    }

    pub(crate) async fn mark(&self, marks: &[OutboundMark]) -> Result<()> {
        let mut by_owner: HashMap<Owner<'_>, Vec<&OutboundMark>> = HashMap::new();
        for mark in marks {
            let owner = (mark.organization_id, mark.connection_id, &mark.entity_type);
            by_owner.entry(owner).or_default().push(mark);
        }
        for (owner, marks) in by_owner {
            let ids = marks.iter().map(|mark| mark.source_id.as_str()).collect();
            let newest = self.newest(owner, ids).await?;
            // The last mark of a record and target counts.
            let mut last = HashMap::new();
            for mark in marks {
                if let Some(id) = newest.get(&mark.source_id) {
                    last.insert((id, &mark.target), mark.state);
                }
            }
            let mut alike: HashMap<_, Vec<&ObjectId>> = HashMap::new();
            for ((id, target), state) in last {
                alike.entry((target, state)).or_default().push(id);
            }
            for ((target, state), ids) in alike {
                let field = format!("syncStatus.outbound.{}", target_key(target));
                let update = doc! { "$set": { field: state.as_str() } };
                let updated = self
                    .records
                    .update_many(doc! { "_id": { "$in": ids } }, update);
                updated.await.map_err(failed)?;
            }
        }
        Ok(())
    }

    /// What the TTL index would do within a minute or so.
    pub(crate) async fn expire_records(&self, now: Timestamp) -> Result<u64> {
        let expired = doc! { "expiresAfter": { "$lte": date(now) } };
        let removed = self.records.delete_many(expired).await.map_err(failed)?;
        Ok(removed.deleted_count)
    }
}

fn owner(record: &RawRecord) -> Owner<'_> {
    (
        record.organization_id,
        record.connection_id,
        &record.entity_type,
    )
}

fn owned_by((organization, connection, entity_type): Owner<'_>) -> Document {
    doc! {
        "organizationId": organization.0,
        "connectionId": connection.0,
        "entityType": entity_type.as_str(),
    }
}
