-- What looked like a secret in a result. Runs before the code that needs it.

-- JSON: a list of findings; NULL: none.
ALTER TABLE runs ADD COLUMN detected_secrets TEXT;
