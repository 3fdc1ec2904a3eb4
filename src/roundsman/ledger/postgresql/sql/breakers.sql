-- name: breaker
-- What a device's failures have come to.
SELECT device, failures, failure_class, failure, failed_at, opened_at, probe_at, probes FROM breakers WHERE device = :device

-- name: open_breakers
-- Every device that is held back, and why.
SELECT device, failures, failure_class, failure, failed_at, opened_at, probe_at, probes FROM breakers
WHERE opened_at IS NOT NULL
ORDER BY device

-- name: keep_breaker
-- One more failure of a device.
INSERT INTO breakers (device, failures, failure_class, failure, failed_at, opened_at, probe_at, probes)
VALUES (:device, :failures, :failure_class, :failure, :failed_at, :opened_at, :probe_at, :probes)
ON CONFLICT (device) DO UPDATE SET
    failures = excluded.failures,
    failure_class = excluded.failure_class,
    failure = excluded.failure,
    failed_at = excluded.failed_at,
    opened_at = excluded.opened_at,
    probe_at = excluded.probe_at,
    probes = excluded.probes

-- name: watch
-- From now on the device's failures are counted.
UPDATE slots SET watched = true WHERE device = :device AND NOT watched

-- name: forget_breaker
-- The device answered, or somebody says that it will.
WITH unwatched AS (
    UPDATE slots SET watched = false WHERE device = :device AND watched
)
DELETE FROM breakers WHERE device = :device RETURNING opened_at

-- name: forget_breakers_without_slots
-- Devices that were taken away.
DELETE FROM breakers WHERE NOT EXISTS (SELECT 1 FROM slots WHERE slots.device = breakers.device)

-- name: probe_at
-- From when on one execution is let through, if the device is held back.
SELECT probe_at FROM breakers WHERE device = :device AND opened_at IS NOT NULL

-- name: held_among
-- Which of these devices are held back.
SELECT device FROM breakers WHERE device = ANY(:devices::text[]) AND opened_at IS NOT NULL ORDER BY device

-- name: held_of_device
-- The device, if it is held back.
SELECT device FROM breakers WHERE device = :name AND opened_at IS NOT NULL

-- name: held_of_job
-- The devices with this job that are held back.
SELECT slots.device FROM slots JOIN breakers USING (device) WHERE job = :name AND opened_at IS NOT NULL ORDER BY slots.device

-- name: holdable
-- The slots of a device that a breaker holds back: what a person asked for passes it.
SELECT slot_id, due, ready, paused, CASE WHEN expires_at > :now::double precision THEN claimed_at END AS leased_at
FROM slots LEFT JOIN leases USING (slot_id)
WHERE device = :device AND due IS NOT NULL AND NOT on_demand
ORDER BY slot_id

-- name: arrange
-- How they stand from now on.
UPDATE slots SET ready = arranged.ready, was_held = slots.was_held OR arranged.was_held
FROM unnest(:slot_ids::bigint[], :readies::bigint[], :were_held::boolean[]) AS arranged (slot_id, ready, was_held)
WHERE slots.slot_id = arranged.slot_id

-- name: release
-- All of them are offered again, in the order in which they were due.
UPDATE slots SET was_held = was_held OR (ready IS NULL AND due <= :now::double precision), ready = due
WHERE device = :device AND due IS NOT NULL
RETURNING slot_id
