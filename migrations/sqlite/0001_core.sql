-- Organizations, connections, flows; master data, versions, links; tasks, attempts, dead letters;
-- runs, steps, activity, cursors, conflicts, idempotency. Words as in ARCHITECTURE.md.
-- The PostgreSQL migration of the same number says the same in its dialect. Here times are
-- microseconds since 1970 as integers, booleans 0 and 1, JSON is text.

create table organizations (
    id integer primary key autoincrement,
    slug text not null unique,
    name text not null,
    created_date integer not null
) strict;

create table connections (
    id integer primary key autoincrement,
    organization_id integer not null references organizations (id),
    name text not null,
    -- The connector, such as 'yardi'.
    system text not null,
    -- catalogue::ConnectionSpec; secrets are references, never values.
    spec text not null check (json_valid(spec)),
    enabled integer not null default 1 check (enabled in (0, 1)),
    created_date integer not null,
    modified_date integer not null,
    unique (organization_id, name)
) strict;

create table flows (
    id integer primary key autoincrement,
    organization_id integer not null references organizations (id),
    name text not null,
    source_connection_id integer not null references connections (id),
    -- catalogue::FlowSpec
    spec text not null check (json_valid(spec)),
    enabled integer not null default 1 check (enabled in (0, 1)),
    unique (organization_id, name)
) strict;

-- Runs.
create table sync_orchestration (
    id integer primary key autoincrement,
    organization_id integer not null references organizations (id),
    flow text not null,
    connection_id integer not null references connections (id),
    kind text not null check (kind in ('full', 'incremental', 'single', 'reprocess')),
    state text not null check (state in ('queued', 'running', 'paused', 'done', 'partial', 'failed', 'cancelled')),
    dry_run integer not null default 0 check (dry_run in (0, 1)),
    since integer,
    record text,
    requested_by text not null,
    max_retries integer not null,
    traceparent text,
    -- run::RunCounts, one column each.
    read_count integer not null default 0,
    stored_count integer not null default 0,
    created_count integer not null default 0,
    updated_count integer not null default 0,
    deleted_count integer not null default 0,
    unchanged_count integer not null default 0,
    stale_count integer not null default 0,
    conflict_count integer not null default 0,
    rejected_count integer not null default 0,
    skipped_count integer not null default 0,
    byte_count integer not null default 0,
    call_count integer not null default 0,
    error_message text,
    created_date integer not null,
    started_date integer,
    finished_date integer
) strict;
create index sync_orchestration_list on sync_orchestration (organization_id, id desc);
create index sync_orchestration_open on sync_orchestration (organization_id) where state in ('queued', 'running', 'paused');

create table sync_orchestration_steps (
    run_id integer not null references sync_orchestration (id) on delete cascade,
    number integer not null,
    stream text not null,
    state text not null check (state in ('pending', 'running', 'done', 'failed', 'cancelled')),
    started_date integer,
    finished_date integer,
    primary key (run_id, number)
) strict;

create table sync_activity_log (
    id integer primary key autoincrement,
    organization_id integer not null references organizations (id),
    run_id integer references sync_orchestration (id) on delete cascade,
    event text not null,
    detail text not null,
    created_date integer not null
) strict;
create index sync_activity_log_run on sync_activity_log (run_id, id);

create table sync_idempotency_log (
    organization_id integer not null references organizations (id),
    idempotency_key text not null,
    run_id integer not null references sync_orchestration (id) on delete cascade,
    created_date integer not null,
    primary key (organization_id, idempotency_key)
) strict;

-- Master data (requirement 002, section 4.1, completed).
create table sync_master_data (
    id integer primary key autoincrement,
    organization_id integer not null references organizations (id),
    entity_type text not null,
    -- Our reference, planted at targets: connection name and source id.
    entity_id text not null,
    source_connection_id integer not null references connections (id),
    source_system text not null,
    source_id text not null,
    -- Hash of the newest version: 64 hex digits.
    data_hash text not null,
    current_version integer not null,
    deleted integer not null default 0 check (deleted in (0, 1)),
    -- [{"entity_type", "source_id"}] of the same source connection.
    parents text not null check (json_valid(parents)),
    -- Derived from the record's push tasks.
    sync_status text not null default 'pending' check (sync_status in ('pending', 'synced', 'failed', 'retry')),
    last_sync_attempt integer,
    sync_attempt_count integer not null default 0,
    error_message text,
    created_date integer not null,
    modified_date integer not null,
    unique (organization_id, entity_type, entity_id),
    unique (source_connection_id, entity_type, source_id)
) strict;

create table data_versions (
    master_data_id integer not null references sync_master_data (id),
    version_number integer not null,
    -- Text form is kept as written, so that its hash can be checked.
    data_snapshot text not null check (json_valid(data_snapshot)),
    data_hash text not null,
    change_type text not null check (change_type in ('create', 'update', 'delete', 'restore')),
    run_id integer,
    created_date integer not null,
    primary key (master_data_id, version_number)
) strict;

