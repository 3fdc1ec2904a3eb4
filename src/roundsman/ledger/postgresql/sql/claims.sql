-- name: heads
-- The first slots of lines, as far as they are due: from where the caller knows that a line begins, unless somebody has put
-- something into it since, that may stand before.
SELECT known.line, waters.xmin::text::bigint AS version, first.ready, first.slot_id, first.device
FROM unnest(:lines::int[], :versions::bigint[], :readies::bigint[], :slot_ids::bigint[]) AS known (line, version, ready, slot_id)
JOIN waters ON waters.line = known.line
CROSS JOIN LATERAL (
    SELECT queue.ready, queue.slot_id, slots.device
    FROM queue JOIN slots USING (slot_id)
    WHERE queue.line = known.line
        AND (queue.ready, queue.slot_id) >= (
            CASE WHEN waters.xmin::text::bigint = known.version THEN known.ready ELSE waters.ready END,
            CASE WHEN waters.xmin::text::bigint = known.version THEN known.slot_id ELSE waters.slot_id END
        )
        AND queue.ready <= :horizon::bigint AND (NOT queue.delayed OR queue.ready <= :due_by::bigint)
    ORDER BY queue.ready, queue.slot_id
    LIMIT :share::bigint
) AS first

-- name: running_of_worker
-- How many leases of a worker run.
SELECT count(*) FROM leases WHERE worker_id = :worker_id AND expires_at > :now

-- name: running_of_tags
-- How many leases run of devices with these tags.
SELECT tag, count(*) AS running
FROM leases JOIN slots USING (slot_id) JOIN lanes USING (lane_id) CROSS JOIN unnest(tags) AS tag
WHERE expires_at > :now AND tag = ANY(:tags::text[])
GROUP BY tag

-- name: buckets
-- What limited tags had left.
SELECT tag, tokens, at FROM buckets

-- name: spend
-- What a tag has left now.
INSERT INTO buckets (tag, tokens, at) VALUES (:tag, :tokens, :at)
ON CONFLICT (tag) DO UPDATE SET tokens = excluded.tokens, at = excluded.at

-- name: take
-- Lease what was chosen, each for its claim, but for slots that somebody else is just changing, or whose device has no room: those
-- come without an epoch. Of one device so many are chosen before this one (place). Nothing is joined but what can only be
-- looked up: with statistics of a time when a table was empty, a join would walk through the whole of it. Leases are given
-- under a lock, so that where there was none, none can be in the way.
WITH chosen AS MATERIALIZED (
    SELECT free.*, (:nows::double precision[])[candidate.claim] AS now, candidate.claim,
        :per_device::bigint IS NULL OR candidate.place + (
            SELECT count(*) FROM slots AS other
            WHERE other.device = free.device AND coalesce(
                (SELECT expires_at > (:nows)[candidate.claim] FROM leases WHERE leases.slot_id = other.slot_id), false
            )
        ) < :per_device AS fits
    FROM unnest(:slot_ids::bigint[], :readies::bigint[], :places::int[], :claims::int[]) AS candidate (slot_id, ready, place, claim)
    CROSS JOIN LATERAL (
        SELECT slots.slot_id, slots.device, slots.job, slots.due, slots.ready, slots.epoch, slots.on_demand, slots.resume_due,
            slots.attempts, slots.was_held, slots.plan, slots.planned_since
        FROM queue JOIN slots ON slots.slot_id = queue.slot_id
        WHERE queue.slot_id = candidate.slot_id AND queue.ready = candidate.ready
        FOR UPDATE SKIP LOCKED
    ) AS free
),
granted AS MATERIALIZED (
    SELECT chosen.slot_id, chosen.device, chosen.job, chosen.due, chosen.ready, chosen.on_demand,
        chosen.resume_due, chosen.attempts, chosen.was_held, chosen.plan, chosen.planned_since, chosen.now,
        (:worker_ids::text[])[chosen.claim] AS worker_id,
        greatest(coalesce(before.epoch, chosen.epoch) + 1, (SELECT first_epoch FROM incarnation)) AS epoch,
        greatest(chosen.now, chosen.due) + (:seconds::double precision[])[chosen.claim] AS expires_at,
        CASE WHEN before.slot_id IS NOT NULL THEN json_build_object(
            'since', coalesce((before.lost ->> 'since')::double precision, before.claimed_at),
            'until', before.expires_at,
            'worker_id', before.worker_id,
            'count', CASE WHEN before.lost IS NULL THEN 1 ELSE coalesce((before.lost ->> 'count')::bigint, 1) + 1 END
        ) END AS lost
    FROM chosen LEFT JOIN LATERAL (
        SELECT * FROM leases WHERE leases.slot_id = chosen.slot_id OFFSET 0
    ) AS before ON true
    WHERE chosen.fits AND coalesce(before.expires_at <= chosen.now, true)
),
taken AS (
    DELETE FROM queue WHERE slot_id = ANY(ARRAY(SELECT slot_id FROM granted))
),
leased AS (
    INSERT INTO leases (slot_id, epoch, expires_at, check_at, worker_id, claimed_at, lost)
    SELECT slot_id, epoch, expires_at, expires_at, worker_id, now, lost FROM granted WHERE lost IS NULL
),
leased_again AS (
    INSERT INTO leases (slot_id, epoch, expires_at, check_at, worker_id, claimed_at, lost)
    SELECT slot_id, epoch, expires_at, expires_at, worker_id, now, lost FROM granted WHERE lost IS NOT NULL
    ON CONFLICT (slot_id) DO UPDATE SET
        epoch = excluded.epoch,
        expires_at = excluded.expires_at,
        check_at = excluded.check_at,
        worker_id = excluded.worker_id,
        claimed_at = excluded.claimed_at,
        lost = excluded.lost
)
SELECT slot_id, device, job, due, ready, on_demand, resume_due, attempts, was_held, plan, planned_since, epoch, expires_at, lost
FROM granted
UNION ALL
SELECT slot_id, device, NULL, NULL, ready, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL FROM chosen WHERE NOT fits

