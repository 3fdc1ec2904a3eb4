-- name: list_slots
-- By device and job, after a place.
SELECT
    device, job, tags, due, ready, attempts, result, coalesce(leases.epoch, slots.epoch) AS epoch, on_demand,
    CASE
        WHEN expires_at > :now::double precision THEN 'leased'
        WHEN paused THEN 'paused'
        WHEN due IS NULL THEN 'ended'
        WHEN ready IS NULL THEN 'held'
        WHEN ready <= :now THEN 'due'
        ELSE 'waiting'
    END AS state,
    CASE WHEN expires_at > :now THEN worker_id END AS worker_id,
    CASE WHEN expires_at > :now THEN expires_at END AS lease_expires_at
FROM slots {join} JOIN leases USING (slot_id) JOIN lanes USING (lane_id)
WHERE (device, job) > (:after_device, :after_job) AND {filters}
ORDER BY device, job
LIMIT :limit
