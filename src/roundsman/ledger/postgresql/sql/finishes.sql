-- name: finish
-- End leases that hold: their slots move on, or wait for another attempt, and their runs are written. Those of devices
-- whose failures are counted, and slots whose plan was replaced meanwhile, are left alone.
WITH ending AS MATERIALIZED (
    SELECT * FROM json_to_recordset(:endings::json) AS ending (
        place integer, device text, job text, epoch bigint, next_due bigint, retry_at bigint, tried integer, plan text, result text
    )
),
held AS MATERIALIZED (
    SELECT slots.slot_id, ending.* FROM ending JOIN slots ON slots.device = ending.device AND slots.job = ending.job
    WHERE NOT slots.watched AND (ending.retry_at IS NOT NULL OR ending.plan = slots.plan)
    ORDER BY slots.slot_id
    FOR UPDATE OF slots
),
ended AS (
    DELETE FROM leases USING held WHERE leases.slot_id = held.slot_id AND leases.epoch = held.epoch
    RETURNING held.*
),
moved AS (
    UPDATE slots SET
        due = CASE WHEN retry_at IS NULL THEN next_due ELSE due END,
        ready = coalesce(retry_at, next_due),
        attempts = CASE WHEN retry_at IS NULL THEN 0 ELSE attempts + tried END,
        was_held = retry_at IS NOT NULL AND was_held,
        on_demand = retry_at IS NOT NULL AND on_demand,
        resume_due = CASE WHEN retry_at IS NOT NULL THEN resume_due END,
        epoch = ended.epoch,
        result = coalesce(ended.result, slots.result)
    FROM ended WHERE slots.slot_id = ended.slot_id
    RETURNING slots.slot_id, lane_id * 4 + CASE WHEN on_demand THEN 0 ELSE priority END AS line, due, ready, paused
),
queued AS (
    INSERT INTO queue (slot_id, line, ready, delayed)
    SELECT slot_id, line, ready, ready > due FROM moved WHERE NOT paused AND ready IS NOT NULL
    ON CONFLICT (slot_id) DO UPDATE SET line = excluded.line, ready = excluded.ready, delayed = excluded.delayed
),
withdrawn AS (
    DELETE FROM queue USING moved WHERE queue.slot_id = moved.slot_id AND moved.ready IS NULL
),
lowered AS (
    UPDATE waters SET
        slot_id = CASE WHEN low.ready <= waters.ready THEN 0 ELSE waters.slot_id END,
        ready = least(low.ready, waters.ready)
    FROM (SELECT line, min(ready) AS ready FROM moved WHERE NOT paused GROUP BY line) AS low
    WHERE waters.line = low.line AND (low.ready <= waters.ready OR low.ready < :old_before::bigint)
),
written AS (
    INSERT INTO runs ({columns})
    SELECT {columns} FROM ROWS FROM (json_populate_recordset(NULL::runs, :runs::json), unnest(:places::integer[])) AS told
    WHERE unnest = ANY(ARRAY(SELECT place FROM ended))
)
SELECT place FROM ended

-- name: end_lease
-- End a lease, if it still holds.
DELETE FROM leases USING slots
WHERE leases.slot_id = slots.slot_id AND device = :device AND job = :job AND leases.epoch = :epoch
RETURNING leases.slot_id

-- name: move_on
-- The slot goes on to its next due time, if that follows from its plan.
UPDATE slots SET
    due = :next_due, ready = :next_due, attempts = 0, was_held = false, epoch = :epoch, on_demand = false, resume_due = NULL,
    result = coalesce(:result, result)
WHERE slot_id = :slot_id AND plan = :plan
RETURNING 1

-- name: plan_of
-- The plan that took the place of another.
SELECT plan, planned_since FROM slots WHERE slot_id = :slot_id

-- name: try_again
-- The slot keeps its due time for another attempt.
UPDATE slots SET ready = :retry_at, attempts = attempts + :tried::integer, epoch = :epoch, result = coalesce(:result, result)
WHERE slot_id = :slot_id
