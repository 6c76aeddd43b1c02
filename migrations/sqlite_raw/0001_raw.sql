-- The raw store in one file: payloads as received, and the records found in them.
-- Times are microseconds since 1970, UTC.

CREATE TABLE raw_payload (
    id              TEXT PRIMARY KEY NOT NULL,
    organization_id INTEGER NOT NULL,
    connection_id   INTEGER NOT NULL,
    source_system   TEXT NOT NULL,
    kind            TEXT NOT NULL,
    stream          TEXT NOT NULL,
    slice           TEXT NOT NULL,
    content_type    TEXT,
    delivery_id     TEXT,
    run_id          INTEGER,
    traceparent     TEXT,
    received_at     INTEGER NOT NULL,
    expires_at      INTEGER,
    inbound         TEXT NOT NULL CHECK (inbound IN ('pending', 'completed', 'failed')),
    first_seen      INTEGER NOT NULL,
    last_seen       INTEGER NOT NULL,
    times_seen      INTEGER NOT NULL,
    lease_owner     TEXT,
    lease_until     INTEGER NOT NULL,
    errors          TEXT NOT NULL,
    body_size       INTEGER NOT NULL,
    body_sha256     TEXT NOT NULL,
    -- Zstandard. The last column, so that reading the others does not walk through it.
    body            BLOB NOT NULL
) STRICT;

CREATE INDEX raw_payload_pending ON raw_payload (last_seen, id) WHERE inbound = 'pending';
CREATE INDEX raw_payload_expires ON raw_payload (expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE raw_record (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    organization_id INTEGER NOT NULL,
    connection_id   INTEGER NOT NULL,
    entity_type     TEXT NOT NULL,
    source_id       TEXT NOT NULL,
    hash            TEXT NOT NULL,
    source_system   TEXT NOT NULL,
    stream          TEXT NOT NULL,
    slice           TEXT NOT NULL,
    raw             TEXT NOT NULL,
    processed       TEXT,
    payload_id      TEXT NOT NULL,
    batch_number    INTEGER NOT NULL,
    sync_date       INTEGER NOT NULL,
    version         INTEGER NOT NULL,
    inbound         TEXT NOT NULL CHECK (inbound IN ('pending', 'completed', 'failed')),
    outbound        TEXT NOT NULL,
    errors          TEXT NOT NULL,
    expires_at      INTEGER,
    -- Hash of what processing made of the record, and the place among the copies of its source id.
    outcome         TEXT NOT NULL,
    seen_order      INTEGER NOT NULL,
    UNIQUE (organization_id, connection_id, entity_type, source_id, hash)
) STRICT;

CREATE INDEX raw_record_newest
    ON raw_record (organization_id, connection_id, entity_type, source_id, seen_order, id);
CREATE INDEX raw_record_stream ON raw_record (organization_id, connection_id, stream, id);
CREATE INDEX raw_record_organization ON raw_record (organization_id, id);
CREATE INDEX raw_record_unfinished
    ON raw_record (organization_id, inbound, id) WHERE inbound <> 'completed';
CREATE INDEX raw_record_expires ON raw_record (expires_at) WHERE expires_at IS NOT NULL;
