-- name: kept_slots
-- What is to be compared with the configuration.
SELECT slot_id, device, job, tags, plan, priority FROM slots JOIN lanes USING (lane_id)

-- name: lane
-- The lane of a set of tags.
SELECT lane_id FROM lanes WHERE tags = :tags

-- name: add_lane
-- A set of tags seen for the first time.
INSERT INTO lanes (tags) VALUES (:tags)

-- name: remove_empty_lanes
-- Sets of tags that no device has any more.
DELETE FROM lanes WHERE NOT EXISTS (SELECT 1 FROM slots WHERE slots.lane_id = lanes.lane_id)

-- name: add_slot
-- A new pair. One that was here before goes on counting its epochs.
INSERT INTO slots (device, job, lane_id, plan, planned_since, priority, due, ready, epoch, paused) VALUES (
    :device, :job, :lane_id, :plan, :since, :priority, :due, :due,
    coalesce((SELECT epoch FROM retired WHERE device = :device AND job = :job), 0),
    EXISTS (SELECT 1 FROM pauses WHERE kind = 'device' AND name = :device)
        OR EXISTS (SELECT 1 FROM pauses WHERE kind = 'job' AND name = :job)
)

-- name: change_slot
-- Other tags, another schedule, another priority.
UPDATE slots SET
    lane_id = :lane_id,
    plan = :plan,
    planned_since = :since,
    priority = :priority,
    resume_due = :resume_due,
    due = :due,
    ready = CASE WHEN due IS :due THEN ready ELSE :due END,
    attempts = CASE WHEN due IS :due THEN attempts ELSE 0 END,
    was_held = CASE WHEN due IS :due THEN was_held ELSE 0 END
WHERE slot_id = :slot_id

-- name: slot_to_end
-- What decides what becomes of a slot whose plan ends.
SELECT
    device, job, tags, plan, planned_since, due, on_demand, resume_due, attempts,
    coalesce(leases.epoch, slots.epoch) AS epoch, leases.slot_id IS NOT NULL AS leased
FROM slots JOIN lanes USING (lane_id) LEFT JOIN leases USING (slot_id) WHERE slots.slot_id = :slot_id

-- name: keep_ended_plan
-- A plan that counts no more.
INSERT INTO ended_plans (device, job, tags, plan, since, until) VALUES (:device, :job, :tags, :plan, :since, :until)

-- name: remove_lease
-- Nobody may finish it any more.
DELETE FROM leases WHERE slot_id = :slot_id

-- name: remove_slot
-- A pair that is gone.
DELETE FROM slots WHERE slot_id = :slot_id

-- name: retire
-- Remember the epoch of a pair that is gone.
INSERT INTO retired (device, job, epoch) VALUES (:device, :job, :epoch)
ON CONFLICT (device, job) DO UPDATE SET epoch = excluded.epoch

-- name: plans_ending_later
-- The pairs of which a plan ended at an instant that is yet to come.
SELECT device, job, max(until) FROM ended_plans INDEXED BY ended_plans_by_end WHERE until > :now GROUP BY device, job
