-- name: add_line
-- One line more.
INSERT INTO audit (at, area, action, "by", worker_id, process_id, batch_id, entry)
VALUES (:at, :area, :action, :by, :worker_id, :process_id, :batch_id, :entry)

-- name: list_newest_first
-- Before a place. The index is that of one filter, the rows are narrowed by the others.
SELECT audit_number, at, entry FROM audit INDEXED BY {index}
WHERE (at, audit_number) < (:place, :place_number) AND {filters}
ORDER BY at DESC, audit_number DESC
LIMIT :limit

-- name: list_oldest_first
-- Likewise, after a place.
SELECT audit_number, at, entry FROM audit INDEXED BY {index}
WHERE (at, audit_number) > (:place, :place_number) AND {filters}
ORDER BY at, audit_number
LIMIT :limit
