-- Slots, their queue, leases, runs, pauses, workers and processes. Runs before the code that needs it.
-- Instants are Unix seconds: bigint for due times, double precision for the others. Texts sort by their bytes, whatever
-- the locale of the database: the cursors of lists rely on it.

-- A lane is a distinct set of device tags.
CREATE TABLE lanes (
    lane_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tags text[] COLLATE "C" NOT NULL UNIQUE -- sorted
);

-- A line is the slots of a lane that are of one priority: four times the lane, plus 1, 2 or 3, and 0 for what a person
-- asked for. No row of the queue stands before the water of its line: what was claimed long ago need not be walked over, even
-- while some old transaction keeps the database from clearing it away.
CREATE TABLE waters (
    line integer PRIMARY KEY,
    ready bigint NOT NULL DEFAULT -9223372036854775808,
    slot_id bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50, autovacuum_vacuum_threshold = 200);

-- One row per (device, job). Whoever changes anything of a slot, its queue entry or its lease holds the lock of this row,
-- but for renewals. What runs change has no index, so that the change stays within the page.
CREATE TABLE slots (
    slot_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, -- new ones are numbered by due time
    device text COLLATE "C" NOT NULL,
    job text COLLATE "C" NOT NULL,
    lane_id integer NOT NULL REFERENCES lanes,
    plan text COLLATE "C" NOT NULL,
    planned_since double precision NOT NULL, -- later than this its plan counts
    priority smallint NOT NULL, -- 1 before 2 before 3
    due bigint, -- NULL: its schedule has ended
    ready bigint, -- from when on it is offered; NULL as due is, or while its device's breaker holds it back
    epoch bigint NOT NULL, -- of the last lease that ended; that of an open one is in leases
    attempts integer NOT NULL DEFAULT 0, -- at due, that failed
    paused boolean NOT NULL, -- its device or its job is in pauses
    watched boolean NOT NULL, -- its device is in breakers
    was_held boolean NOT NULL DEFAULT false, -- since then its due time passed
    on_demand boolean NOT NULL DEFAULT false, -- due was asked for by a person
    resume_due bigint, -- when on_demand: the scheduled due time that it stands before
    result text COLLATE "C", -- JSON, as KeptResult in ledger/interface.py; NULL: nothing is known yet
    ended boolean GENERATED ALWAYS AS (due IS NULL) STORED,
    held boolean GENERATED ALWAYS AS (ready IS NULL AND due IS NOT NULL) STORED
) WITH (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.2);

CREATE UNIQUE INDEX slots_by_device ON slots (device, job);
CREATE INDEX slots_by_job ON slots (job, device);
CREATE INDEX slots_by_lane ON slots (lane_id);
CREATE INDEX slots_paused ON slots (device, job) WHERE paused;
CREATE INDEX slots_ended ON slots (device, job) WHERE ended;
CREATE INDEX slots_held ON slots (device, job) WHERE held;

-- What claims take from: the slots that are neither paused, held back nor under a lease that was not seen to run out.
-- No references from here and leases to slots: they would lock the row of the slot once more.
CREATE TABLE queue (
    slot_id bigint PRIMARY KEY,
    line integer NOT NULL,
    ready bigint NOT NULL,
    delayed boolean NOT NULL -- ready is later than due: it is not offered before, however far a claim looks ahead
) WITH (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);

CREATE INDEX queue_order ON queue (line, ready, slot_id);

-- The open leases. One that ran out stays open until somebody claims or finishes. A renewal moves expires_at alone, which
-- has no index; check_at is when to look whether it ran out, NULL once that was seen and the slot is in the queue again.
CREATE TABLE leases (
    slot_id bigint PRIMARY KEY,
    epoch bigint NOT NULL,
    expires_at double precision NOT NULL,
    check_at double precision,
    worker_id text COLLATE "C",
    claimed_at double precision NOT NULL,
    lost json -- as LostLease in ledger/interface.py: the leases of this due time that ran out before; NULL: none
) WITH (
    fillfactor = 60, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0
);

CREATE INDEX leases_by_worker ON leases (worker_id) WHERE worker_id IS NOT NULL;
CREATE INDEX leases_to_check ON leases (check_at) WHERE check_at IS NOT NULL;

