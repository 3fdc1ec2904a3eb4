-- name: newest_recorded
-- When the newest run was recorded that is beyond so many. Where their numbers say that there are not so many, none is
-- looked at.
SELECT recorded_at FROM runs
WHERE (SELECT max(run_number) - min(run_number) FROM runs) >= :most::bigint
ORDER BY recorded_at DESC, run_number DESC LIMIT 1 OFFSET :most

-- name: prune
-- Take the oldest runs of before an instant away, and add them to the sums of their days; how many.
WITH gone AS (
    DELETE FROM runs WHERE run_number IN (
        SELECT run_number FROM runs WHERE recorded_at < :before::double precision
        ORDER BY recorded_at, run_number LIMIT :limit::bigint
    )
    RETURNING due, last_due, job, outcome, cause, on_demand, count
), summed AS (
    INSERT INTO daily (day, job, outcome, cause, on_demand, count)
    SELECT due / 86400 * 86400, job, outcome, coalesce(cause, ''), on_demand, sum(count)::bigint
    FROM gone GROUP BY 1, 2, 3, 4, 5
    ON CONFLICT (day, job, outcome, cause, on_demand) DO UPDATE SET count = daily.count + excluded.count
), moved AS (
    INSERT INTO kept (only_one, since)
    SELECT TRUE, max(coalesce(last_due, due)) + 1 FROM gone HAVING count(*) > 0
    ON CONFLICT (only_one) DO UPDATE SET since = greatest(kept.since, excluded.since)
)
SELECT count(*) FROM gone

-- name: kept_since
-- From when on they are accounted for one by one.
SELECT coalesce(max(since), 0) FROM kept

-- name: remove_ended_plans
-- Plans of before that, the oldest first.
DELETE FROM ended_plans WHERE plan_number IN (
    SELECT plan_number FROM ended_plans WHERE until < (SELECT since FROM kept) ORDER BY until LIMIT :limit::bigint
)

-- name: remove_presences
-- Who was there, long ago.
DELETE FROM presences WHERE until < :before::double precision

-- name: daily
-- The sums of some days.
SELECT day, job, outcome, cause, on_demand, count FROM daily
WHERE day >= :since::bigint AND day < :until::bigint AND (:job::text IS NULL OR job = :job)
ORDER BY day, job, outcome, cause, on_demand
