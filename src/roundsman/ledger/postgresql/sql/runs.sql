-- name: add_runs
-- Rows of history. A stale one that is told twice is kept once.
INSERT INTO runs ({columns}) SELECT {columns} FROM json_populate_recordset(NULL::runs, :runs::json)
ON CONFLICT (run_id) DO NOTHING

-- name: find_repeats
-- The kept runs of slots and due times with a digest, each with the place at which it was asked for.
SELECT asked.place, runs.*
FROM unnest(:devices::text[], :jobs::text[], :dues::bigint[], :digests::text[]) WITH ORDINALITY AS asked (device, job, due, digest, place)
JOIN runs ON runs.device = asked.device AND runs.job = asked.job AND runs.due = asked.due AND runs.digest = asked.digest
WHERE runs.outcome <> 'stale'
ORDER BY runs.run_number

-- name: run
-- One run.
SELECT * FROM runs WHERE run_id = :run_id

-- name: ends_of
-- How runs ended, by their ids.
SELECT run_id, outcome, version FROM runs WHERE run_id = ANY(:run_ids::text[])

-- name: list_runs
-- Newest first, before a place.
SELECT * FROM runs
WHERE (recorded_at, run_number) < (:before::double precision, :before_number::bigint) AND {filters}
ORDER BY recorded_at DESC, run_number DESC
LIMIT :limit
