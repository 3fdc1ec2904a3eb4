-- name: lock
-- Hold these slots, always in the same order, so that nobody waits for somebody who waits for him.
SELECT slot_id FROM slots WHERE slot_id = ANY(:slot_ids::bigint[]) ORDER BY slot_id FOR UPDATE

-- name: lock_devices
-- Hold the slots of these devices.
SELECT slot_id FROM slots WHERE device = ANY(:devices::text[]) ORDER BY slot_id FOR UPDATE

-- name: requeue
-- Put slots that were changed into the queue, or out of it, by what they say now.
WITH changed AS MATERIALIZED (
    SELECT slots.slot_id, lane_id * 4 + CASE WHEN on_demand THEN 0 ELSE priority END AS line, ready, coalesce(ready > due, false) AS delayed,
        NOT paused AND ready IS NOT NULL AND check_at IS NULL AS offered
    FROM slots LEFT JOIN leases USING (slot_id) WHERE slots.slot_id = ANY(:slot_ids::bigint[])
),
queued AS (
    INSERT INTO queue (slot_id, line, ready, delayed) SELECT slot_id, line, ready, delayed FROM changed WHERE offered
    ON CONFLICT (slot_id) DO UPDATE SET line = excluded.line, ready = excluded.ready, delayed = excluded.delayed
),
withdrawn AS (
    DELETE FROM queue USING changed WHERE queue.slot_id = changed.slot_id AND NOT offered
)
UPDATE waters SET
    slot_id = CASE WHEN low.ready <= waters.ready THEN 0 ELSE waters.slot_id END,
    ready = least(low.ready, waters.ready)
FROM (SELECT line, min(ready) AS ready FROM changed WHERE offered GROUP BY line) AS low
WHERE waters.line = low.line AND (low.ready <= waters.ready OR low.ready < :old_before::bigint)

-- name: hold_water
-- Keep others from putting something old into these lines while their water is raised.
SELECT line FROM waters ORDER BY line FOR NO KEY UPDATE SKIP LOCKED

-- name: raise_water
-- To the first of each line, or as far as new rows are sure not to come. Seen from the start where that is said.
UPDATE waters SET ready = first.ready, slot_id = first.slot_id
FROM (
    SELECT old.line,
        CASE WHEN head.ready <= :old_before::bigint THEN head.ready ELSE :old_before END AS ready,
        CASE WHEN head.ready <= :old_before THEN head.slot_id ELSE 0 END AS slot_id
    FROM waters AS old LEFT JOIN LATERAL (
        SELECT ready, slot_id FROM queue
        WHERE queue.line = old.line
            AND (queue.ready, queue.slot_id) >= (CASE WHEN NOT :from_start THEN old.ready ELSE -9223372036854775808 END, old.slot_id)
        ORDER BY queue.ready, queue.slot_id
        LIMIT 1
    ) AS head ON true
    WHERE old.line = ANY(:lines::int[])
) AS first
WHERE waters.line = first.line AND (:from_start OR (first.ready, first.slot_id) > (waters.ready, waters.slot_id))
