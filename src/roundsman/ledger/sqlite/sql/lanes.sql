-- name: lanes
-- Every lane.
SELECT lane_id, tags FROM lanes

-- name: free_slots
-- Every slot that may be offered, now or when it is due.
SELECT lane_id, due, ready, slot_id FROM slots
WHERE paused = 0 AND ready IS NOT NULL
    AND NOT EXISTS (SELECT 1 FROM leases WHERE leases.slot_id = slots.slot_id AND expires_at > :expired_until)

-- name: expiring
-- The slots that are free again because their leases expire after one instant and until another.
SELECT lane_id, due, ready, slot_id FROM leases CROSS JOIN slots USING (slot_id)
WHERE expires_at > :after AND expires_at <= :until AND paused = 0 AND ready IS NOT NULL
