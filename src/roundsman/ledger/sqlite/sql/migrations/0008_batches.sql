-- Commands for many workers. Runs before the code that needs it.

CREATE TABLE batches (
    batch_number INTEGER PRIMARY KEY,
    batch_id TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL,
    requested_at REAL NOT NULL,
    requested_by TEXT NOT NULL,
    idempotency_key TEXT,
    digest TEXT NOT NULL, -- of the request; empty: it had no key
    batch TEXT NOT NULL, -- JSON, the whole as in wire/batch.py
    work TEXT -- JSON, likewise; NULL once the batch has ended, so that no secret is kept longer
) STRICT;

CREATE UNIQUE INDEX batches_by_key ON batches (requested_by, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX batches_by_time ON batches (requested_at);
CREATE INDEX batches_by_state ON batches (state, requested_at);

ALTER TABLE processes ADD COLUMN arguments TEXT; -- JSON array; NULL: none
ALTER TABLE processes ADD COLUMN batch_id TEXT;
ALTER TABLE processes ADD COLUMN not_after REAL;
ALTER TABLE processes ADD COLUMN cause TEXT;
ALTER TABLE processes ADD COLUMN stop TEXT; -- JSON; NULL: never stopped
ALTER TABLE processes ADD COLUMN last_seen_at REAL;

CREATE INDEX processes_by_batch ON processes (batch_id, requested_at) WHERE batch_id IS NOT NULL;
CREATE INDEX processes_open ON processes (worker_id) WHERE state IN ('requested', 'running');
