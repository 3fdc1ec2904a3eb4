-- name: lanes
-- Every lane.
SELECT lane_id, tags FROM lanes

-- name: add_lane
-- A set of tags seen for the first time.
INSERT INTO lanes (tags) VALUES (:tags)

-- name: remove_empty_lanes
-- Sets of tags that no device has any more.
DELETE FROM lanes WHERE NOT EXISTS (SELECT 1 FROM slots WHERE slots.lane_id = lanes.lane_id)
