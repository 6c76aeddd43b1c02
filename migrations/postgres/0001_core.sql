-- Organizations, connections, flows; master data, versions, links; tasks, attempts, dead letters;
-- runs, steps, activity, cursors, conflicts, idempotency. Words as in ARCHITECTURE.md.
-- The SQLite migration of the same number says the same in its dialect (times there are
-- microseconds since 1970 as integers, booleans 0 and 1, JSON as text).

create table organizations (
    id bigint generated always as identity primary key,
    slug text not null unique,
    name text not null,
    created_date timestamptz not null default now()
);

create table connections (
    id bigint generated always as identity primary key,
    organization_id bigint not null references organizations (id),
    name text not null,
    -- The connector, such as 'yardi'.
    system text not null,
    -- catalogue::ConnectionSpec; secrets are references, never values.
    spec json not null,
    enabled boolean not null default true,
    created_date timestamptz not null default now(),
    modified_date timestamptz not null default now(),
    unique (organization_id, name)
);

create table flows (
    id bigint generated always as identity primary key,
    organization_id bigint not null references organizations (id),
    name text not null,
    source_connection_id bigint not null references connections (id),
    -- catalogue::FlowSpec
    spec json not null,
    enabled boolean not null default true,
    unique (organization_id, name)
);

-- Runs.
create table sync_orchestration (
    id bigint generated always as identity primary key,
    organization_id bigint not null references organizations (id),
    flow text not null,
    connection_id bigint not null references connections (id),
    kind text not null check (kind in ('full', 'incremental', 'single', 'reprocess')),
    state text not null check (state in ('queued', 'running', 'paused', 'done', 'partial', 'failed', 'cancelled')),
    dry_run boolean not null default false,
    since timestamptz,
    record text,
    requested_by text not null,
    max_retries integer not null,
    traceparent text,
    -- run::RunCounts, one column each.
    read_count bigint not null default 0,
    stored_count bigint not null default 0,
    created_count bigint not null default 0,
    updated_count bigint not null default 0,
    deleted_count bigint not null default 0,
    unchanged_count bigint not null default 0,
    stale_count bigint not null default 0,
    conflict_count bigint not null default 0,
    rejected_count bigint not null default 0,
    skipped_count bigint not null default 0,
    byte_count bigint not null default 0,
    call_count bigint not null default 0,
    error_message text,
    created_date timestamptz not null default now(),
    started_date timestamptz,
    finished_date timestamptz
);
create index sync_orchestration_list on sync_orchestration (organization_id, id desc);
create index sync_orchestration_open on sync_orchestration (organization_id) where state in ('queued', 'running', 'paused');

create table sync_orchestration_steps (
    run_id bigint not null references sync_orchestration (id) on delete cascade,
    number integer not null,
    stream text not null,
    state text not null check (state in ('pending', 'running', 'done', 'failed', 'cancelled')),
    started_date timestamptz,
    finished_date timestamptz,
    primary key (run_id, number)
);

create table sync_activity_log (
    id bigint generated always as identity primary key,
    organization_id bigint not null references organizations (id),
    run_id bigint references sync_orchestration (id) on delete cascade,
    event text not null,
    detail text not null,
    created_date timestamptz not null default now()
);
create index sync_activity_log_run on sync_activity_log (run_id, id);

create table sync_idempotency_log (
    organization_id bigint not null references organizations (id),
    idempotency_key text not null,
    run_id bigint not null references sync_orchestration (id) on delete cascade,
    created_date timestamptz not null default now(),
    primary key (organization_id, idempotency_key)
);

-- Master data (requirement 002, section 4.1, completed).
create table sync_master_data (
    id bigint generated always as identity primary key,
    organization_id bigint not null references organizations (id),
    entity_type text not null,
    -- Our reference, planted at targets: connection name and source id.
    entity_id text not null,
    source_connection_id bigint not null references connections (id),
    source_system text not null,
    source_id text not null,
    -- Hash of the newest version: 64 hex digits.
    data_hash text not null,
    current_version integer not null,
    deleted boolean not null default false,
    -- [{"entity_type", "source_id"}] of the same source connection.
    parents json not null,
    -- Derived from the record's push tasks.
    sync_status text not null default 'pending' check (sync_status in ('pending', 'synced', 'failed', 'retry')),
    last_sync_attempt timestamptz,
    sync_attempt_count integer not null default 0,
    error_message text,
    created_date timestamptz not null default now(),
    modified_date timestamptz not null default now(),
    unique (organization_id, entity_type, entity_id),
    unique (source_connection_id, entity_type, source_id)
) with (fillfactor = 80);

create table data_versions (
    master_data_id bigint not null references sync_master_data (id),
    version_number integer not null,
    -- Text form is kept as written, so that its hash can be checked.
    data_snapshot json not null,
    data_hash text not null,
    change_type text not null check (change_type in ('create', 'update', 'delete', 'restore')),
    run_id bigint,
    created_date timestamptz not null default now(),
    primary key (master_data_id, version_number)
);

-- One master record's counterpart at one connection, source or target.
create table links (
    master_data_id bigint not null references sync_master_data (id),
    connection_id bigint not null references connections (id),
    organization_id bigint not null,
    entity_type text not null,
    external_id text,
    last_seen_hash text,
    last_seen_modified timestamptz,
    last_seen_date timestamptz,
    -- The version both sides last agreed on (the base); its content is in data_versions unless
    -- the target keeps another form.
    base_version integer,
    base_snapshot json,
    pushed_version integer,
    pushed_hash text,
    pushed_date timestamptz,
    primary key (master_data_id, connection_id)
) with (fillfactor = 80);
create index links_external on links (connection_id, entity_type, external_id);

