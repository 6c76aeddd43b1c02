-- Creates at targets that know nothing but idempotency keys, as they were sent: when the answer is lost, the
-- very same request goes out again before anything newer. Gone when the outcome is known.

create table kept_requests (
    -- A push, which is never deleted.
    task_id integer primary key,
    version integer not null,
    refusal_count integer not null,
    idempotency_key text not null,
    -- Text: the same bytes come back.
    body text not null,
    kept_at integer not null
) strict;
