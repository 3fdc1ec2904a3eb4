-- name: result_of
-- What is known of a slot's result.
SELECT result FROM slots WHERE device = :device AND job = :job

-- name: result_of_run
-- The same of the slot that a run was of.
SELECT slot_id, result FROM runs JOIN slots USING (device, job) WHERE run_id = :run_id FOR UPDATE OF slots

-- name: keep_result
-- What is known of it from now on.
UPDATE slots SET result = :result WHERE slot_id = :slot_id

-- name: accept_run
-- The result that a run brought is a version now.
UPDATE runs SET version = :version, changed = :changed, accepted_by = :by, accepted_at = :now WHERE run_id = :run_id
