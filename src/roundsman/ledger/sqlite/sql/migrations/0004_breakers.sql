-- Devices that are held back. Runs before the code that needs it.

-- The failures of devices since they last answered. Fields as in wire/breaker.py.
CREATE TABLE breakers (
    device TEXT PRIMARY KEY,
    failures INTEGER NOT NULL,
    failure_class TEXT NOT NULL,
    failure TEXT NOT NULL,
    failed_at REAL NOT NULL,
    opened_at REAL, -- NULL: it is not held back, so far
    probe_at INTEGER,
    probes INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX breakers_open ON breakers (device) WHERE opened_at IS NOT NULL;

-- A slot that its device's breaker holds back is not offered: ready is NULL while due is not. Since then its due time passed:
ALTER TABLE slots ADD COLUMN was_held INTEGER NOT NULL DEFAULT 0;

CREATE INDEX slots_held ON slots (device, job) WHERE ready IS NULL AND due IS NOT NULL;
