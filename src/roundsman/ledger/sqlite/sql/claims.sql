-- name: chosen
-- The slots chosen, if they are free, with their new epochs.
SELECT slots.slot_id, lane_id, coalesce(leases.epoch, slots.epoch) + 1, device, job, due, on_demand, resume_due, ready,
    attempts, was_held, plan, planned_since, expires_at, claimed_at, worker_id, lost
FROM slots LEFT JOIN leases USING (slot_id)
WHERE slots.slot_id IN (SELECT value FROM json_each(:slot_ids)) AND paused = 0 AND (expires_at > :now) IS NOT TRUE

-- name: lease
-- Lease a slot, in the place of a lease that ran out if there is one.
INSERT INTO leases (slot_id, epoch, expires_at, worker_id, claimed_at, lost)
VALUES (:slot_id, :epoch, :expires_at, :worker_id, :claimed_at, :lost)
ON CONFLICT (slot_id) DO UPDATE SET
    epoch = excluded.epoch,
    expires_at = excluded.expires_at,
    worker_id = excluded.worker_id,
    claimed_at = excluded.claimed_at,
    lost = excluded.lost

-- name: leases_of
-- The open leases of slots, each with the place at which its slot was asked for.
SELECT
    json_each.key, tags, leases.epoch, expires_at, worker_id, claimed_at, lost,
    EXISTS (SELECT 1 FROM breakers WHERE breakers.device = slots.device AND opened_at IS NOT NULL), result,
    device, job, due, on_demand, resume_due, ready, attempts, was_held, plan, planned_since
FROM json_each(:slots)
CROSS JOIN slots ON device = json_extract(json_each.value, '$[0]') AND job = json_extract(json_each.value, '$[1]')
JOIN leases USING (slot_id) JOIN lanes USING (lane_id)

-- name: lease_to_renew
-- A lease, if it is open and that worker's.
SELECT slot_id, expires_at FROM slots JOIN leases USING (slot_id)
WHERE device = :device AND job = :job AND leases.epoch = :epoch AND (:worker_id IS NULL OR worker_id = :worker_id)

-- name: renew
-- Move an expiry on.
UPDATE leases SET expires_at = :until WHERE slot_id = :slot_id

-- name: end_lease
-- End a lease, if it still holds.
DELETE FROM leases
WHERE slot_id = (SELECT slot_id FROM slots WHERE device = :device AND job = :job) AND epoch = :epoch
RETURNING slot_id

-- name: move_on
-- The slot goes on to its next due time, if that follows from its plan.
UPDATE slots SET
    due = :next_due, ready = :next_due, attempts = 0, was_held = 0, epoch = :epoch, on_demand = 0, resume_due = NULL,
    result = coalesce(:result, result)
WHERE slot_id = :slot_id AND plan = :plan
RETURNING lane_id * 4 + CASE WHEN on_demand THEN 0 ELSE priority END AS queue, due, ready, paused

-- name: plan_of
-- The plan that took the place of another.
SELECT plan, planned_since FROM slots WHERE slot_id = :slot_id

-- name: try_again
-- The slot keeps its due time for another attempt.
UPDATE slots SET ready = :retry_at, attempts = attempts + :tried, epoch = :epoch, result = coalesce(:result, result)
WHERE slot_id = :slot_id
RETURNING lane_id * 4 + CASE WHEN on_demand THEN 0 ELSE priority END AS queue, due, ready, paused

-- name: slot_for_run_now
-- Where a slot stands, for somebody who wants it now.
SELECT slot_id, lane_id * 4, lane_id * 4 + CASE WHEN on_demand THEN 0 ELSE priority END AS queue, due, ready, paused, on_demand, expires_at FROM slots LEFT JOIN leases USING (slot_id)
WHERE device = :device AND job = :job

-- name: run_now
-- Due now, beside the schedule, which is resumed afterwards.
UPDATE slots SET
    resume_due = CASE WHEN on_demand THEN resume_due ELSE due END,
    on_demand = 1,
    due = :now,
    ready = :now
WHERE slot_id = :slot_id

-- name: attempt_now
-- The next attempt at the due time that it has, now.
UPDATE slots SET ready = :now WHERE slot_id = :slot_id

-- name: buckets
-- What limited tags had left.
SELECT tag, tokens, at FROM buckets

-- name: spend
-- What a tag has left now.
INSERT INTO buckets (tag, tokens, at) VALUES (:tag, :tokens, :at)
ON CONFLICT (tag) DO UPDATE SET tokens = excluded.tokens, at = excluded.at
