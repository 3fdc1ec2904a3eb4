-- Priorities, and what tags have left of their starts a minute. Runs before the code that needs it.

-- 1 before 2 before 3; what is asked for on demand goes before all.
ALTER TABLE slots ADD COLUMN priority INTEGER NOT NULL DEFAULT 2;

CREATE TABLE buckets (
    tag TEXT PRIMARY KEY,
    tokens REAL NOT NULL, -- how many starts were left
    at REAL NOT NULL -- at this instant
) STRICT, WITHOUT ROWID;
