-- name: add_run
-- One row of history.
INSERT INTO runs (
    run_id, device, job, due, outcome, recorded_at, count, last_due, "into", epoch, worker_id, started_at, ended_at,
    failure, failure_class, size, changed, version, digest, evidence, on_demand, attempt, retry_at,
    detected_secrets, accepted_by, accepted_at, cause
) VALUES (
    :run_id, :device, :job, :due, :outcome, :recorded_at, :count, :last_due, :into, :epoch, :worker_id, :started_at, :ended_at,
    :failure, :failure_class, :size, :changed, :version, :digest, :evidence, :on_demand, :attempt, :retry_at,
    :detected_secrets, :accepted_by, :accepted_at, :cause
)

-- name: add_stale_run
-- A refused result; told twice, it is kept once.
INSERT INTO runs (
    run_id, device, job, due, outcome, recorded_at, count, last_due, "into", epoch, worker_id, started_at, ended_at,
    failure, failure_class, size, changed, version, digest, evidence, on_demand, attempt, retry_at,
    detected_secrets, accepted_by, accepted_at, cause
) VALUES (
    :run_id, :device, :job, :due, 'stale', :recorded_at, :count, :last_due, :into, :epoch, :worker_id, :started_at, :ended_at,
    :failure, :failure_class, :size, :changed, :version, :digest, :evidence, :on_demand, :attempt, :retry_at,
    :detected_secrets, :accepted_by, :accepted_at, :cause
) ON CONFLICT (run_id) DO NOTHING

-- name: find_repeats
-- The kept runs of slots and due times with a digest, each with the place at which it was asked for: one range of
-- runs_by_slot for each.
SELECT json_each.key, runs.* FROM json_each(:results)
CROSS JOIN runs INDEXED BY runs_by_slot
    ON device = json_extract(json_each.value, '$[0]') AND job = json_extract(json_each.value, '$[1]')
    AND due = json_extract(json_each.value, '$[2]') AND digest = json_extract(json_each.value, '$[3]')
WHERE outcome <> 'stale'
ORDER BY run_number

-- name: run
-- One run.
SELECT * FROM runs WHERE run_id = :run_id

-- name: ends_of
-- How runs ended, by their ids.
SELECT run_id, outcome, version FROM runs WHERE run_id IN (SELECT value FROM json_each(:run_ids))

-- name: list_runs
-- Newest first, before a place. The index is that of one filter, the rows are narrowed by the others.
SELECT * FROM runs INDEXED BY {index}
WHERE (recorded_at, run_number) < (:before, :before_number) AND {filters}
ORDER BY recorded_at DESC, run_number DESC
LIMIT :limit
