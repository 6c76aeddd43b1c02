-- Replays of dead letters as things of their own, edited payloads, and who changed what.
-- The PostgreSQL migration of the same number says the same in its dialect.

-- Data that somebody sends instead of a version's own, at the target of one task.
create table payload_edits (
    id integer primary key autoincrement,
    organization_id integer not null references organizations (id),
    dead_letter_id integer not null references dead_letters (id),
    version integer not null,
    data text not null,
    actor text not null,
    note text not null,
    created_date integer not null
) strict;
create index payload_edits_letter on payload_edits (dead_letter_id, id);

-- The edit to send, as long as its version is the wanted one.
alter table sync_queue add column edit_id integer references payload_edits (id);

create table replays (
    id integer primary key autoincrement,
    organization_id integer not null references organizations (id),
    state text not null check (state in ('running', 'paused', 'cancelled', 'done')),
    -- dead_letter::DeadLetterFilter, for people; the set itself is in replay_items.
    filter text not null,
    -- Letters put back per second at most; null: as fast as it goes.
    rate integer check (rate > 0),
    edit_id integer references payload_edits (id),
    actor text not null,
    note text not null,
    idempotency_key text,
    matched integer not null,
    replayed integer not null default 0,
    skipped integer not null default 0,
    -- The next batch may be taken from then on.
    due_date integer not null,
    created_date integer not null,
    finished_date integer
) strict;
create index replays_list on replays (organization_id, id desc);
create index replays_running on replays (due_date) where state = 'running';
create unique index replays_idempotency on replays (organization_id, idempotency_key) where idempotency_key is not null;

-- The frozen set. outcome: replay::ItemOutcome, null while it waits.
create table replay_items (
    replay_id integer not null references replays (id) on delete cascade,
    dead_letter_id integer not null,
    outcome text check (outcome in ('replayed', 'on_its_way', 'delivered', 'closed', 'outdated')),
    primary key (replay_id, dead_letter_id)
) strict;
create index replay_items_waiting on replay_items (replay_id, dead_letter_id) where outcome is null;

-- Letters of one cause share it (dead_letter::fingerprint); empty for those of before.
alter table dead_letters add column fingerprint text not null default '';
create index dead_letters_counts on dead_letters (organization_id, connection_id, error_class) where state = 'open';
drop index dead_letters_unmirrored;
-- Closed letters are many, and need no reference.
create index dead_letters_unmirrored on dead_letters (id) where mirrored = 0 and state = 'open';
create index dead_letters_mirrored on dead_letters (connection_id, state) where mirrored = 1;

-- Who made a change; null for what the program did by itself.
alter table sync_activity_log add column actor text;
create index sync_activity_log_changes on sync_activity_log (organization_id, id desc) where actor is not null;
