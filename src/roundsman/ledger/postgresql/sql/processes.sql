-- name: add_processes
-- Processes that were asked for.
INSERT INTO processes (
    process_id, worker_id, command, path, arguments, state, requested_at, requested_by, batch_id, not_after, started_at,
    ended_at, exit_status, signal, error
)
SELECT process_id, worker_id, command, path, arguments, state, requested_at, requested_by, batch_id, not_after, started_at,
    ended_at, exit_status, signal, error
FROM json_populate_recordset(NULL::processes, :processes::json)

-- name: process
-- One process.
SELECT * FROM processes WHERE process_id = :process_id

-- name: process_state
-- Where a worker's process stands, and who carries its batch.
SELECT p.state, b.carrier
FROM processes p LEFT JOIN batches b ON b.batch_id = p.batch_id AND b.state <> 'ended'
WHERE p.process_id = :process_id AND p.worker_id = :worker_id
FOR UPDATE OF p

-- name: start_process
-- Its worker started it; it may have said so after it had ended.
UPDATE processes SET
    state = CASE state WHEN 'requested' THEN 'running' ELSE state END,
    started_at = :at,
    last_seen_at = coalesce(:seen_at::double precision, last_seen_at)
WHERE process_id = :process_id AND (state = 'requested' OR (state = 'ended' AND started_at IS NULL))

-- name: end_process
-- A state that is final: the first that is told stays.
UPDATE processes SET
    state = :state::text,
    ended_at = CASE WHEN :state = 'ended' THEN :at::double precision END,
    exit_status = :exit_status, signal = :signal, error = :error, cause = :cause,
    last_seen_at = coalesce(:seen_at::double precision, last_seen_at)
WHERE process_id = :process_id AND state IN ('waiting', 'requested', 'running')

-- name: begin_process
-- Its turn has come. Not if another controller carries its batch by now.
UPDATE processes p SET state = 'requested', not_after = :not_after
WHERE p.process_id = :process_id AND p.state = 'waiting'
    AND NOT EXISTS (SELECT FROM batches b WHERE b.batch_id = p.batch_id AND b.carrier <> :carrier::text)
RETURNING 1

-- name: skip_processes
-- The batch stops before their turn.
UPDATE processes SET state = 'skipped', error = :error WHERE batch_id = :batch_id AND state = 'waiting'

-- name: keep_stop
-- What its latest stop has proven.
UPDATE processes SET stop = :stop WHERE process_id = :process_id AND worker_id = :worker_id

-- name: touch_processes
-- A worker has said how each of them stands.
UPDATE processes SET last_seen_at = :now WHERE worker_id = :worker_id AND state IN ('requested', 'running')

-- name: list_processes
-- Newest first, before a place.
SELECT * FROM processes
WHERE (requested_at, process_number) < (:before::double precision, :before_number::bigint) AND {filters}
ORDER BY requested_at DESC, process_number DESC
LIMIT :limit
