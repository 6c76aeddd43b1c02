-- The parent that a blocked push waits for, with the id of its record once it was read. PostgreSQL puts the
-- text in place of each call; `limit 1` keeps the planner from joining the other way round, through all
-- records of the source, while its statistics are old.
create function blocking_parent(child bigint, blocked_on text)
returns table (
    organization_id bigint,
    source_connection_id bigint,
    entity_type text,
    source_id text,
    parent_id bigint
) language sql stable as $$
    select m.organization_id, m.source_connection_id, p.entity_type, p.source_id, pm.id
    from (select * from sync_master_data where id = child limit 1) m
    join connections c on c.id = m.source_connection_id
    cross join lateral json_to_recordset(m.parents) p (entity_type text, source_id text)
    left join lateral (
        select pm.id from sync_master_data pm
        where pm.source_connection_id = m.source_connection_id
            and pm.entity_type = p.entity_type and pm.source_id = p.source_id
        limit 1
    ) pm on true
    where blocked_on = c.name || '/' || p.entity_type || '/' || p.source_id
$$;
