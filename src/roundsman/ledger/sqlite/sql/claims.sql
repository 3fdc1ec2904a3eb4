-- name: release_expired
-- Leases that ran out: their slots are offered again. The lease stays open until somebody claims.
UPDATE slots INDEXED BY slots_held SET held = 0
WHERE held = 1 AND lease_expires_at <= :now
RETURNING lane_id, due, slot_id

-- name: offered
-- The next free slots of a lane, from a rank (due, slot_id) on: one range of slots_offered, whatever the lane's size.
SELECT due, slot_id FROM slots INDEXED BY slots_offered
WHERE lane_id = :lane_id AND held = 0 AND paused = 0 AND due >= :due AND (due > :due OR slot_id >= :slot_id)
ORDER BY due, slot_id
LIMIT :limit

-- name: lease
-- Lease the slots chosen, under new epochs, from now or from their due time on.
UPDATE slots SET
    epoch = epoch + 1,
    held = 1,
    lease_expires_at = max(:now, due) + :lease_seconds,
    worker_id = :worker_id,
    claimed_at = :now
WHERE slot_id IN (SELECT value FROM json_each(:slot_ids))
RETURNING slot_id, device, job, lane_id, due, epoch, lease_expires_at, claimed_at, on_demand, resume_due, worker_id

-- name: lease_of
-- The open lease of a slot.
SELECT slot_id, device, job, tags, due, epoch, lease_expires_at, claimed_at, on_demand, resume_due, worker_id
FROM slots JOIN lanes USING (lane_id)
WHERE device = :device AND job = :job AND lease_expires_at IS NOT NULL

-- name: renew
-- Move an expiry on, never back. A lease that had run out, but that nobody claimed since, is held again.
UPDATE slots SET
    lease_expires_at = max(lease_expires_at, :until),
    held = max(lease_expires_at, :until) > :now
WHERE device = :device AND job = :job AND epoch = :epoch AND lease_expires_at IS NOT NULL
    AND (:worker_id IS NULL OR worker_id = :worker_id)

-- name: end_lease
-- The slot goes on to its next due time, if the lease still holds.
UPDATE slots SET
    due = :next_due, on_demand = 0, resume_due = NULL,
    held = 0, lease_expires_at = NULL, worker_id = NULL, claimed_at = NULL
WHERE device = :device AND job = :job AND epoch = :epoch AND lease_expires_at IS NOT NULL
RETURNING lane_id, due, slot_id

-- name: slot_for_run_now
-- Where a slot stands, for somebody who wants it now.
SELECT slot_id, lane_id, due, paused, lease_expires_at FROM slots WHERE device = :device AND job = :job

-- name: run_now
-- Due now, beside the schedule, which is resumed afterwards.
UPDATE slots SET
    resume_due = CASE WHEN on_demand THEN resume_due ELSE due END,
    on_demand = 1,
    due = :now
WHERE slot_id = :slot_id
