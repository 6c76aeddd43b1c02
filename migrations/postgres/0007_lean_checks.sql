-- Each check of a foreign key costs about as much as the insert it checks, and locks the row it points
-- to. A new record had four of them, a third of PostgreSQL's work for it. Master rows and edits are never
-- deleted, and whoever writes these rows has just read or written what they point to, in the same
-- transaction. That a push goes to a connection that is there is asked once per batch
-- (master::wants::write).
alter table data_versions drop constraint data_versions_master_data_id_fkey;
alter table links drop constraint links_master_data_id_fkey;
alter table sync_queue drop constraint sync_queue_master_data_id_fkey;
alter table sync_queue drop constraint sync_queue_connection_id_fkey;
alter table sync_queue drop constraint sync_queue_edit_id_fkey;

-- When the source itself last changed what a version says; null when it does not tell. A push measures
-- the way of an edit from there to its target with it.
alter table data_versions add column source_modified timestamptz;
