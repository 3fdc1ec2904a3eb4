-- name: accounted_slots
-- The pairs that had a plan in some time, by device and job, after a place: those that have one, and those that had.
SELECT device, job FROM slots
WHERE (device, job) > (:after_device, :after_job) AND planned_since < :until AND {slot_filters}
UNION
SELECT device, job FROM ended_plans INDEXED BY ended_plans_by_slot
WHERE (device, job) > (:after_device, :after_job) AND since < :until AND until >= :since AND {plan_filters}
ORDER BY device, job
LIMIT :limit

-- name: accounted_now
-- How pairs stand, each with its place: those that are still there.
SELECT
    json_each.key, tags, plan, planned_since, due, on_demand, resume_due, attempts,
    CASE
        WHEN expires_at > :now THEN 'leased'
        WHEN paused = 1 THEN 'paused'
        WHEN due IS NULL THEN 'ended'
        WHEN ready IS NULL THEN 'held'
        WHEN ready <= :now THEN 'due'
        ELSE 'waiting'
    END AS state
FROM json_each(:pairs)
CROSS JOIN slots ON device = json_extract(json_each.value, '$[0]') AND job = json_extract(json_each.value, '$[1]')
JOIN lanes USING (lane_id) LEFT JOIN leases USING (slot_id)

-- name: accounted_plans
-- The plans of pairs that ended in some time or after it, each with the place of its pair.
SELECT json_each.key, tags, plan, since, until FROM json_each(:pairs)
CROSS JOIN ended_plans INDEXED BY ended_plans_by_slot
    ON device = json_extract(json_each.value, '$[0]') AND job = json_extract(json_each.value, '$[1]') AND until >= :since
WHERE since < :until
ORDER BY since, plan_number

-- name: accounted_runs
-- How many rows of pairs, and due times in them, are alike in some time, each with the place of its pair.
SELECT json_each.key, outcome, cause, on_demand, sum(count) FROM json_each(:pairs)
CROSS JOIN runs INDEXED BY runs_by_slot
    ON device = json_extract(json_each.value, '$[0]') AND job = json_extract(json_each.value, '$[1]')
    AND due >= :since AND due < :until
WHERE coalesce(last_due, due) < :until
GROUP BY json_each.key, outcome, cause, on_demand

-- name: accounted_spans
-- The spans of pairs that begin before some time or end after it, and lie in it with one part, each with the place of
-- its pair.
SELECT json_each.key, outcome, due, last_due, count, failure, cause FROM json_each(:pairs)
CROSS JOIN runs INDEXED BY runs_spanning
    ON device = json_extract(json_each.value, '$[0]') AND job = json_extract(json_each.value, '$[1]')
    AND last_due >= :since
WHERE due < :until AND (due < :since OR last_due >= :until)
ORDER BY due

-- name: note_presence
-- A stretch of time, as far as it is known.
INSERT INTO presences (session, asked, since, until) VALUES (:session, :asked, :since, :until)
ON CONFLICT (since, session, asked) DO UPDATE SET until = excluded.until

-- name: presences
-- Those that touch some time.
SELECT session, asked, since, until FROM presences INDEXED BY presences_by_end
WHERE until >= :since AND since <= :until
ORDER BY since, session, asked