-- name: sweep
-- Offer again what is under the first leases that ran out; how many were found, up to when, how many could be looked at, and the
-- devices. Each is looked up by itself, whatever the statistics say: with those of a time when there was no lease, each was held
-- against all of them.
WITH ended AS MATERIALIZED (
    SELECT slot_id, check_at FROM leases
    WHERE check_at >= :after::double precision AND check_at <= :now::double precision
    ORDER BY check_at
    LIMIT :most::bigint
),
over AS MATERIALIZED (
    SELECT slot.*, lease.expires_at
    FROM ended
    CROSS JOIN LATERAL (
        SELECT slot_id, device, lane_id * 4 + CASE WHEN on_demand THEN 0 ELSE priority END AS line, due, ready, paused
        FROM slots WHERE slots.slot_id = ended.slot_id
        FOR UPDATE SKIP LOCKED
    ) AS slot
    CROSS JOIN LATERAL (
        SELECT expires_at FROM leases WHERE leases.slot_id = slot.slot_id AND check_at <= :now
        FOR UPDATE SKIP LOCKED
    ) AS lease
),
looked_at AS (
    UPDATE leases SET check_at = CASE WHEN expires_at > :now THEN expires_at END
    WHERE slot_id = ANY(ARRAY(SELECT slot_id FROM over))
),
offered AS (
    SELECT slot_id, line, ready, ready > due AS delayed FROM over
    WHERE expires_at <= :now AND NOT paused AND ready IS NOT NULL
),
queued AS (
    INSERT INTO queue (slot_id, line, ready, delayed) SELECT slot_id, line, ready, delayed FROM offered
    ON CONFLICT DO NOTHING
),
lowered AS (
    UPDATE waters SET
        slot_id = CASE WHEN low.ready <= waters.ready THEN 0 ELSE waters.slot_id END,
        ready = least(low.ready, waters.ready)
    FROM (SELECT line, min(ready) AS ready FROM offered GROUP BY line) AS low
    WHERE waters.line = low.line AND (low.ready <= waters.ready OR low.ready < :old_before::bigint)
)
SELECT (SELECT count(*) FROM ended) AS found, (SELECT max(check_at) FROM ended) AS until, (SELECT count(*) FROM over) AS looked_at,
    ARRAY(SELECT DISTINCT device FROM over WHERE expires_at <= :now) AS devices

