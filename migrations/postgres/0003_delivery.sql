-- Delivery under faults: crashes of workers, refused creates, rate limits without end, pushes
-- that wait for a person, parents that nobody has seen.

alter table sync_queue
    -- Claims since the last success whose lease ran out: their worker died, or was too slow. A task
    -- with one is a suspect and is worked on alone; core::retry::after_crash says for how long.
    add column crash_count integer not null default 0,
    -- Definite refusals so far. Part of the idempotency key of a create: a target may answer a key
    -- it has refused before with the same refusal, without looking.
    add column refusal_count integer not null default 0,
    -- Since when the target has answered with nothing but rate limits.
    add column limited_date timestamptz;
create index sync_queue_unknown on sync_queue (organization_id, id) where state = 'unknown';
create index sync_queue_waits on sync_queue (id) where state = 'waiting' and blocked_on is not null;

-- Runs that the machinery starts by itself; they do not count towards the organization's limit.
alter table sync_orchestration add column background boolean not null default false;

-- When a missing parent was last asked for at its source.
create table parent_requests (
    source_connection_id bigint not null references connections (id),
    entity_type text not null,
    source_id text not null,
    requested_date timestamptz not null default now(),
    primary key (source_connection_id, entity_type, source_id)
);
create index parent_requests_date on parent_requests (requested_date);