-- Tasks (requirement 002 names, completed). States: core::task::TaskState.
create table sync_queue (
    id bigint generated always as identity primary key,
    organization_id bigint not null,
    kind text not null check (kind in ('pull', 'push')),
    -- The source of a pull, the target of a push.
    connection_id bigint not null references connections (id),
    -- Name of the target connection; null for pulls.
    target_system text,
    master_data_id bigint references sync_master_data (id),
    entity_type text,
    run_id bigint references sync_orchestration (id) on delete cascade,
    step integer,
    -- task::PullSpec
    spec json,
    progress json,
    priority smallint not null default 5 check (priority between 1 and 10),
    state text not null check (state in ('pending', 'staged', 'running', 'waiting', 'completed', 'dead', 'cancelled', 'unknown')),
    -- The newest version to deliver, and how often one was wanted.
    wanted_version integer,
    wanted_count integer not null default 1,
    -- The version that the running claim intends to send, or may have sent without our knowing.
    intent_version integer,
    -- The oldest version that an earlier claim may have sent without our knowing. A claim moves an
    -- intent that is still there to here; a delivery clears both.
    unsettled_version integer,
    delivered_version integer,
    retry_count integer not null default 0,
    max_retries integer not null default 3,
    next_retry_time timestamptz,
    -- '{source connection}/{entity type}/{source id}' of the parent it waits for.
    blocked_on text,
    staged_date timestamptz,
    lease_owner text,
    lease_epoch bigint not null default 0,
    lease_until timestamptz,
    error_class text,
    error_code text,
    error_message text,
    traceparent text,
    -- Moves with every change of a push's outcome (next_change); read by the mirror of outbound
    -- states.
    change_sequence bigint,
    created_date timestamptz not null default now(),
    modified_date timestamptz not null default now(),
    check ((kind = 'push') = (master_data_id is not null)),
    check ((kind = 'pull') = (run_id is not null))
) with (fillfactor = 70);
create unique index sync_queue_push on sync_queue (master_data_id, connection_id) where kind = 'push';
create index sync_queue_pending on sync_queue (connection_id, kind, priority, id) where state = 'pending';
create index sync_queue_staged on sync_queue (staged_date) where state = 'staged';
create index sync_queue_leases on sync_queue (lease_until) where state = 'running';
create index sync_queue_due on sync_queue (next_retry_time) where state = 'waiting';
create index sync_queue_blocked on sync_queue (connection_id, blocked_on) where blocked_on is not null;
create index sync_queue_run on sync_queue (run_id, step) where run_id is not null;
create index sync_queue_changes on sync_queue (change_sequence) where change_sequence is not null;
-- The next value of change_sequence. Transactions commit in another order than they draw numbers
-- from a sequence, so a reader could step over a change that commits late. These numbers begin with
-- the transaction's id, and readers stop below the oldest transaction that still runs.
-- place: unique within the transaction, below 2^20.
create function next_change(place bigint) returns bigint language sql volatile as
    'select (pg_current_xact_id()::text::bigint << 20) + place';

create table task_attempts (
    task_id bigint not null references sync_queue (id) on delete cascade,
    number integer not null,
    version integer,
    outcome text not null check (outcome in ('completed', 'retry_at', 'snoozed', 'dead', 'cancelled', 'unknown')),
    action text check (action in ('created', 'updated', 'deleted', 'linked', 'skipped')),
    started_date timestamptz not null,
    duration_ms bigint not null,
    calls integer not null,
    error_class text,
    error_code text,
    error_message text,
    http_status integer,
    worker text not null,
    trace_id text,
    primary key (task_id, number)
);

create table dead_letters (
    id bigint generated always as identity primary key,
    organization_id bigint not null,
    connection_id bigint not null references connections (id),
    target text not null,
    task_id bigint not null references sync_queue (id),
    master_data_id bigint not null references sync_master_data (id),
    entity_type text not null,
    entity_id text not null,
    version integer not null,
    state text not null default 'open' check (state in ('open', 'replaying', 'resolved', 'discarded')),
    error_class text not null,
    error_code text not null,
    error_message text not null,
    http_status integer,
    attempts integer not null,
    first_date timestamptz not null,
    last_date timestamptz not null,
    actor text,
    note text,
    trace_id text,
    -- A reference message is in the broker's dead-letter queue.
    mirrored boolean not null default false
);
create index dead_letters_list on dead_letters (organization_id, id desc);
create unique index dead_letters_open on dead_letters (task_id) where state in ('open', 'replaying');
create index dead_letters_unmirrored on dead_letters (id) where not mirrored;

-- Cursors of incremental reading, per stream and partition.
create table sync_state (
    connection_id bigint not null references connections (id),
    stream text not null,
    partition text not null,
    state json not null,
    modified_date timestamptz not null default now(),
    primary key (connection_id, stream, partition)
);

create table reader_cursors (
    reader text primary key,
    cursor bigint not null
);

-- Both sides changed since they last agreed.
create table sync_conflict (
    id bigint generated always as identity primary key,
    organization_id bigint not null references organizations (id),
    master_data_id bigint not null references sync_master_data (id),
    connection_id bigint not null references connections (id),
    run_id bigint,
    state text not null default 'open' check (state in ('open', 'resolved', 'outdated')),
    base_version integer,
    master_version integer not null,
    inbound_hash text not null,
    inbound_snapshot json not null,
    inbound_modified timestamptz,
    resolution text,
    resolved_by text,
    resolved_date timestamptz,
    created_date timestamptz not null default now()
);
create unique index sync_conflict_open on sync_conflict (master_data_id, connection_id) where state = 'open';
create index sync_conflict_list on sync_conflict (organization_id, state, id);
