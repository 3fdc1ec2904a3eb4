-- name: probe
-- Find out whether the database can be written.
UPDATE probe SET checks = checks + 1

-- name: server
-- Who answers: whether it can be written at all, its clock, and the line of history that it goes on.
SELECT in_recovery,
    CASE WHEN NOT in_recovery THEN left(pg_walfile_name(pg_current_wal_lsn()), 8) END AS timeline,
    (SELECT system_identifier::text FROM pg_control_system()) AS system_identifier
FROM pg_is_in_recovery() AS in_recovery

-- name: clock
-- The clock that all controllers go by.
SELECT extract(epoch FROM clock_timestamp())::double precision

-- name: incarnation
-- The line of history on which the database was written so far.
SELECT system_identifier, timeline, first_epoch FROM incarnation

-- name: first_incarnation
-- A new database: its epochs begin at one.
INSERT INTO incarnation (system_identifier, timeline, first_epoch) VALUES (:system_identifier, :timeline, 1)

-- name: next_incarnation
-- It goes on elsewhere: no epoch that was given before, and may be forgotten here, is given again.
UPDATE incarnation SET
    system_identifier = :system_identifier,
    timeline = :timeline,
    first_epoch = greatest(first_epoch + (1::bigint << 20), extract(epoch FROM clock_timestamp())::bigint << 20)

-- name: lock_alone
-- Until the end of the transaction nobody else holds this lock.
SELECT pg_advisory_xact_lock(:key::bigint)

-- name: lock_shared
-- Until the end of the transaction nobody holds this lock alone.
SELECT pg_advisory_xact_lock_shared(:key::bigint)
