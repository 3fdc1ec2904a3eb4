-- name: kept_slots
-- What is to be compared with the configuration.
SELECT slot_id, device, job, tags, plan FROM slots JOIN lanes USING (lane_id)

-- name: add_slot
-- A new pair. One that was here before goes on counting its epochs.
INSERT INTO slots (device, job, lane_id, plan, due, epoch, paused) VALUES (
    :device, :job, :lane_id, :plan, :due,
    coalesce((SELECT epoch FROM retired WHERE device = :device AND job = :job), 0),
    EXISTS (SELECT 1 FROM pauses WHERE kind = 'device' AND name = :device)
        OR EXISTS (SELECT 1 FROM pauses WHERE kind = 'job' AND name = :job)
)

-- name: slot_to_replan
-- What decides whether a new schedule takes effect at once.
SELECT device, job, due, lease_expires_at, on_demand, plan FROM slots WHERE slot_id = :slot_id

-- name: change_slot
-- Other tags, another schedule.
UPDATE slots SET lane_id = :lane_id, plan = :plan, due = :due WHERE slot_id = :slot_id

-- name: remove_slot
-- A pair that is gone.
DELETE FROM slots WHERE slot_id = :slot_id
RETURNING device, job, due, epoch, lease_expires_at, on_demand, resume_due

-- name: retire
-- Remember the epoch of a pair that is gone.
INSERT INTO retired (device, job, epoch) VALUES (:device, :job, :epoch)
ON CONFLICT (device, job) DO UPDATE SET epoch = excluded.epoch
