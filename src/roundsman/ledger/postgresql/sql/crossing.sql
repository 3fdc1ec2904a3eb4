-- name: connect
-- A worker dials this controller. The one that had it so far is told.
WITH before AS (SELECT controller_id FROM connections WHERE worker_id = :worker_id),
after AS (
    INSERT INTO connections (worker_id, controller_id, term, ready, bounds)
    VALUES (:worker_id, :controller_id, nextval('connection_terms'), false, '[]')
    ON CONFLICT (worker_id) DO UPDATE SET
        controller_id = excluded.controller_id, term = excluded.term, ready = false, bounds = excluded.bounds
    WHERE connections.term < excluded.term
    RETURNING term
)
SELECT term, (SELECT pg_notify('roundsman_' || controller_id, 'moved') FROM before WHERE controller_id <> :controller_id)
FROM after

-- name: make_ready
-- What it said first is dealt with. Those who carry batches are told: it may be its turn in one.
WITH made AS (
    UPDATE connections SET ready = true, bounds = :bounds WHERE worker_id = :worker_id AND term = :term RETURNING controller_id
),
carriers AS (
    SELECT DISTINCT carrier FROM batches, made
    WHERE state <> 'ended' AND carried_until IS NOT NULL AND carrier <> made.controller_id
)
SELECT count(*), (SELECT count(pg_notify('roundsman_' || carrier, 'connected ' || :worker_id)) FROM carriers) FROM made

-- name: disconnect
-- A connection has ended, unless a newer one has taken its place.
DELETE FROM connections WHERE worker_id = :worker_id AND term = :term

-- name: disconnect_all
-- A controller leaves.
DELETE FROM connections WHERE controller_id = :controller_id

-- name: connections
-- Who has which worker, as far as it lives.
SELECT c.worker_id, c.controller_id, c.term, c.bounds
FROM connections c JOIN controllers k USING (controller_id)
WHERE c.ready AND k.seen_at > :alive_since AND {filters}

-- name: terms
-- The workers that a controller has.
SELECT worker_id, term FROM connections WHERE controller_id = :controller_id

-- name: hold_place
-- Who has a worker; nobody else gets it before the end of the transaction.
SELECT c.worker_id, c.controller_id, c.term, c.bounds
FROM connections c JOIN controllers k USING (controller_id)
WHERE c.worker_id = :worker_id AND c.ready AND k.seen_at > :alive_since
FOR SHARE OF c

-- name: holds_term
-- Whether a connection is the newest of its worker; no newer one comes before the end of the transaction.
SELECT 1 FROM connections WHERE worker_id = :worker_id AND term = :term FOR SHARE

-- name: add_order
-- Have it given to a worker, and ring at whoever has that. What somebody waits for need not be flushed: who waits is told when
-- nothing came of it. So the statements about orders say for their own transactions how they are committed.
WITH added AS (
    INSERT INTO orders (order_id, worker_id, process_id, starts, asked_by, not_after, message)
    SELECT :order_id, :worker_id, :process_id, :starts::boolean, :asked_by, :not_after::double precision, :message
    FROM set_config('synchronous_commit', :commit, true)
    ON CONFLICT (order_id) DO UPDATE SET
        asked_by = excluded.asked_by, not_after = excluded.not_after, given = NULL, answer = NULL
)
SELECT pg_notify('roundsman_' || controller_id, 'orders') FROM connections WHERE worker_id = :worker_id

-- name: take_orders
-- What is to be given to the workers that a controller has, and was not yet through their present connection.
UPDATE orders o SET given = c.term
FROM connections c, set_config('synchronous_commit', 'off', true)
WHERE c.controller_id = :controller_id AND c.ready AND o.worker_id = c.worker_id
    AND o.answer IS NULL AND o.given IS DISTINCT FROM c.term AND o.not_after > :now
RETURNING o.order_id, o.worker_id, o.asked_by, o.not_after, o.message, o.starts

-- name: answer_order
-- The worker has answered: whoever waits is rung at.
WITH answered AS (
    UPDATE orders SET answer = :answer FROM set_config('synchronous_commit', 'off', true)
    WHERE order_id = :order_id AND asked_by IS NOT NULL
    RETURNING asked_by
),
done AS (
    DELETE FROM orders WHERE order_id = :order_id AND asked_by IS NULL
)
SELECT pg_notify('roundsman_' || asked_by, 'answered') FROM answered

-- name: take_answers
-- What was answered to a controller.
DELETE FROM orders USING set_config('synchronous_commit', 'off', true)
WHERE asked_by = :controller_id AND answer IS NOT NULL
RETURNING order_id, answer

-- name: withdraw_order
-- Nobody waits any more.
DELETE FROM orders WHERE order_id = :order_id RETURNING answer

-- name: forget_orders
-- Nobody can be waiting for these any more.
DELETE FROM orders WHERE not_after < :before

-- name: ordered_starts
-- Processes that another controller still waits for.
SELECT process_id FROM orders WHERE worker_id = :worker_id AND starts AND answer IS NULL AND not_after > :now

-- name: ring
-- Tell a controller something.
SELECT pg_notify('roundsman_' || :controller_id::text, :text::text)

-- name: ring_all
-- Tell all others that live.
SELECT count(pg_notify('roundsman_' || controller_id, :text::text))
FROM controllers WHERE seen_at > :alive_since AND controller_id <> :controller_id

-- name: carry_on
-- A controller lives, and so carries on what it carries.
UPDATE batches SET carried_until = :until WHERE state <> 'ended' AND carried_until IS NOT NULL AND carrier = :controller_id

-- name: take_up
-- What nobody carries is carried by this one from now on.
UPDATE batches SET carrier = :controller_id, carried_until = :until
WHERE batch_number IN (
    SELECT batch_number FROM batches
    WHERE state <> 'ended' AND (carried_until IS NULL OR carried_until < :now)
    LIMIT 1000
    FOR UPDATE SKIP LOCKED
)
RETURNING batch_id

-- name: carried
-- What a controller carries.
SELECT batch_id FROM batches WHERE state <> 'ended' AND carrier = :controller_id

-- name: leave_batches
-- A controller leaves: others may take up what it carried, at once.
UPDATE batches SET carried_until = NULL WHERE state <> 'ended' AND carrier = :controller_id
