-- What the processes of a fleet agree on about one connection: limits in force, pace, pause and
-- breaker. Small documents that change often, each read, changed and written as a whole
-- (core::traffic). `revision` counts the changes: a writer that was overtaken reads again.

create table fleet_state (
    connection_id bigint not null references connections (id),
    name text not null,
    revision bigint not null,
    document json not null,
    primary key (connection_id, name)
) with (fillfactor = 20);
