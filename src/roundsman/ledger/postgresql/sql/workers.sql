-- name: add_worker
-- A newly enrolled worker.
INSERT INTO workers (worker_id, token_digest, name, tags, allowed_tags, version, enrolled_at, seen_at, address)
VALUES (:worker_id, :token_digest, :name, :tags, :allowed_tags, :version, :enrolled_at, :seen_at, :address)

-- name: tokens
-- Who bears which token.
SELECT token_digest, worker_id FROM workers

-- name: touch_worker
-- Seen now; what it did not say stays as it was.
UPDATE workers SET
    seen_at = :now,
    address = coalesce(:address, address),
    version = coalesce(:version, version),
    tags = coalesce(:tags::text[], tags)
WHERE worker_id = :worker_id
RETURNING 1

-- name: workers
-- Every worker, by name.
SELECT worker_id, name, tags, allowed_tags, version, enrolled_at, seen_at, address FROM workers ORDER BY name, worker_id

-- name: worker
-- One worker.
SELECT worker_id, name, tags, allowed_tags, version, enrolled_at, seen_at, address FROM workers WHERE worker_id = :worker_id

-- name: remove_worker
-- Forget a worker and its token.
DELETE FROM workers WHERE worker_id = :worker_id RETURNING 1