-- What limited tags had left of their starts a minute.
CREATE TABLE buckets (
    tag text COLLATE "C" PRIMARY KEY,
    tokens double precision NOT NULL, -- how many starts were left
    at double precision NOT NULL -- at this instant
);

-- The last epoch of pairs that were taken away: should one come back, its old leases stay stale.
CREATE TABLE retired (
    device text COLLATE "C",
    job text COLLATE "C",
    epoch bigint NOT NULL,
    PRIMARY KEY (device, job)
);

-- On which server and line of history this database goes on, and the least epoch of the leases it gives there.
CREATE TABLE incarnation (
    system_identifier text NOT NULL,
    timeline text NOT NULL,
    first_epoch bigint NOT NULL
);

-- History. Fields as in wire/run.py.
CREATE TABLE runs (
    run_number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id text COLLATE "C" NOT NULL UNIQUE,
    device text COLLATE "C" NOT NULL,
    job text COLLATE "C" NOT NULL,
    due bigint NOT NULL,
    outcome text COLLATE "C" NOT NULL,
    recorded_at double precision NOT NULL,
    count bigint NOT NULL,
    last_due bigint,
    "into" text COLLATE "C",
    epoch bigint,
    worker_id text COLLATE "C",
    started_at double precision,
    ended_at double precision,
    failure text COLLATE "C",
    failure_class text COLLATE "C",
    size bigint,
    changed boolean,
    version text COLLATE "C",
    digest text COLLATE "C",
    evidence boolean NOT NULL,
    on_demand boolean NOT NULL,
    attempt integer NOT NULL,
    retry_at bigint,
    detected_secrets json,
    accepted_by text COLLATE "C",
    accepted_at double precision,
    cause text COLLATE "C"
);

-- Repeats of a completion are found by slot and due time.
CREATE INDEX runs_by_slot ON runs (device, job, due);
-- Spans of due times, by where they end: which of them reach into a time is found by it.
CREATE INDEX runs_spanning ON runs (device, job, last_due) WHERE last_due IS NOT NULL;
-- Lists are newest first, by one filter each.
CREATE INDEX runs_by_time ON runs (recorded_at, run_number);
CREATE INDEX runs_by_device ON runs (device, recorded_at, run_number);
CREATE INDEX runs_by_job ON runs (job, recorded_at, run_number);
CREATE INDEX runs_by_outcome ON runs (outcome, recorded_at, run_number);
CREATE INDEX runs_by_worker ON runs (worker_id, recorded_at, run_number) WHERE worker_id IS NOT NULL;

-- What is left of runs that are kept no longer, by day: a span counts on the day of its first due time.
CREATE TABLE daily (
    day bigint, -- its first second, UTC
    job text COLLATE "C",
    outcome text COLLATE "C",
    cause text COLLATE "C", -- empty: none
    on_demand boolean,
    count bigint NOT NULL,
    PRIMARY KEY (day, job, outcome, cause, on_demand)
);

-- From when on due times are accounted for one by one: runs of earlier ones may be gone.
CREATE TABLE kept (
    only_one boolean PRIMARY KEY CHECK (only_one),
    since bigint NOT NULL
);

CREATE TABLE pauses (
    kind text COLLATE "C",
    name text COLLATE "C",
    since double precision NOT NULL,
    "by" text COLLATE "C" NOT NULL,
    PRIMARY KEY (kind, name)
);

-- The failures of devices since they last answered. Fields as in wire/breaker.py.
CREATE TABLE breakers (
    device text COLLATE "C" PRIMARY KEY,
    failures integer NOT NULL,
    failure_class text COLLATE "C" NOT NULL,
    failure text COLLATE "C" NOT NULL,
    failed_at double precision NOT NULL,
    opened_at double precision, -- NULL: it is not held back, so far
    probe_at bigint,
    probes integer NOT NULL
);

CREATE INDEX breakers_open ON breakers (device) WHERE opened_at IS NOT NULL;

CREATE TABLE workers (
    worker_id text COLLATE "C" PRIMARY KEY,
    token_digest text COLLATE "C" NOT NULL UNIQUE,
    name text COLLATE "C" NOT NULL,
    tags text[] COLLATE "C" NOT NULL,
    allowed_tags text[] COLLATE "C" NOT NULL, -- empty: every device
    version text COLLATE "C" NOT NULL,
    enrolled_at double precision NOT NULL,
    seen_at double precision NOT NULL,
    address text COLLATE "C"
) WITH (fillfactor = 50);

