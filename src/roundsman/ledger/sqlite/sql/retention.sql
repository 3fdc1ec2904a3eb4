-- name: newest_recorded
-- When the newest run was recorded that is beyond so many. Where their numbers say that there are not so many, none is
-- looked at.
SELECT recorded_at FROM runs INDEXED BY runs_by_time
ORDER BY recorded_at DESC
LIMIT coalesce((SELECT max(run_number) FROM runs) - (SELECT min(run_number) FROM runs) >= :most, 0) OFFSET :most

-- name: sum_oldest
-- Add the oldest runs of before an instant to the sums of their days.
INSERT INTO daily (day, job, outcome, cause, on_demand, count)
SELECT due / 86400 * 86400, job, outcome, coalesce(cause, ''), on_demand, sum(count) FROM (
    SELECT due, job, outcome, cause, on_demand, count FROM runs INDEXED BY runs_by_time
    WHERE recorded_at < :before ORDER BY recorded_at, run_number LIMIT :limit
)
WHERE TRUE
GROUP BY 1, 2, 3, 4, 5
ON CONFLICT (day, job, outcome, cause, on_demand) DO UPDATE SET count = daily.count + excluded.count

-- name: last_due_of_oldest
-- The last due time of those.
SELECT max(coalesce(last_due, due)) FROM (
    SELECT due, last_due FROM runs INDEXED BY runs_by_time
    WHERE recorded_at < :before ORDER BY recorded_at, run_number LIMIT :limit
)

-- name: remove_oldest
-- And take them away.
DELETE FROM runs WHERE run_number IN (
    SELECT run_number FROM runs INDEXED BY runs_by_time
    WHERE recorded_at < :before ORDER BY recorded_at, run_number LIMIT :limit
)

-- name: keep_since
-- Due times up to one are accounted for by day only.
UPDATE kept SET since = max(since, :since)

-- name: kept_since
-- From when on they are accounted for one by one.
SELECT since FROM kept

-- name: remove_ended_plans
-- Plans of before that, the oldest first.
DELETE FROM ended_plans WHERE plan_number IN (
    SELECT plan_number FROM ended_plans WHERE until < (SELECT since FROM kept) ORDER BY until LIMIT :limit
)

-- name: remove_presences
-- Who was there, long ago.
DELETE FROM presences WHERE until < :before

-- name: daily
-- The sums of some days.
SELECT day, job, outcome, cause, on_demand, count FROM daily
WHERE day >= :since AND day < :until AND (:job IS NULL OR job = :job)
ORDER BY day, job, outcome, cause, on_demand
