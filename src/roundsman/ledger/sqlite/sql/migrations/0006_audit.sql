-- Who did what. Runs before the code that needs it.

-- One row for each line, for good. What is looked for stands in columns; the whole as in wire/audit.py.
CREATE TABLE audit (
    audit_number INTEGER PRIMARY KEY,
    at REAL NOT NULL,
    area TEXT NOT NULL,
    action TEXT NOT NULL,
    "by" TEXT,
    worker_id TEXT,
    process_id TEXT,
    batch_id TEXT,
    entry TEXT NOT NULL -- JSON
) STRICT;

CREATE INDEX audit_by_time ON audit (at);
CREATE INDEX audit_by_worker ON audit (worker_id, at) WHERE worker_id IS NOT NULL;
CREATE INDEX audit_by_process ON audit (process_id, at) WHERE process_id IS NOT NULL;

CREATE TRIGGER audit_is_never_changed BEFORE UPDATE ON audit BEGIN
    SELECT RAISE(ABORT, 'lines of the audit are never changed');
END;

CREATE TRIGGER audit_is_never_removed BEFORE DELETE ON audit BEGIN
    SELECT RAISE(ABORT, 'lines of the audit are never removed');
END;