-- Processes outlive the workers that ran them: no reference.
CREATE TABLE processes (
    process_number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    process_id text COLLATE "C" NOT NULL UNIQUE,
    worker_id text COLLATE "C" NOT NULL,
    command text COLLATE "C" NOT NULL,
    path text COLLATE "C",
    state text COLLATE "C" NOT NULL,
    requested_at double precision NOT NULL,
    requested_by text COLLATE "C" NOT NULL,
    started_at double precision,
    ended_at double precision,
    exit_status integer,
    signal text COLLATE "C",
    error text COLLATE "C",
    arguments json NOT NULL,
    batch_id text COLLATE "C",
    not_after double precision,
    cause text COLLATE "C",
    stop json, -- NULL: never stopped
    last_seen_at double precision
) WITH (fillfactor = 70);

CREATE INDEX processes_by_batch ON processes (batch_id, requested_at, process_number) WHERE batch_id IS NOT NULL;
CREATE INDEX processes_open ON processes (worker_id) WHERE state IN ('requested', 'running');

CREATE INDEX processes_by_time ON processes (requested_at, process_number);
CREATE INDEX processes_by_worker ON processes (worker_id, requested_at, process_number);
CREATE INDEX processes_by_state ON processes (state, requested_at, process_number);

-- Plans that were replaced, or whose slots were taken away.
CREATE TABLE ended_plans (
    plan_number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    device text COLLATE "C" NOT NULL,
    job text COLLATE "C" NOT NULL,
    tags text[] COLLATE "C" NOT NULL, -- sorted
    plan text COLLATE "C" NOT NULL,
    since double precision NOT NULL, -- its due times later than this
    until double precision NOT NULL -- and not later than this
);

CREATE INDEX ended_plans_by_slot ON ended_plans (device, job, until);
CREATE INDEX ended_plans_by_end ON ended_plans (until);

-- When controllers were up, and what they were asked for.
CREATE TABLE presences (
    since double precision,
    session text COLLATE "C",
    asked text COLLATE "C", -- JSON, a filter of tags; empty: about the controller itself
    until double precision NOT NULL,
    PRIMARY KEY (since, session, asked)
);

CREATE INDEX presences_by_end ON presences (until);

-- Who did what. One row for each line, for good. What is looked for stands in columns; the whole as in wire/audit.py.
CREATE TABLE audit (
    audit_number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at double precision NOT NULL,
    area text COLLATE "C" NOT NULL,
    action text COLLATE "C" NOT NULL,
    "by" text COLLATE "C",
    worker_id text COLLATE "C",
    process_id text COLLATE "C",
    batch_id text COLLATE "C",
    entry text COLLATE "C" NOT NULL -- JSON
);

CREATE INDEX audit_by_time ON audit (at, audit_number);
CREATE INDEX audit_by_worker ON audit (worker_id, at, audit_number) WHERE worker_id IS NOT NULL;
CREATE INDEX audit_by_process ON audit (process_id, at, audit_number) WHERE process_id IS NOT NULL;

CREATE FUNCTION refuse_to_change_the_audit() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'lines of the audit are never changed or removed'; END $$;

CREATE TRIGGER audit_is_never_changed BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
EXECUTE FUNCTION refuse_to_change_the_audit();

-- Commands for many workers.
CREATE TABLE batches (
    batch_number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    batch_id text COLLATE "C" NOT NULL UNIQUE,
    state text COLLATE "C" NOT NULL,
    requested_at double precision NOT NULL,
    requested_by text COLLATE "C" NOT NULL,
    idempotency_key text COLLATE "C",
    digest text COLLATE "C" NOT NULL, -- of the request; empty: it had no key
    batch text COLLATE "C" NOT NULL, -- JSON, the whole as in wire/batch.py
    work text COLLATE "C" -- JSON, likewise; NULL once the batch has ended, so that no secret is kept longer
);

CREATE UNIQUE INDEX batches_by_key ON batches (requested_by, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX batches_by_time ON batches (requested_at, batch_number);
CREATE INDEX batches_by_state ON batches (state, requested_at, batch_number);

-- Written to find out whether the database can be written.
CREATE TABLE probe (
    checks bigint NOT NULL
) WITH (fillfactor = 50);

INSERT INTO probe (checks) VALUES (0);
