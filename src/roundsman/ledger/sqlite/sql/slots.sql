-- name: list_slots
-- By device and job, after a place. The index is that of one filter, the rows are narrowed by the others.
SELECT
    device, job, tags, due, epoch, on_demand,
    CASE
        WHEN held = 1 AND lease_expires_at > :now THEN 'leased'
        WHEN paused = 1 THEN 'paused'
        WHEN due IS NULL THEN 'ended'
        WHEN due <= :now THEN 'due'
        ELSE 'waiting'
    END AS state,
    CASE WHEN held = 1 AND lease_expires_at > :now THEN worker_id END AS worker_id,
    CASE WHEN held = 1 AND lease_expires_at > :now THEN lease_expires_at END AS lease_expires_at
FROM slots INDEXED BY {index} CROSS JOIN lanes USING (lane_id)
WHERE (device, job) > (:after_device, :after_job) AND {filters}
ORDER BY device, job
LIMIT :limit
