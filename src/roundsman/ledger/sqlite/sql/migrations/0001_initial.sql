-- Slots, leases, runs, pauses, workers and processes. Runs before the code that needs it.
-- Instants are Unix seconds: INTEGER for due times, REAL for the others.

-- A lane is a distinct set of device tags.
CREATE TABLE lanes (
    lane_id INTEGER PRIMARY KEY,
    tags TEXT NOT NULL UNIQUE -- JSON array, sorted
) STRICT;

-- One row per (device, job). A claim does not write to it.
CREATE TABLE slots (
    slot_id INTEGER PRIMARY KEY, -- new ones are numbered by due time, so that what falls due together lies together
    device TEXT NOT NULL,
    job TEXT NOT NULL,
    lane_id INTEGER NOT NULL REFERENCES lanes,
    plan TEXT NOT NULL,
    due INTEGER, -- NULL: its schedule has ended
    epoch INTEGER NOT NULL, -- counts its leases, up to the last one that ended; that of an open one is in leases
    paused INTEGER NOT NULL, -- its device or its job is in pauses
    on_demand INTEGER NOT NULL DEFAULT 0, -- due was asked for by a person
    resume_due INTEGER -- when on_demand: the scheduled due time that it stands before
) STRICT;

CREATE UNIQUE INDEX slots_by_device ON slots (device, job);
CREATE INDEX slots_by_job ON slots (job, device);
CREATE INDEX slots_by_lane ON slots (lane_id);
CREATE INDEX slots_paused ON slots (device, job) WHERE paused = 1;
CREATE INDEX slots_ended ON slots (device, job) WHERE due IS NULL;

-- The open leases: all that a claim writes. One that expired stays open until somebody claims or finishes. They lie in the
-- order in which they expire, so that those of one claim lie together.
CREATE TABLE leases (
    expires_at REAL NOT NULL,
    slot_id INTEGER NOT NULL REFERENCES slots,
    epoch INTEGER NOT NULL,
    worker_id TEXT,
    claimed_at REAL NOT NULL,
    PRIMARY KEY (expires_at, slot_id)
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX leases_by_slot ON leases (slot_id);

-- The last epoch of pairs that were taken away: should one come back, its old leases stay stale.
CREATE TABLE retired (
    device TEXT NOT NULL,
    job TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    PRIMARY KEY (device, job)
) STRICT, WITHOUT ROWID;

-- History. Fields as in wire/run.py.
CREATE TABLE runs (
    run_number INTEGER PRIMARY KEY,
    run_id TEXT NOT NULL UNIQUE,
    device TEXT NOT NULL,
    job TEXT NOT NULL,
    due INTEGER NOT NULL,
    outcome TEXT NOT NULL,
    recorded_at REAL NOT NULL,
    count INTEGER NOT NULL,
    last_due INTEGER,
    "into" TEXT,
    epoch INTEGER,
    worker_id TEXT,
    started_at REAL,
    ended_at REAL,
    failure TEXT,
    failure_class TEXT,
    size INTEGER,
    changed INTEGER,
    version TEXT,
    digest TEXT,
    evidence INTEGER NOT NULL,
    on_demand INTEGER NOT NULL
) STRICT;

-- Repeats of a completion are found by slot and due time.
CREATE INDEX runs_by_slot ON runs (device, job, due);
-- Lists are newest first, by one filter each.
CREATE INDEX runs_by_time ON runs (recorded_at);
CREATE INDEX runs_by_device ON runs (device, recorded_at);
CREATE INDEX runs_by_job ON runs (job, recorded_at);
CREATE INDEX runs_by_outcome ON runs (outcome, recorded_at);
CREATE INDEX runs_by_worker ON runs (worker_id, recorded_at) WHERE worker_id IS NOT NULL;

CREATE TABLE pauses (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    since REAL NOT NULL,
    "by" TEXT NOT NULL,
    PRIMARY KEY (kind, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE workers (
    worker_id TEXT PRIMARY KEY,
    token_digest TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    tags TEXT NOT NULL, -- JSON array
    allowed_tags TEXT NOT NULL, -- JSON array; empty: every device
    version TEXT NOT NULL,
    enrolled_at REAL NOT NULL,
    seen_at REAL NOT NULL,
    address TEXT
) STRICT;

-- Processes outlive the workers that ran them: no reference.
CREATE TABLE processes (
    process_number INTEGER PRIMARY KEY,
    process_id TEXT NOT NULL UNIQUE,
    worker_id TEXT NOT NULL,
    command TEXT NOT NULL,
    path TEXT NOT NULL,
    state TEXT NOT NULL,
    requested_at REAL NOT NULL,
    requested_by TEXT NOT NULL,
    started_at REAL,
    ended_at REAL,
    exit_status INTEGER,
    signal TEXT,
    error TEXT
) STRICT;

CREATE INDEX processes_by_time ON processes (requested_at);
CREATE INDEX processes_by_worker ON processes (worker_id, requested_at);
CREATE INDEX processes_by_state ON processes (state, requested_at);

-- Written to find out whether the database can be written.
CREATE TABLE probe (
    checks INTEGER NOT NULL
) STRICT;

INSERT INTO probe (checks) VALUES (0);
