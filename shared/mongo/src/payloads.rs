//! Payloads: storing, leasing, finishing, expiry.

use std::{collections::HashSet, time::Duration};

use bytes::Bytes;
use futures::TryStreamExt;
use mongodb::bson::{Bson, Document, doc, oid::ObjectId};
use sluice_core::{Error, Hash, OrganizationId, Result, Timestamp};
use sluice_store::{
    raw::{
        ClaimPending, FailedPayload, FailedPayloadQuery, MAX_ERRORS, NewPayload, Payload,
        PayloadId, PutPayload, RawError,
    },
    raw_codec,
};

use crate::{
    MongoRaw,
    bodies::{Place, fits},
    errors::{failed, is_duplicate_key},
    fields::{date, error_entry, object_id},
    indexes::PAYLOADS,
    payload_document::{constant_part, millis, read, read_failed, seen_part, with_body},
};

/// Most documents touched by one step of an expiry run.
const EXPIRE_BATCH: i64 = 500;

/// A file without a payload is left alone this long: its payload may be about to be written.
const ORPHAN_AGE: chrono::TimeDelta = chrono::TimeDelta::days(1);

/// Two writers of one payload collide at most once each; more is a defect.
const UPSERT_TRIES: u32 = 3;

impl MongoRaw {
    pub(crate) async fn put_one_payload(
        &self,
        mut payload: NewPayload,
        lease: Duration,
    ) -> Result<PutPayload> {
        let id = payload.id();
        let body = std::mem::take(&mut payload.body);
        let (size, hash) = (body.len(), Hash::of_bytes(&body));
        let packed = raw_codec::pack(body).await?;
        let seen = seen_part(&payload, lease);
        let constant = constant_part(&payload)?;
        let delivery = payload.delivery_id.is_some();
        if fits(&packed) {
            let constant = with_body(constant, size, hash, &Place::Inline(packed));
            return self.upsert(id, delivery, seen, constant).await;
        }
        // Rare: ask first, so that a body seen before is not uploaded again.
        if let Some(known) = self.see_known(&id, delivery, &seen).await? {
            return Ok(known);
        }
        let file = self.bodies.upload(&id.0, &Bytes::from(packed)).await?;
        let constant = with_body(constant, size, hash, &Place::File(file));
        let put = self.upsert(id, delivery, seen, constant).await?;
        if !matches!(put, PutPayload::Stored(_)) {
            self.bodies.delete(file).await?;
        }
        Ok(put)
    }

    /// Stores or sees again in one round trip.
    async fn upsert(
        &self,
        id: PayloadId,
        delivery: bool,
        mut update: Document,
        constant: Document,
    ) -> Result<PutPayload> {
        update.insert("$setOnInsert", constant);
        let mut filter = doc! { "_id": &id.0 };
        if delivery {
            // Matches nothing, so that a known delivery is refused instead of updated.
            filter.insert("kind", doc! { "$in": [] });
        }
        for _ in 0..UPSERT_TRIES {
            let updated = self.payloads.update_one(filter.clone(), update.clone());
            match updated.upsert(true).await {
                Ok(done) if done.upserted_id.is_some() => return Ok(PutPayload::Stored(id)),
                Ok(_) => return Ok(PutPayload::SeenAgain(id)),
                Err(error) if !is_duplicate_key(&error) => return Err(failed(error)),
                Err(_) if delivery => return Ok(PutPayload::Duplicate(id)),
                // Somebody stored it between the server's look and its insert.
                Err(_) => {}
            }
        }
        Err(Error::internal(
            "raw_collision",
            "a payload could not be stored because others kept storing it",
        ))
    }

    async fn see_known(
        &self,
        id: &PayloadId,
        delivery: bool,
        seen: &Document,
    ) -> Result<Option<PutPayload>> {
        let filter = doc! { "_id": &id.0 };
        if delivery {
            let found = self.payloads.find_one(filter).projection(doc! { "_id": 1 });
            let found = found.await.map_err(failed)?;
            return Ok(found.map(|_| PutPayload::Duplicate(id.clone())));
        }
        let updated = self.payloads.update_one(filter, seen.clone()).await;
        let known = updated.map_err(failed)?.matched_count > 0;
        Ok(known.then(|| PutPayload::SeenAgain(id.clone())))
    }

