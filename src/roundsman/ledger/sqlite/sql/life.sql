-- name: probe
-- Find out whether the database can be written.
UPDATE probe SET checks = checks + 1

-- name: read_probe
-- Find out whether the database can be read.
SELECT checks FROM probe
