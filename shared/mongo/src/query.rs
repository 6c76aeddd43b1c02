//! Pages of raw records.

use std::collections::HashMap;

use futures::TryStreamExt;
use mongodb::bson::{Document, doc, oid::ObjectId};
use sluice_core::{ConnectionId, EntityType, Error, OrganizationId, Result};
use sluice_store::raw::{RawRecord, RawRecordPage, RawRecordQuery};

use crate::{MongoRaw, errors::failed, fields::object_id, record_document};

impl MongoRaw {
    pub(crate) async fn page(&self, query: &RawRecordQuery) -> Result<RawRecordPage> {
        query.check()?;
        let limit = query.limit.clamp(1, 1000);
        let mut after = query.after.as_deref().map(cursor).transpose()?;
        let mut records = Vec::new();
        loop {
            let (found, more) = self.scan(query, after, limit - records.len()).await?;
            let last = found.last().map(|(id, _)| *id);
            let kept = match query.newest_only {
                true => self.keep_newest(found).await?,
                false => found,
            };
            records.extend(kept.into_iter().map(|(_, record)| record));
            let next = match (more, last) {
                (true, Some(last)) => last,
                _ => {
                    return Ok(RawRecordPage {
                        records,
                        next: None,
                    });
                }
            };
            if records.len() >= limit {
                let next = Some(next.to_hex());
                return Ok(RawRecordPage { records, next });
            }
            after = Some(next);
        }
    }

    /// Up to `limit` documents in order of `_id`, and whether there are more.
    async fn scan(
        &self,
        query: &RawRecordQuery,
        after: Option<ObjectId>,
        limit: usize,
    ) -> Result<(Vec<(ObjectId, RawRecord)>, bool)> {
        let ask = i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1);
        let mut cursor = self
            .records
            .find(filter(query, after))
            .sort(doc! { "_id": 1 })
            .limit(ask)
            .batch_size(u32::try_from(ask).unwrap_or(u32::MAX))
            .await
            .map_err(failed)?;
        let mut found = Vec::new();
        while let Some(document) = cursor.try_next().await.map_err(failed)? {
            if found.len() == limit {
                return Ok((found, true));
            }
            found.push((
                object_id(&document, "_id")?,
                record_document::read(document)?,
            ));
        }
        Ok((found, false))
    }

    async fn keep_newest(
        &self,
        found: Vec<(ObjectId, RawRecord)>,
    ) -> Result<Vec<(ObjectId, RawRecord)>> {
        let mut by_owner: HashMap<(OrganizationId, ConnectionId, &EntityType), Vec<&str>> =
            HashMap::new();
        for (_, record) in &found {
            let owner = (
                record.organization_id,
                record.connection_id,
                &record.entity_type,
            );
            by_owner.entry(owner).or_default().push(&record.source_id);
        }
        let mut newest = std::collections::HashSet::new();
        for (owner, source_ids) in by_owner {
            newest.extend(self.newest(owner, source_ids).await?.into_values());
        }
        let newest = found.into_iter().filter(|(id, _)| newest.contains(id));
        Ok(newest.collect())
    }
}

fn cursor(text: &str) -> Result<ObjectId> {
    ObjectId::parse_str(text)
        .map_err(|_| Error::validation("cursor_invalid", "the cursor is not one of this store"))
}

fn filter(query: &RawRecordQuery, after: Option<ObjectId>) -> Document {
    let mut filter = Document::new();
    if let Some(organization) = query.organization_id {
        filter.insert("organizationId", organization.0);
    }
    if let Some(connection) = query.connection_id {
        filter.insert("connectionId", connection.0);
    }
    if let Some(stream) = &query.stream {
        filter.insert("stream", stream);
    }
    if let Some(entity_type) = &query.entity_type {
        filter.insert("entityType", entity_type.as_str());
    }
    if !query.source_ids.is_empty() {
        filter.insert("sourceId", doc! { "$in": &query.source_ids });
    }
    if let Some(inbound) = query.inbound {
        filter.insert("syncStatus.inbound", inbound.as_str());
    }
    if let Some(after) = after {
        filter.insert("_id", doc! { "$gt": after });
    }
    filter
}
