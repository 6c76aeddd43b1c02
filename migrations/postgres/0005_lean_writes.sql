-- Each check of a foreign key locks the row it points to. Organizations and connections are never
-- deleted, only disabled, and all writers point to the same few of them: the checks cost a new record
-- a fifth of its time here, and made concurrent writers share locks on one row. The queue keeps its
-- own: a push to a connection that is not there is refused.
alter table sync_master_data drop constraint sync_master_data_organization_id_fkey;
alter table sync_master_data drop constraint sync_master_data_source_connection_id_fkey;
alter table links drop constraint links_connection_id_fkey;

-- No query searches links by external id.
drop index links_external;