    pub(crate) async fn find_payload(
        &self,
        organization: OrganizationId,
        id: &PayloadId,
    ) -> Result<Option<Payload>> {
        let filter = doc! { "_id": &id.0, "organizationId": organization.0 };
        match self.payloads.find_one(filter).await.map_err(failed)? {
            Some(document) => read(document, &self.bodies).await.map(Some),
            None => Ok(None),
        }
    }

    pub(crate) async fn claim(&self, claim: &ClaimPending) -> Result<Vec<Payload>> {
        let lease_end = doc! { "$add": ["$lease.since", "$lease.millis"] };
        let abandoned = doc! {
            "syncStatus.inbound": "pending",
            "$expr": { "$lte": [lease_end, "$$NOW"] },
        };
        let oldest_first = doc! { "lastSeen": 1, "_id": 1 };
        let candidates: Vec<Document> = self
            .payloads
            .find(abandoned.clone())
            .sort(oldest_first.clone())
            .limit(i64::try_from(claim.limit.max(1)).unwrap_or(i64::MAX))
            .projection(doc! { "_id": 1 })
            .await
            .map_err(failed)?
            .try_collect()
            .await
            .map_err(failed)?;
        if candidates.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<_> = candidates
            .into_iter()
            .filter_map(|mut one| one.remove("_id"))
            .collect();
        // Each document is taken by whoever updates it first; the mark tells which ones we got.
        let mark = ObjectId::new();
        let mut filter = abandoned;
        filter.insert("_id", doc! { "$in": &ids });
        let lease = doc! {
            "owner": { "$literal": &claim.owner },
            "mark": mark,
            "since": "$$NOW",
            "millis": millis(claim.lease),
        };
        let claims = doc! { "$add": [{ "$ifNull": ["$claims", 0_i64] }, 1_i64] };
        let take = vec![doc! { "$set": { "lease": lease, "claims": claims } }];
        let taken = self
            .payloads
            .update_many(filter, take)
            .await
            .map_err(failed)?;
        if taken.modified_count == 0 {
            return Ok(Vec::new());
        }
        let mut ours = self
            .payloads
            .find(doc! { "_id": { "$in": ids }, "lease.mark": mark })
            .sort(oldest_first)
            .await
            .map_err(failed)?;
        let mut payloads = Vec::new();
        while let Some(document) = ours.try_next().await.map_err(failed)? {
            payloads.push(read(document, &self.bodies).await?);
        }
        Ok(payloads)
    }

    pub(crate) async fn finish(&self, id: &PayloadId, error: Option<&RawError>) -> Result<()> {
        let mut set = doc! { "syncStatus.inbound": "completed", "lease.owner": Bson::Null };
        if let Some(error) = error {
            let entry = doc! { "$literal": error_entry(error) };
            let keep = i32::try_from(MAX_ERRORS).unwrap_or(i32::MAX);
            let longer = doc! { "$concatArrays": ["$errorLog", [entry.clone()]] };
            set.insert("syncStatus.inbound", "failed");
            set.insert(
                "errorLog",
                doc! { "$cond": [
                    { "$in": [entry, "$errorLog"] },
                    "$errorLog",
                    { "$slice": [longer, -keep] },
                ] },
            );
        }
        let update = vec![doc! { "$set": set }];
        let done = self
            .payloads
            .update_one(doc! { "_id": &id.0 }, update)
            .await;
        done.map(drop).map_err(failed)
    }

