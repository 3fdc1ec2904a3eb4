-- name: pauses
-- Every pause in force.
SELECT kind, name, since, "by" FROM pauses ORDER BY kind, name

-- name: is_paused
-- Whether a device or a job is held back.
SELECT 1 FROM pauses WHERE kind = :kind AND name = :name

-- name: add_pause
-- Hold back a device or a job, unless it is already.
INSERT INTO pauses (kind, name, since, "by") VALUES (:kind, :name, :since, :by) ON CONFLICT DO NOTHING RETURNING 1

-- name: remove_pause
-- Lift a pause.
DELETE FROM pauses WHERE kind = :kind AND name = :name RETURNING 1

-- name: slots_of_device
-- A device's slots.
SELECT slot_id FROM slots WHERE device = :name ORDER BY slot_id FOR UPDATE

-- name: slots_of_job
-- A job's slots.
SELECT slot_id FROM slots WHERE job = :name ORDER BY slot_id FOR UPDATE

-- name: mark
-- Slots are not offered while a pause of their device or job is in force.
UPDATE slots SET paused = EXISTS (SELECT 1 FROM pauses WHERE kind = 'device' AND name = device)
    OR EXISTS (SELECT 1 FROM pauses WHERE kind = 'job' AND name = job)
WHERE slot_id = ANY(:slot_ids::bigint[])

-- name: freed_by_device
-- What lifting the pause of a device sets free.
SELECT device, job, CASE WHEN on_demand THEN resume_due ELSE due END AS due,
    CASE WHEN on_demand THEN resume_due ELSE ready END AS ready, epoch, plan, planned_since
FROM slots
WHERE device = :name AND NOT EXISTS (SELECT 1 FROM leases WHERE leases.slot_id = slots.slot_id)
    AND NOT EXISTS (SELECT 1 FROM pauses WHERE kind = 'job' AND name = slots.job)
ORDER BY device, job

-- name: freed_by_job
-- What lifting the pause of a job sets free.
SELECT device, job, CASE WHEN on_demand THEN resume_due ELSE due END AS due,
    CASE WHEN on_demand THEN resume_due ELSE ready END AS ready, epoch, plan, planned_since
FROM slots
WHERE job = :name AND NOT EXISTS (SELECT 1 FROM leases WHERE leases.slot_id = slots.slot_id)
    AND NOT EXISTS (SELECT 1 FROM pauses WHERE kind = 'device' AND name = slots.device)
ORDER BY device, job

-- name: move_on
-- What becomes of slots that were set free, unless they moved on since; the places of those that took it.
UPDATE slots SET
    ready = CASE WHEN on_demand OR due IS NOT DISTINCT FROM next_due THEN ready ELSE next_due END,
    attempts = CASE WHEN on_demand OR due IS NOT DISTINCT FROM next_due THEN attempts ELSE 0 END,
    was_held = was_held AND (on_demand OR due IS NOT DISTINCT FROM next_due),
    due = CASE WHEN on_demand THEN due ELSE next_due END,
    resume_due = CASE WHEN on_demand THEN next_due END
FROM unnest(:devices::text[], :jobs::text[], :epochs::bigint[], :plans::text[], :next_dues::bigint[])
    WITH ORDINALITY AS freed (device, job, epoch, plan, next_due, place)
WHERE slots.device = freed.device AND slots.job = freed.job AND slots.epoch = freed.epoch AND slots.plan = freed.plan AND NOT paused
    AND NOT EXISTS (SELECT 1 FROM leases WHERE leases.slot_id = slots.slot_id)
    AND CASE :kind::text WHEN 'device' THEN slots.device ELSE slots.job END = :name
RETURNING place
