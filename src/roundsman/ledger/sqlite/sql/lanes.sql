-- name: lanes
-- Every lane.
SELECT lane_id, tags FROM lanes

-- name: free_slots
-- Every slot that may be offered, now or when it is due.
SELECT lane_id * 4 + CASE WHEN on_demand THEN 0 ELSE priority END AS queue, due, ready, slot_id, device FROM slots
WHERE paused = 0 AND ready IS NOT NULL
    AND NOT EXISTS (SELECT 1 FROM leases WHERE leases.slot_id = slots.slot_id AND expires_at > :expired_until)

-- name: expiring
-- The leases that expire after one instant and until another, and whether their slots are free again.
SELECT lane_id * 4 + CASE WHEN on_demand THEN 0 ELSE priority END AS queue, due, ready, slot_id, device, paused = 0 AND ready IS NOT NULL
FROM leases CROSS JOIN slots USING (slot_id)
WHERE expires_at > :after AND expires_at <= :until

-- name: open_leases
-- Every lease, and whether it runs.
SELECT slot_id, device, lane_id, worker_id, expires_at > :expired_until FROM leases CROSS JOIN slots USING (slot_id)
