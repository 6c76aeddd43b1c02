-- Credentials that the other side changes while they are used, such as rotated refresh tokens: sealed
-- by a key that is not in the database. `generation` counts what was kept; a result counts only if
-- nobody kept another one since it was begun. Whose turn it is to renew them is leased.

create table credentials (
    connection_id integer not null references connections (id),
    name text not null,
    generation integer not null default 0,
    sealed blob,
    kept_at integer,
    renewed_by text,
    renewed_until integer,
    primary key (connection_id, name)
) strict;
