-- name: kept_slots
-- What is to be compared with the configuration.
SELECT slot_id, device, job, tags, plan, priority FROM slots JOIN lanes USING (lane_id)

-- name: add_lanes
-- Sets of tags seen for the first time.
INSERT INTO lanes (tags) SELECT ARRAY(SELECT json_array_elements_text(told.tags))
FROM json_array_elements(:lanes::json) AS told (tags)
ON CONFLICT DO NOTHING

-- name: add_waters
-- The lines of new lanes.
INSERT INTO waters (line) SELECT lane_id * 4 + priority FROM lanes CROSS JOIN generate_series(0, 3) AS priority
ON CONFLICT DO NOTHING

-- name: lanes
-- Every lane.
SELECT tags, lane_id FROM lanes

-- name: remove_empty_lanes
-- Sets of tags that no device has any more.
WITH empty AS (
    DELETE FROM lanes WHERE NOT EXISTS (SELECT 1 FROM slots WHERE slots.lane_id = lanes.lane_id) RETURNING lane_id
)
DELETE FROM waters USING empty WHERE line / 4 = empty.lane_id

-- name: add_slots
-- New pairs. One that was here before goes on counting its epochs.
INSERT INTO slots (device, job, lane_id, plan, planned_since, priority, due, ready, epoch, paused, watched)
SELECT device, job, lane_id, plan, since, priority, due, due,
    coalesce((SELECT epoch FROM retired WHERE retired.device = new.device AND retired.job = new.job), 0),
    EXISTS (SELECT 1 FROM pauses WHERE kind = 'device' AND name = new.device)
        OR EXISTS (SELECT 1 FROM pauses WHERE kind = 'job' AND name = new.job),
    EXISTS (SELECT 1 FROM breakers WHERE breakers.device = new.device)
FROM unnest(
    :devices::text[], :jobs::text[], :lane_ids::integer[], :plans::text[], :sinces::double precision[],
    :priorities::smallint[], :dues::bigint[]
) WITH ORDINALITY AS new (device, job, lane_id, plan, since, priority, due, place)
ORDER BY place
RETURNING slot_id

-- name: touched
-- What decides what becomes of slots that are changed or removed.
SELECT slots.slot_id, device, job, tags, plan, planned_since, due, on_demand, resume_due, attempts,
    leases.slot_id IS NOT NULL AS leased
FROM slots JOIN lanes USING (lane_id) LEFT JOIN leases USING (slot_id) WHERE slots.slot_id = ANY(:slot_ids::bigint[])

-- name: change_slots
-- Other tags, another schedule.
UPDATE slots SET
    lane_id = changed.lane_id,
    plan = changed.plan,
    planned_since = changed.since,
    priority = changed.priority,
    resume_due = changed.resume_due,
    due = changed.due,
    ready = CASE WHEN slots.due IS NOT DISTINCT FROM changed.due THEN slots.ready ELSE changed.due END,
    attempts = CASE WHEN slots.due IS NOT DISTINCT FROM changed.due THEN slots.attempts ELSE 0 END,
    was_held = slots.was_held AND slots.due IS NOT DISTINCT FROM changed.due
FROM unnest(
    :slot_ids::bigint[], :lane_ids::integer[], :plans::text[], :sinces::double precision[],
    :priorities::smallint[], :resume_dues::bigint[], :dues::bigint[]
) AS changed (slot_id, lane_id, plan, since, priority, resume_due, due)
WHERE slots.slot_id = changed.slot_id

-- name: keep_ended_plans
-- Plans that count no more.
INSERT INTO ended_plans (device, job, tags, plan, since, until)
SELECT told.device, told.job, ARRAY(SELECT json_array_elements_text(told.tags)), told.plan, told.since, told.until
FROM json_to_recordset(:plans::json) AS told (
    device text, job text, tags json, plan text, since double precision, until double precision
)

-- name: plans_ending_later
-- The pairs of which a plan ended at an instant that is yet to come.
SELECT device, job, max(until) AS until FROM ended_plans WHERE until > :now::double precision GROUP BY device, job

-- name: remove_slots
-- Pairs that are gone; nobody may finish them any more. Their epochs are remembered.
WITH unleased AS (
    DELETE FROM leases WHERE slot_id = ANY(:slot_ids::bigint[])
),
unqueued AS (
    DELETE FROM queue WHERE slot_id = ANY(:slot_ids)
),
retiring AS (
    INSERT INTO retired (device, job, epoch)
    SELECT device, job, coalesce(leases.epoch, slots.epoch) FROM slots LEFT JOIN leases USING (slot_id)
    WHERE slots.slot_id = ANY(:slot_ids) AND coalesce(leases.epoch, slots.epoch) > 0
    ON CONFLICT (device, job) DO UPDATE SET epoch = excluded.epoch
)
DELETE FROM slots WHERE slot_id = ANY(:slot_ids)
