-- name: forget_key
-- A key that was used too long ago may be used again.
UPDATE batches SET idempotency_key = NULL
WHERE requested_by = :requested_by AND idempotency_key = :idempotency_key AND requested_at < :since

-- name: batch_of_key
-- What a key has made.
SELECT batch_id, digest FROM batches
WHERE requested_by = :requested_by AND idempotency_key = :idempotency_key AND requested_at >= :since

-- name: add_batch
-- A batch that was asked for.
INSERT INTO batches (batch_id, state, requested_at, requested_by, idempotency_key, digest, batch, work)
VALUES (:batch_id, :state, :requested_at, :requested_by, :idempotency_key, :digest, :batch, :work)

-- name: batch
-- One batch.
SELECT batch FROM batches WHERE batch_id = :batch_id

-- name: work
-- What is sent to its workers.
SELECT work FROM batches WHERE batch_id = :batch_id

-- name: change_batch
-- Where it stands now; once it has ended, what was sent is forgotten.
UPDATE batches SET state = :state, batch = :batch, work = CASE WHEN :state <> 'ended' THEN work END WHERE batch_id = :batch_id

-- name: list_batches
-- Newest first, before a place.
SELECT batch_number, requested_at, batch FROM batches INDEXED BY {index}
WHERE (requested_at, batch_number) < (:before, :before_number) AND {filters}
ORDER BY requested_at DESC, batch_number DESC
LIMIT :limit

-- name: batch_processes
-- Its processes, in the order of their turns.
SELECT * FROM processes WHERE batch_id = :batch_id ORDER BY requested_at, process_number
