-- name: lock
-- Hold these slots, always in the same order, so that nobody waits for somebody who waits for him.
SELECT slot_id FROM slots WHERE slot_id = ANY(:slot_ids::bigint[]) ORDER BY slot_id FOR UPDATE

-- name: lock_devices
-- Hold the slots of these devices.
SELECT slot_id FROM slots WHERE device = ANY(:devices::text[]) ORDER BY slot_id FOR UPDATE

-- name: requeue
-- Put slots that were changed into the queue, or out of it, by what they say now. Here as in what follows, rows are named by
-- their keys and never joined, so that statistics of a time when a table was empty have nobody walk through it.
WITH changed AS MATERIALIZED (
    SELECT slots.slot_id, lane_id * 4 + CASE WHEN on_demand THEN 0 ELSE priority END AS line, ready, coalesce(ready > due, false) AS delayed,
        NOT paused AND ready IS NOT NULL AND check_at IS NULL AS offered
    FROM slots LEFT JOIN LATERAL (
        SELECT check_at FROM leases WHERE leases.slot_id = slots.slot_id OFFSET 0
    ) AS lease ON true
    WHERE slots.slot_id = ANY(:slot_ids::bigint[])
),
queued AS (
    INSERT INTO queue (slot_id, line, ready, delayed) SELECT slot_id, line, ready, delayed FROM changed WHERE offered
    ON CONFLICT (slot_id) DO UPDATE SET line = excluded.line, ready = excluded.ready, delayed = excluded.delayed
),
withdrawn AS (
    DELETE FROM queue WHERE slot_id = ANY(ARRAY(SELECT slot_id FROM changed WHERE NOT offered))
)
UPDATE waters SET
    slot_id = CASE WHEN low.ready <= waters.ready THEN 0 ELSE waters.slot_id END,
    ready = least(low.ready, waters.ready)
FROM (SELECT line, min(ready) AS ready FROM changed WHERE offered GROUP BY line) AS low
WHERE waters.line = low.line AND (low.ready <= waters.ready OR low.ready < :old_before::bigint)

-- name: hold_water
-- Keep others from putting something old into these lines while it is looked where they begin.
SELECT line FROM waters ORDER BY line FOR NO KEY UPDATE SKIP LOCKED

-- name: raise_water
-- To the first of each line, or as far as new rows are sure not to come. All of it is looked at, also what lies below the water.
UPDATE waters SET ready = first.ready, slot_id = first.slot_id
FROM (
    SELECT old.line,
        CASE WHEN head.ready <= :now::bigint THEN head.ready ELSE :now END AS ready,
        CASE WHEN head.ready <= :now THEN head.slot_id ELSE 0 END AS slot_id
    FROM waters AS old LEFT JOIN LATERAL (
        SELECT ready, slot_id FROM queue WHERE queue.line = old.line ORDER BY queue.ready, queue.slot_id LIMIT 1
    ) AS head ON true
    WHERE old.line = ANY(:lines::int[])
) AS first
WHERE waters.line = first.line AND (first.ready, first.slot_id) IS DISTINCT FROM (waters.ready, waters.slot_id)

-- name: lanes
-- Every lane.
SELECT lane_id, tags FROM lanes

-- name: lanes_there
-- How many lanes there are, and the last that was made.
SELECT count(*) AS number, coalesce(max(lane_id), 0) AS last FROM lanes

-- name: set_aside
-- Take slots out of their lines whose devices have leases that run. Those leases are held until this is committed: who ends one
-- of them after that finds what waits for it. It goes from a device to its slots to their leases, whatever the statistics say
-- (OFFSET 0): of an earlier, smaller fleet they had it walk through all leases for each slot.
WITH met AS MATERIALIZED (
    SELECT held.slot_id, held.device FROM unnest(:slot_ids::bigint[]) AS asked (slot_id) CROSS JOIN LATERAL (
        SELECT slots.slot_id, slots.device, queue.line FROM slots JOIN queue USING (slot_id) WHERE slots.slot_id = asked.slot_id OFFSET 0
        FOR UPDATE SKIP LOCKED
    ) AS held
    WHERE held.line >= 0
),
waiting AS MATERIALIZED (
    SELECT met.slot_id FROM met CROSS JOIN LATERAL (
        SELECT 1 FROM (SELECT slot_id FROM slots WHERE slots.device = met.device OFFSET 0) AS other CROSS JOIN LATERAL (
            SELECT 1 FROM leases
            WHERE leases.slot_id = other.slot_id AND check_at IS NOT NULL AND expires_at > :now::double precision
            FOR SHARE SKIP LOCKED
        ) AS running
        LIMIT 1
    ) AS lease
)
UPDATE queue SET line = -1 - line WHERE slot_id = ANY(ARRAY(SELECT slot_id FROM waiting))
RETURNING slot_id, ready

-- name: let_in
-- Offer again what was set aside of devices of which a lease has ended.
WITH waiting AS MATERIALIZED (
    SELECT other.slot_id
    FROM unnest(CASE WHEN EXISTS (SELECT 1 FROM queue WHERE line < 0) THEN :devices::text[] ELSE '{}' END) AS ended (device)
    CROSS JOIN LATERAL (SELECT slot_id FROM slots WHERE slots.device = ended.device OFFSET 0) AS other
    CROSS JOIN LATERAL (SELECT line FROM queue WHERE queue.slot_id = other.slot_id OFFSET 0) AS queued
    WHERE queued.line < 0
),
held AS MATERIALIZED (
    SELECT slot_id FROM slots WHERE slot_id = ANY(ARRAY(SELECT slot_id FROM waiting)) ORDER BY slot_id FOR UPDATE
),
offered AS (
    UPDATE queue SET line = greatest(line, -1 - line) WHERE slot_id = ANY(ARRAY(SELECT slot_id FROM held))
    RETURNING line, ready
)
UPDATE waters SET
    slot_id = CASE WHEN low.ready <= waters.ready THEN 0 ELSE waters.slot_id END,
    ready = least(low.ready, waters.ready)
FROM (SELECT line, min(ready) AS ready FROM offered GROUP BY line) AS low
WHERE waters.line = low.line AND (low.ready <= waters.ready OR low.ready < :old_before::bigint)

-- name: devices_aside
-- The devices of which something is set aside: all, or those of which no lease runs.
WITH aside AS MATERIALIZED (
    SELECT DISTINCT slot.device FROM (SELECT slot_id FROM queue WHERE line < 0 OFFSET 0) AS waiting
    CROSS JOIN LATERAL (SELECT device FROM slots WHERE slots.slot_id = waiting.slot_id OFFSET 0) AS slot
)
SELECT device FROM aside
WHERE :whatever_runs::boolean OR NOT EXISTS (
    SELECT 1 FROM (SELECT slot_id FROM slots WHERE slots.device = aside.device OFFSET 0) AS other
    CROSS JOIN LATERAL (
        SELECT 1 FROM leases
        WHERE leases.slot_id = other.slot_id AND check_at IS NOT NULL AND expires_at > :now::double precision
        OFFSET 0
    ) AS running
)
