//! Bodies: inside the payload's document when they fit, else in the GridFS bucket `raw_bodies`.

use futures::{AsyncReadExt, AsyncWriteExt};
use mongodb::{
    Database,
    bson::{Binary, Bson, Document, doc, oid::ObjectId, spec::BinarySubtype},
    gridfs::GridFsBucket,
    options::GridFsBucketOptions,
};
use sluice_core::{Error, Result};

use crate::{
    errors::{damaged, failed},
    fields,
    indexes::BODIES,
};

/// Largest compressed body kept inside the document. The server's limit is 16 MiB for the whole.
const INLINE_LIMIT: usize = 12 * 1024 * 1024;

/// GridFS chunks; fewer and larger than the default 255 KiB, since bodies are read whole.
const CHUNK: u32 = 4 * 1024 * 1024;

pub(crate) struct Bodies {
    bucket: GridFsBucket,
}

/// Where a compressed body is kept.
pub(crate) enum Place {
    Inline(Vec<u8>),
    File(ObjectId),
}

impl Place {
    pub(crate) fn to_bson(&self) -> (&'static str, Bson) {
        match self {
            Self::Inline(bytes) => (
                "bytes",
                Bson::Binary(Binary {
                    subtype: BinarySubtype::Generic,
                    bytes: bytes.clone(),
                }),
            ),
            Self::File(id) => ("file", Bson::ObjectId(*id)),
        }
    }
}

pub(crate) fn fits(packed: &[u8]) -> bool {
    packed.len() <= INLINE_LIMIT
}

impl Bodies {
    pub(crate) fn new(database: &Database) -> Self {
        let options = GridFsBucketOptions::builder()
            .bucket_name(BODIES.to_owned())
            .chunk_size_bytes(CHUNK)
            .build();
        Self {
            bucket: database.gridfs_bucket(options),
        }
    }

    pub(crate) async fn upload(&self, payload_id: &str, packed: &[u8]) -> Result<ObjectId> {
        let id = ObjectId::new();
        let mut stream = self
            .bucket
            .open_upload_stream(payload_id)
            .id(id.into())
            .metadata(doc! { "payloadId": payload_id })
            .await
            .map_err(failed)?;
        let refused = |error: std::io::Error| {
            Error::internal("mongo_failed", "a large body could not be stored")
                .caused_by(std::io::Error::from(error.kind()))
        };
        stream.write_all(packed).await.map_err(refused)?;
        stream.close().await.map_err(refused)?;
        Ok(id)
    }

    /// The compressed bytes that a payload's `body` field tells of.
    pub(crate) async fn fetch(&self, body: &Document) -> Result<Vec<u8>> {
        if let Ok(bytes) = body.get_binary_generic("bytes") {
            return Ok(bytes.clone());
        }
        let id = fields::object_id(body, "file")?;
        let mut stream = self
            .bucket
            .open_download_stream(id.into())
            .await
            .map_err(failed)?;
        let mut packed = Vec::new();
        let read = stream.read_to_end(&mut packed).await;
        read.map_err(|_| damaged("body.file"))?;
        Ok(packed)
    }

    /// Removes a file; one that is gone already is fine.
    pub(crate) async fn delete(&self, id: ObjectId) -> Result<()> {
        match self.bucket.delete(id.into()).await {
            Ok(()) => Ok(()),
            Err(error) => match &*error.kind {
                mongodb::error::ErrorKind::GridFs(_) => Ok(()),
                _ => Err(failed(error)),
            },
        }
    }
}
