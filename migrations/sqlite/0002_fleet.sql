-- What the processes of a fleet agree on about one connection: limits in force, pace, pause and
-- breaker. Small documents that change often, each read, changed and written as a whole
-- (core::traffic). `revision` counts the changes.

create table fleet_state (
    connection_id integer not null references connections (id),
    name text not null,
    revision integer not null,
    document text not null,
    primary key (connection_id, name)
) strict;
