-- name: note_controller
-- What a controller says of itself.
INSERT INTO controllers (controller_id, address, seen_at, record) VALUES (:controller_id, :address, :seen_at, :record)
ON CONFLICT (controller_id) DO UPDATE SET address = excluded.address, seen_at = excluded.seen_at, record = excluded.record

-- name: controllers
-- All that have not signed off.
SELECT record FROM controllers

-- name: remove_controller
-- One signed off.
DELETE FROM controllers WHERE controller_id = :controller_id

-- name: let_go
-- It leads no more, if it did.
UPDATE leadership SET until = 0 WHERE controller_id = :controller_id

-- name: go_on
-- Whoever leads goes on to lead.
UPDATE leadership SET until = greatest(until, :until::double precision)
WHERE controller_id = :controller_id AND term = :term::bigint
RETURNING term, controller_id, until, calls, salt

-- name: leadership
-- Who leads.
SELECT term, controller_id, until, calls, salt FROM leadership

-- name: hold_term
-- Wait until nobody writes under the term, and let nobody begin to.
SELECT term FROM terms FOR UPDATE

-- name: take_over
-- Lead, if nobody does by now.
UPDATE leadership SET term = term + 1, controller_id = :controller_id, until = :until
WHERE until <= :now::double precision
RETURNING term, controller_id, until, calls, salt

-- name: begin_term
-- From now on what is written under the terms before is refused.
UPDATE terms SET term = :term

-- name: under
-- Whether this is the term; it stays so until the end of the transaction.
SELECT 1 FROM terms WHERE term = :term FOR SHARE

-- name: call_to_reload
-- One more call.
UPDATE leadership SET calls = calls + 1 RETURNING calls
