-- Several attempts at one due time. Runs before the code that needs it.

-- From when on a slot is offered: due, or later while it waits for another attempt; NULL as due is. Claims are ordered by it.
ALTER TABLE slots ADD COLUMN ready INTEGER;
UPDATE slots SET ready = due;
-- How many attempts at due have failed so far.
ALTER TABLE slots ADD COLUMN attempts INTEGER NOT NULL DEFAULT 0;

ALTER TABLE runs ADD COLUMN attempt INTEGER NOT NULL DEFAULT 1;
ALTER TABLE runs ADD COLUMN retry_at INTEGER;
