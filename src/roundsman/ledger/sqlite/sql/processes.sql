-- name: add_process
-- A process that was asked for.
INSERT INTO processes (
    process_id, worker_id, command, path, arguments, state, requested_at, requested_by, batch_id, not_after, started_at,
    ended_at, exit_status, signal, error
) VALUES (
    :process_id, :worker_id, :command, :path, :arguments, :state, :requested_at, :requested_by, :batch_id, :not_after, :started_at,
    :ended_at, :exit_status, :signal, :error
)

-- name: process
-- One process.
SELECT * FROM processes WHERE process_id = :process_id

-- name: process_state
-- Where a worker's process stands.
SELECT state FROM processes WHERE process_id = :process_id AND worker_id = :worker_id

-- name: start_process
-- Its worker started it; it may have said so after it had ended.
UPDATE processes SET
    state = CASE state WHEN 'requested' THEN 'running' ELSE state END,
    started_at = :at,
    last_seen_at = coalesce(:seen_at, last_seen_at)
WHERE process_id = :process_id AND (state = 'requested' OR (state = 'ended' AND started_at IS NULL))

-- name: end_process
-- A state that is final: the first that is told stays.
UPDATE processes SET
    state = :state,
    ended_at = CASE WHEN :state = 'ended' THEN :at END,
    exit_status = :exit_status, signal = :signal, error = :error, cause = :cause,
    last_seen_at = coalesce(:seen_at, last_seen_at)
WHERE process_id = :process_id AND state IN ('waiting', 'requested', 'running')

-- name: begin_process
-- Its turn has come.
UPDATE processes SET state = 'requested', not_after = :not_after WHERE process_id = :process_id AND state = 'waiting'

-- name: skip_processes
-- The batch stops before their turn.
UPDATE processes SET state = 'skipped', error = :error WHERE batch_id = :batch_id AND state = 'waiting'

-- name: keep_stop
-- What its latest stop has proven.
UPDATE processes SET stop = :stop WHERE process_id = :process_id AND worker_id = :worker_id

-- name: touch_processes
-- A worker has said how each of them stands.
UPDATE processes INDEXED BY processes_open SET last_seen_at = :now WHERE worker_id = :worker_id AND state IN ('requested', 'running')

-- name: list_processes
-- Newest first, before a place. The index is that of one filter, the rows are narrowed by the others.
SELECT * FROM processes INDEXED BY {index}
WHERE (requested_at, process_number) < (:before, :before_number) AND {filters}
ORDER BY requested_at DESC, process_number DESC
LIMIT :limit
