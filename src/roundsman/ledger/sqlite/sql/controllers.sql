-- name: note_controller
-- What a controller says of itself.
INSERT OR REPLACE INTO controllers (controller_id, record) VALUES (:controller_id, :record)

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
UPDATE leadership SET until = max(until, :until) WHERE controller_id = :controller_id AND term = :term

-- name: take_over
-- Lead, if nobody does by now.
UPDATE leadership SET term = term + 1, controller_id = :controller_id, until = :until WHERE until <= :now

-- name: leadership
-- Who leads.
SELECT term, controller_id, until, calls, salt FROM leadership

-- name: call_to_reload
-- One more call.
UPDATE leadership SET calls = calls + 1 RETURNING calls
