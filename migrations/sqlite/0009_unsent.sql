-- Where creates are kept before they are sent, nothing kept means nothing sent. This is the lease_epoch of
-- the claim that can send nothing but such a create and has kept none yet: what it intends leaves no doubt.
-- Keeping takes it back, in the statement that checks the lease, so that who comes too late neither keeps
-- nor sends. Every later claim has another epoch, so nobody else has to.
alter table sync_queue add column unsent_epoch integer;
