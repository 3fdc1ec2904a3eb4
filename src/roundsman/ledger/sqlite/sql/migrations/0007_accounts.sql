-- What was planned, kept beside what became of it. Runs before the code that needs it.

-- Later than this the slot's plan counts. What was planned before this migration is not known.
ALTER TABLE slots ADD COLUMN planned_since REAL NOT NULL DEFAULT 0;
UPDATE slots SET planned_since = min(
    CAST(strftime('%s', 'now') AS REAL),
    coalesce(CASE WHEN on_demand THEN resume_due ELSE due END - 1, CAST(strftime('%s', 'now') AS REAL))
);

-- Plans that were replaced, or whose slots were taken away.
CREATE TABLE ended_plans (
    plan_number INTEGER PRIMARY KEY,
    device TEXT NOT NULL,
    job TEXT NOT NULL,
    tags TEXT NOT NULL, -- JSON array, sorted
    plan TEXT NOT NULL,
    since REAL NOT NULL, -- its due times later than this
    until REAL NOT NULL -- and not later than this
) STRICT;

CREATE INDEX ended_plans_by_slot ON ended_plans (device, job, until);
CREATE INDEX ended_plans_by_end ON ended_plans (until);

-- The leases of a due time that ran out before: JSON, as LostLease in ledger/interface.py; NULL: none.
ALTER TABLE leases ADD COLUMN lost TEXT;

-- Why a due time was not run by itself.
ALTER TABLE runs ADD COLUMN cause TEXT;

-- Spans of due times, by where they end: which of them reach into a time is found by it.
CREATE INDEX runs_spanning ON runs (device, job, last_due) WHERE last_due IS NOT NULL;

-- When controllers were up, and what they were asked for.
CREATE TABLE presences (
    since REAL NOT NULL,
    session TEXT NOT NULL,
    asked TEXT NOT NULL, -- JSON, a filter of tags; empty: about the controller itself
    until REAL NOT NULL,
    PRIMARY KEY (since, session, asked)
) STRICT, WITHOUT ROWID;

CREATE INDEX presences_by_end ON presences (until);
