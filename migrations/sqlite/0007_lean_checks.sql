-- When the source itself last changed what a version says; null when it does not tell. A push measures
-- the way of an edit from there to its target with it. (PostgreSQL's part also drops foreign keys, whose
-- checks lock rows there; here a check is a look into a page that is in memory.)
alter table data_versions add column source_modified integer;
