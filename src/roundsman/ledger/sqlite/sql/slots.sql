-- name: list_slots
-- By device and job, after a place. The source follows one filter, the rows are narrowed by the others.
SELECT
    device, job, tags, due, ready, attempts, json_extract(result, '$.quarantined.run_id') AS quarantined, coalesce(leases.epoch, slots.epoch) AS epoch, on_demand,
    CASE
        WHEN expires_at > :now THEN 'leased'
        WHEN paused = 1 THEN 'paused'
        WHEN due IS NULL THEN 'ended'
        WHEN ready IS NULL THEN 'held'
        WHEN ready <= :now THEN 'due'
        ELSE 'waiting'
    END AS state,
    CASE WHEN expires_at > :now THEN worker_id END AS worker_id,
    CASE WHEN expires_at > :now THEN expires_at END AS lease_expires_at
FROM {source} CROSS JOIN lanes USING (lane_id)
WHERE (device, job) > (:after_device, :after_job) AND {filters}
ORDER BY device, job
LIMIT :limit