    pub(crate) async fn failed(&self, query: &FailedPayloadQuery) -> Result<Vec<FailedPayload>> {
        let mut filter = doc! {
            "organizationId": query.organization_id.0,
            "syncStatus.inbound": "failed",
        };
        if let Some(connection) = query.connection_id {
            filter.insert("connectionId", connection.0);
        }
        if let Some(stream) = &query.stream {
            filter.insert("stream", stream);
        }
        if let Some(after) = &query.after {
            filter.insert("_id", doc! { "$gt": &after.0 });
        }
        let found: Vec<Document> = self
            .payloads
            .find(filter)
            .sort(doc! { "_id": 1 })
            .limit(i64::try_from(query.limit.clamp(1, 1000)).unwrap_or(i64::MAX))
            // The bytes may be many.
            .projection(doc! { "body.bytes": 0, "slice": 0 })
            .await
            .map_err(failed)?
            .try_collect()
            .await
            .map_err(failed)?;
        found.iter().map(read_failed).collect()
    }

    /// What the TTL index would do within a minute or so, and the bodies it does not know of.
    pub(crate) async fn expire_payloads(&self, now: Timestamp) -> Result<u64> {
        let expired = doc! {
            "expiresAfter": { "$lte": date(now) },
            "syncStatus.inbound": { "$lt": "pending" },
        };
        let mut total = 0;
        loop {
            let found: Vec<Document> = self
                .payloads
                .find(expired.clone())
                .limit(EXPIRE_BATCH)
                .projection(doc! { "body.file": 1 })
                .await
                .map_err(failed)?
                .try_collect()
                .await
                .map_err(failed)?;
            let ids: Vec<_> = found
                .iter()
                .filter_map(|one| one.get("_id").cloned())
                .collect();
            if ids.is_empty() {
                return Ok(total);
            }
            let mut filter = expired.clone();
            filter.insert("_id", doc! { "$in": &ids });
            let removed = self.payloads.delete_many(filter).await.map_err(failed)?;
            total += removed.deleted_count;
            let files: Vec<_> = found
                .iter()
                .filter_map(|one| one.get_document("body").ok()?.get_object_id("file").ok())
                .collect();
            self.delete_unused(files, ids).await?;
        }
    }

    /// Deletes the files that none of these payloads (some may have been seen again) needs.
    async fn delete_unused(&self, files: Vec<ObjectId>, ids: Vec<Bson>) -> Result<()> {
        if files.is_empty() {
            return Ok(());
        }
        let used: Vec<Document> = self
            .payloads
            .find(doc! { "_id": { "$in": ids }, "body.file": { "$exists": true } })
            .projection(doc! { "body.file": 1 })
            .await
            .map_err(failed)?
            .try_collect()
            .await
            .map_err(failed)?;
        let used: HashSet<_> = used
            .iter()
            .filter_map(|one| one.get_document("body").ok()?.get_object_id("file").ok())
            .collect();
        for file in files.into_iter().filter(|file| !used.contains(file)) {
            self.bodies.delete(file).await?;
        }
        Ok(())
    }

    /// Files left by a crash between upload and document, or by the TTL index.
    pub(crate) async fn remove_orphaned_bodies(&self, now: Timestamp) -> Result<()> {
        let pipeline = vec![
            doc! { "$match": { "uploadDate": { "$lt": date(now - ORPHAN_AGE) } } },
            doc! { "$lookup": {
                "from": PAYLOADS,
                "localField": "metadata.payloadId",
                "foreignField": "_id",
                "as": "payload",
            } },
            doc! { "$match": { "$expr": { "$not": { "$in": ["$_id", "$payload.body.file"] } } } },
            doc! { "$limit": EXPIRE_BATCH },
            doc! { "$project": { "_id": 1 } },
        ];
        let files = self
            .database
            .collection::<Document>(&format!("{}.files", crate::indexes::BODIES));
        let orphans: Vec<Document> = files
            .aggregate(pipeline)
            .await
            .map_err(failed)?
            .try_collect()
            .await
            .map_err(failed)?;
        for orphan in orphans {
            self.bodies.delete(object_id(&orphan, "_id")?).await?;
        }
        Ok(())
    }
}
