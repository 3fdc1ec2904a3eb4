-- name: pauses
-- Every pause in force.
SELECT kind, name, since, "by" FROM pauses ORDER BY kind, name

-- name: is_paused
-- Whether a device or a job is held back.
SELECT 1 FROM pauses WHERE kind = :kind AND name = :name

-- name: add_pause
-- Hold back a device or a job, unless it is already.
INSERT INTO pauses (kind, name, since, "by") VALUES (:kind, :name, :since, :by) ON CONFLICT DO NOTHING

-- name: remove_pause
-- Lift a pause.
DELETE FROM pauses WHERE kind = :kind AND name = :name

-- name: hold_device
-- A device's slots are not offered.
UPDATE slots SET paused = 1 WHERE device = :name AND paused = 0
RETURNING slot_id

-- name: hold_job
-- A job's slots are not offered.
UPDATE slots SET paused = 1 WHERE job = :name AND paused = 0
RETURNING slot_id

-- name: free_device
-- A device's slots are offered again, but for those whose job is held back.
UPDATE slots SET paused = 0
WHERE device = :name AND NOT EXISTS (SELECT 1 FROM pauses WHERE kind = 'job' AND name = slots.job)

-- name: free_job
-- A job's slots are offered again, but for those whose device is held back.
UPDATE slots SET paused = 0
WHERE job = :name AND NOT EXISTS (SELECT 1 FROM pauses WHERE kind = 'device' AND name = slots.device)

-- name: freed_by_device
-- What lifting the pause of a device sets free.
SELECT device, job, CASE WHEN on_demand THEN resume_due ELSE due END, CASE WHEN on_demand THEN resume_due ELSE ready END, epoch, plan, planned_since FROM slots
WHERE device = :name AND NOT EXISTS (SELECT 1 FROM leases WHERE leases.slot_id = slots.slot_id)
    AND NOT EXISTS (SELECT 1 FROM pauses WHERE kind = 'job' AND name = slots.job)
ORDER BY device, job

-- name: freed_by_job
-- What lifting the pause of a job sets free.
SELECT device, job, CASE WHEN on_demand THEN resume_due ELSE due END, CASE WHEN on_demand THEN resume_due ELSE ready END, epoch, plan, planned_since FROM slots
WHERE job = :name AND NOT EXISTS (SELECT 1 FROM leases WHERE leases.slot_id = slots.slot_id)
    AND NOT EXISTS (SELECT 1 FROM pauses WHERE kind = 'device' AND name = slots.device)
ORDER BY device, job

-- name: move_on
-- What becomes of a slot that was set free, unless it moved on since.
UPDATE slots SET
    ready = CASE WHEN on_demand OR due IS :next_due THEN ready ELSE :next_due END,
    attempts = CASE WHEN on_demand OR due IS :next_due THEN attempts ELSE 0 END,
    was_held = CASE WHEN on_demand OR due IS :next_due THEN was_held ELSE 0 END,
    due = CASE WHEN on_demand THEN due ELSE :next_due END,
    resume_due = CASE WHEN on_demand THEN :next_due END
WHERE device = :device AND job = :job AND epoch = :epoch AND plan = :plan AND paused = 0
    AND NOT EXISTS (SELECT 1 FROM leases WHERE leases.slot_id = slots.slot_id)
    AND CASE :kind WHEN 'device' THEN device ELSE job END = :name

-- name: offered_of_device
-- A device's slots that may be offered, now or when they are due.
SELECT lane_id * 4 + CASE WHEN on_demand THEN 0 ELSE priority END AS queue, due, ready, slot_id, device FROM slots
WHERE device = :name AND paused = 0 AND ready IS NOT NULL
    AND NOT EXISTS (SELECT 1 FROM leases WHERE leases.slot_id = slots.slot_id AND expires_at > :expired_until)

-- name: offered_of_job
-- A job's slots that may be offered, now or when they are due.
SELECT lane_id * 4 + CASE WHEN on_demand THEN 0 ELSE priority END AS queue, due, ready, slot_id, device FROM slots
WHERE job = :name AND paused = 0 AND ready IS NOT NULL
    AND NOT EXISTS (SELECT 1 FROM leases WHERE leases.slot_id = slots.slot_id AND expires_at > :expired_until)
