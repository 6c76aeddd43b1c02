-- No query searches links by external id. (PostgreSQL's part also drops foreign keys, whose checks
-- lock rows there; here a check is a look into a page that is in memory.)
drop index links_external;
