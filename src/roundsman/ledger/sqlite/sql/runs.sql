-- name: add_run
-- One row of history.
INSERT INTO runs (
    run_id, device, job, due, outcome, recorded_at, count, last_due, "into", epoch, worker_id, started_at, ended_at,
    failure, failure_class, size, changed, version, digest, evidence, on_demand, attempt, retry_at
) VALUES (
    :run_id, :device, :job, :due, :outcome, :recorded_at, :count, :last_due, :into, :epoch, :worker_id, :started_at, :ended_at,
    :failure, :failure_class, :size, :changed, :version, :digest, :evidence, :on_demand, :attempt, :retry_at
)

-- name: add_stale_run
-- A refused result; told twice, it is kept once.
INSERT INTO runs (
    run_id, device, job, due, outcome, recorded_at, count, last_due, "into", epoch, worker_id, started_at, ended_at,
    failure, failure_class, size, changed, version, digest, evidence, on_demand, attempt, retry_at
) VALUES (
    :run_id, :device, :job, :due, 'stale', :recorded_at, :count, :last_due, :into, :epoch, :worker_id, :started_at, :ended_at,
    :failure, :failure_class, :size, :changed, :version, :digest, :evidence, :on_demand, :attempt, :retry_at
) ON CONFLICT (run_id) DO NOTHING

-- name: find_repeat
-- The kept runs of a slot and due time with a digest: one range of runs_by_slot.
SELECT * FROM runs INDEXED BY runs_by_slot
WHERE device = :device AND job = :job AND due = :due AND digest = :digest AND outcome <> 'stale'
ORDER BY run_number

-- name: run
-- One run.
SELECT * FROM runs WHERE run_id = :run_id

-- name: list_runs
-- Newest first, before a place. The index is that of one filter, the rows are narrowed by the others.
SELECT * FROM runs INDEXED BY {index}
WHERE (recorded_at, run_number) < (:before, :before_number) AND {filters}
ORDER BY recorded_at DESC, run_number DESC
LIMIT :limit
