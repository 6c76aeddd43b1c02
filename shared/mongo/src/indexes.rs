//! Collections and the indexes behind every query.

use std::time::Duration;

use mongodb::{
    Database, IndexModel,
    bson::{Document, doc},
    options::IndexOptions,
};

pub(crate) const PAYLOADS: &str = "raw_payloads";
pub(crate) const RECORDS: &str = "raw_records";
pub(crate) const BODIES: &str = "raw_bodies";

/// Creates what is missing; existing indexes of the same shape are left alone.
pub(crate) async fn create(database: &Database) -> mongodb::error::Result<()> {
    let payloads = database.collection::<Document>(PAYLOADS);
    payloads.create_indexes(payload_indexes()).await?;
    let records = database.collection::<Document>(RECORDS);
    records.create_indexes(record_indexes()).await?;
    // For finding bodies whose payload has expired; the driver makes the bucket's own indexes.
    let bodies = database.collection::<Document>(&format!("{BODIES}.files"));
    let by_date = index(doc! { "uploadDate": 1 }, IndexOptions::default());
    bodies.create_index(by_date).await?;
    Ok(())
}

fn payload_indexes() -> Vec<IndexModel> {
    // "completed" and "failed" sort before "pending". Partial indexes know `$lt` on every version,
    // `$in` only since 6.0.
    let settled = doc! { "syncStatus.inbound": { "$lt": "pending" } };
    vec![
        index(
            doc! { "lastSeen": 1, "_id": 1 },
            partial(doc! { "syncStatus.inbound": "pending" }),
        ),
        index(
            doc! { "expiresAfter": 1 },
            IndexOptions::builder()
                .expire_after(Duration::ZERO)
                .partial_filter_expression(settled)
                .build(),
        ),
        // Those that nobody could read: few, and people look for them.
        index(
            doc! { "organizationId": 1, "_id": 1 },
            partial(doc! { "syncStatus.inbound": "failed" }),
        ),
    ]
}

fn record_indexes() -> Vec<IndexModel> {
    let identity = doc! {
        "organizationId": 1, "connectionId": 1, "entityType": 1, "sourceId": 1, "metadata.hash": 1,
    };
    vec![
        // Also finds a source id's newest copy, among its few. An index by `seenOrder` would be
        // written to by each record that is seen again.
        index(identity, IndexOptions::builder().unique(true).build()),
        index(
            doc! { "organizationId": 1, "connectionId": 1, "stream": 1, "_id": 1 },
            IndexOptions::default(),
        ),
        index(
            doc! { "organizationId": 1, "_id": 1 },
            IndexOptions::default(),
        ),
        // The review list: what is not completed is little.
        index(
            doc! { "organizationId": 1, "syncStatus.inbound": 1, "_id": 1 },
            partial(doc! { "syncStatus.inbound": { "$gt": "completed" } }),
        ),
        index(
            doc! { "expiresAfter": 1 },
            IndexOptions::builder().expire_after(Duration::ZERO).build(),
        ),
    ]
}

fn index(keys: Document, options: IndexOptions) -> IndexModel {
    IndexModel::builder().keys(keys).options(options).build()
}

fn partial(filter: Document) -> IndexOptions {
    IndexOptions::builder()
        .partial_filter_expression(filter)
        .build()
}