-- One master record's counterpart at one connection, source or target.
create table links (
    master_data_id integer not null references sync_master_data (id),
    connection_id integer not null references connections (id),
    organization_id integer not null,
    entity_type text not null,
    external_id text,
    last_seen_hash text,
    last_seen_modified integer,
    last_seen_date integer,
    -- The version both sides last agreed on (the base); its content is in data_versions unless
    -- the target keeps another form.
    base_version integer,
    base_snapshot text check (json_valid(base_snapshot)),
    pushed_version integer,
    pushed_hash text,
    pushed_date integer,
    primary key (master_data_id, connection_id)
) strict;
create index links_external on links (connection_id, entity_type, external_id);

-- Tasks (requirement 002 names, completed). States: core::task::TaskState.
create table sync_queue (
    id integer primary key autoincrement,
    organization_id integer not null,
    kind text not null check (kind in ('pull', 'push')),
    -- The source of a pull, the target of a push.
    connection_id integer not null references connections (id),
    -- Name of the target connection; null for pulls.
    target_system text,
    master_data_id integer references sync_master_data (id),
    entity_type text,
    run_id integer references sync_orchestration (id) on delete cascade,
    step integer,
    -- task::PullSpec
    spec text check (json_valid(spec)),
    progress text check (json_valid(progress)),
    priority integer not null default 5 check (priority between 1 and 10),
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
    next_retry_time integer,
    -- '{source connection}/{entity type}/{source id}' of the parent it waits for.
    blocked_on text,
    staged_date integer,
    lease_owner text,
    lease_epoch integer not null default 0,
    lease_until integer,
    error_class text,
    error_code text,
    error_message text,
    traceparent text,
    -- Moves with every change of a push's outcome; read by the mirror of outbound states.
    change_sequence integer,
    created_date integer not null,
    modified_date integer not null,
    check ((kind = 'push') = (master_data_id is not null)),
    check ((kind = 'pull') = (run_id is not null))
) strict;
create unique index sync_queue_push on sync_queue (master_data_id, connection_id) where kind = 'push';
create index sync_queue_pending on sync_queue (connection_id, kind, priority, id) where state = 'pending';
create index sync_queue_staged on sync_queue (staged_date) where state = 'staged';
create index sync_queue_leases on sync_queue (lease_until) where state = 'running';
create index sync_queue_due on sync_queue (next_retry_time) where state = 'waiting';
create index sync_queue_blocked on sync_queue (connection_id, blocked_on) where blocked_on is not null;
create index sync_queue_run on sync_queue (run_id, step) where run_id is not null;
create index sync_queue_changes on sync_queue (change_sequence) where change_sequence is not null;

create table task_attempts (
    task_id integer not null references sync_queue (id) on delete cascade,
    number integer not null,
    version integer,
    outcome text not null check (outcome in ('completed', 'retry_at', 'snoozed', 'dead', 'cancelled', 'unknown')),
    action text check (action in ('created', 'updated', 'deleted', 'linked', 'skipped')),
    started_date integer not null,
    duration_ms integer not null,
    calls integer not null,
    error_class text,
    error_code text,
    error_message text,
    http_status integer,
    worker text not null,
    trace_id text,
    primary key (task_id, number)
) strict;

create table dead_letters (
    id integer primary key autoincrement,
    organization_id integer not null,
    connection_id integer not null references connections (id),
    target text not null,
    task_id integer not null references sync_queue (id),
    master_data_id integer not null references sync_master_data (id),
    entity_type text not null,
    entity_id text not null,
    version integer not null,
    state text not null default 'open' check (state in ('open', 'replaying', 'resolved', 'discarded')),
    error_class text not null,
    error_code text not null,
    error_message text not null,
    http_status integer,
    attempts integer not null,
    first_date integer not null,
    last_date integer not null,
    actor text,
    note text,
    trace_id text,
    -- A reference message is in the broker's dead-letter queue.
    mirrored integer not null default 0 check (mirrored in (0, 1))
) strict;
create index dead_letters_list on dead_letters (organization_id, id desc);
create unique index dead_letters_open on dead_letters (task_id) where state in ('open', 'replaying');
create index dead_letters_unmirrored on dead_letters (id) where mirrored = 0;

-- Cursors of incremental reading, per stream and partition.
create table sync_state (
    connection_id integer not null references connections (id),
    stream text not null,
    partition text not null,
    state text not null check (json_valid(state)),
    modified_date integer not null,
    primary key (connection_id, stream, partition)
) strict;

create table reader_cursors (
    reader text primary key,
    cursor integer not null
) strict;

-- Both sides changed since they last agreed.
create table sync_conflict (
    id integer primary key autoincrement,
    organization_id integer not null references organizations (id),
    master_data_id integer not null references sync_master_data (id),
    connection_id integer not null references connections (id),
    run_id integer,
    state text not null default 'open' check (state in ('open', 'resolved', 'outdated')),
    base_version integer,
    master_version integer not null,
    inbound_hash text not null,
    inbound_snapshot text not null check (json_valid(inbound_snapshot)),
    inbound_modified integer,
    resolution text,
    resolved_by text,
    resolved_date integer,
    created_date integer not null
) strict;
create unique index sync_conflict_open on sync_conflict (master_data_id, connection_id) where state = 'open';
create index sync_conflict_list on sync_conflict (organization_id, state, id);
