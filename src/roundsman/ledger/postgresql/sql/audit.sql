-- name: add_lines
-- Lines more.
INSERT INTO audit (at, area, action, "by", worker_id, process_id, batch_id, entry)
SELECT at, area, action, "by", worker_id, process_id, batch_id, entry FROM json_to_recordset(:lines::json) AS told (
    at double precision, area text, action text, "by" text, worker_id text, process_id text, batch_id text, entry text
)

-- name: list_newest_first
-- Before a place.
SELECT audit_number, at, entry FROM audit
WHERE (at, audit_number) < (:place::double precision, :place_number::bigint) AND {filters}
ORDER BY at DESC, audit_number DESC
LIMIT :limit

-- name: list_oldest_first
-- Likewise, after a place.
SELECT audit_number, at, entry FROM audit
WHERE (at, audit_number) > (:place::double precision, :place_number::bigint) AND {filters}
ORDER BY at, audit_number
LIMIT :limit
