-- name: accounted_slots
-- The pairs that had a plan in some time, by device and job, after a place: those that have one, and those that had.
SELECT device, job FROM slots JOIN lanes USING (lane_id)
WHERE (device, job) > (:after_device, :after_job) AND planned_since < :until::double precision AND {filters}
UNION
SELECT device, job FROM ended_plans
WHERE (device, job) > (:after_device, :after_job) AND since < :until AND until >= :since::double precision AND {filters}
ORDER BY device, job
LIMIT :limit

-- name: accounted_now
-- How pairs stand, each with its place: those that are still there.
SELECT
    asked.place, tags, plan, planned_since, due, on_demand, resume_due, attempts,
    CASE
        WHEN expires_at > :now::double precision THEN 'leased'
        WHEN paused THEN 'paused'
        WHEN due IS NULL THEN 'ended'
        WHEN ready IS NULL THEN 'held'
        WHEN ready <= :now THEN 'due'
        ELSE 'waiting'
    END AS state
FROM unnest(:devices::text[], :jobs::text[]) WITH ORDINALITY AS asked (device, job, place)
JOIN slots USING (device, job) JOIN lanes USING (lane_id) LEFT JOIN leases USING (slot_id)

-- name: accounted_plans
-- The plans of pairs that ended in some time or after it, each with the place of its pair.
SELECT asked.place, tags, plan, since, until
FROM unnest(:devices::text[], :jobs::text[]) WITH ORDINALITY AS asked (device, job, place)
JOIN ended_plans USING (device, job)
WHERE until >= :since::double precision AND since < :until::double precision
ORDER BY since, plan_number

-- name: accounted_runs
-- How many rows of pairs, and due times in them, are alike in some time, each with the place of its pair.
SELECT asked.place, outcome, cause, on_demand, sum(count)::bigint AS count
FROM unnest(:devices::text[], :jobs::text[]) WITH ORDINALITY AS asked (device, job, place)
JOIN runs USING (device, job)
WHERE due >= :since::bigint AND due < :until::bigint AND coalesce(last_due, due) < :until
GROUP BY asked.place, outcome, cause, on_demand

-- name: accounted_spans
-- The spans of pairs that begin before some time or end after it, and lie in it with one part, each with the place of
-- its pair.
SELECT asked.place, outcome, due, last_due, count, failure, cause
FROM unnest(:devices::text[], :jobs::text[]) WITH ORDINALITY AS asked (device, job, place)
JOIN runs USING (device, job)
WHERE last_due >= :since::bigint AND due < :until::bigint AND (due < :since OR last_due >= :until)
ORDER BY due

-- name: note_presences
-- Stretches of time, as far as they are known.
INSERT INTO presences (session, asked, since, until)
SELECT * FROM unnest(:sessions::text[], :asked::text[], :sinces::double precision[], :untils::double precision[])
ON CONFLICT (since, session, asked) DO UPDATE SET until = excluded.until

-- name: presences
-- Those that touch some time.
SELECT session, asked, since, until FROM presences
WHERE until >= :since::double precision AND since <= :until::double precision
ORDER BY since, session, asked