-- name: standing_leases
-- The open leases of slots, each with the place at which its slot was asked for.
SELECT asked.place, lanes.tags, leases.epoch, leases.expires_at, leases.worker_id, leases.claimed_at, leases.lost,
    EXISTS (SELECT 1 FROM breakers WHERE breakers.device = slots.device AND opened_at IS NOT NULL) AS device_held, slots.result,
    slots.device, slots.job, slots.due, slots.on_demand, slots.resume_due, slots.ready, slots.attempts, slots.was_held,
    slots.plan, slots.planned_since
FROM unnest(:devices::text[], :jobs::text[]) WITH ORDINALITY AS asked (device, job, place)
CROSS JOIN LATERAL (SELECT * FROM slots WHERE slots.device = asked.device AND slots.job = asked.job OFFSET 0) AS slots
CROSS JOIN LATERAL (SELECT * FROM leases WHERE leases.slot_id = slots.slot_id OFFSET 0) AS leases
CROSS JOIN LATERAL (SELECT tags FROM lanes WHERE lanes.lane_id = slots.lane_id OFFSET 0) AS lanes

-- name: renew
-- Move expiries on, never back, of leases that were not seen to run out.
WITH asked AS MATERIALIZED (
    SELECT slot.slot_id, asked.epoch, asked.place
    FROM unnest(:devices::text[], :jobs::text[], :epochs::bigint[]) WITH ORDINALITY AS asked (device, job, epoch, place)
    CROSS JOIN LATERAL (SELECT slot_id FROM slots WHERE slots.device = asked.device AND slots.job = asked.job OFFSET 0) AS slot
)
UPDATE leases SET expires_at = greatest(leases.expires_at, :until::double precision)
FROM asked
WHERE leases.slot_id = ANY(ARRAY(SELECT slot_id FROM asked))
    AND leases.slot_id = asked.slot_id AND leases.epoch = asked.epoch AND leases.check_at IS NOT NULL
    AND (:worker_id::text IS NULL OR leases.worker_id = :worker_id)
RETURNING asked.place

-- name: revive
-- The same of leases that were seen to run out, but that nobody claimed since: their slots leave the queue again.
WITH asked AS MATERIALIZED (
    SELECT slot.slot_id, asked.epoch, asked.place
    FROM unnest(:devices::text[], :jobs::text[], :epochs::bigint[]) WITH ORDINALITY AS asked (device, job, epoch, place)
    CROSS JOIN LATERAL (SELECT slot_id FROM slots WHERE slots.device = asked.device AND slots.job = asked.job OFFSET 0) AS slot
    ORDER BY slot.slot_id
),
held AS MATERIALIZED (
    SELECT lease.slot_id, asked.place, greatest(lease.expires_at, :until::double precision) AS expires_at
    FROM asked CROSS JOIN LATERAL (
        SELECT leases.slot_id, leases.expires_at FROM slots JOIN leases ON leases.slot_id = slots.slot_id
        WHERE slots.slot_id = asked.slot_id AND leases.epoch = asked.epoch
            AND (:worker_id::text IS NULL OR leases.worker_id = :worker_id)
        FOR UPDATE
    ) AS lease
),
renewed AS (
    UPDATE leases SET
        expires_at = greatest(expires_at, :until),
        check_at = CASE WHEN check_at IS NOT NULL OR greatest(expires_at, :until) > :now::double precision THEN greatest(expires_at, :until) END
    WHERE slot_id = ANY(ARRAY(SELECT slot_id FROM held))
),
withdrawn AS (
    DELETE FROM queue WHERE slot_id = ANY(ARRAY(SELECT slot_id FROM held WHERE expires_at > :now))
)
SELECT place FROM held

-- name: slot_for_run_now
-- Where a slot stands, for somebody who wants it now.
SELECT slots.slot_id, due, ready, paused, on_demand, expires_at FROM slots LEFT JOIN leases USING (slot_id)
WHERE device = :device AND job = :job
FOR UPDATE OF slots

-- name: run_now
-- Due now, beside the schedule, which is resumed afterwards.
UPDATE slots SET
    resume_due = CASE WHEN on_demand THEN resume_due ELSE due END,
    on_demand = true,
    due = :now,
    ready = :now
WHERE slot_id = :slot_id

-- name: attempt_now
-- The next attempt at the due time that it has, now.
UPDATE slots SET ready = :now WHERE slot_id = :slot_id
