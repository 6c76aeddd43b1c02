-- How often a payload was claimed as abandoned since it was last received: one that kills its
-- workers is given up.
ALTER TABLE raw_payload ADD COLUMN claims INTEGER NOT NULL DEFAULT 0;
