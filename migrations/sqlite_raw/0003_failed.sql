-- Payloads that nobody could read are few, and people look for them.
CREATE INDEX raw_payload_failed ON raw_payload (organization_id, id) WHERE inbound = 'failed';
