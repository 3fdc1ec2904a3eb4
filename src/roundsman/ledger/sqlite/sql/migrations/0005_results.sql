-- What is known of results, so that the next one can be held against it. Runs before the code that needs it.

-- JSON, as KeptResult in ledger/interface.py; NULL: nothing is known yet.
ALTER TABLE slots ADD COLUMN result TEXT;

ALTER TABLE runs ADD COLUMN accepted_by TEXT;
ALTER TABLE runs ADD COLUMN accepted_at REAL;
