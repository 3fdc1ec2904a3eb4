-- What is left of runs that are kept no longer. Runs before the code that needs it.

-- Their due times by day: a span counts on the day of its first.
CREATE TABLE daily (
    day INTEGER NOT NULL, -- its first second, UTC
    job TEXT NOT NULL,
    outcome TEXT NOT NULL,
    cause TEXT NOT NULL, -- empty: none
    on_demand INTEGER NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (day, job, outcome, cause, on_demand)
) STRICT, WITHOUT ROWID;

-- From when on due times are accounted for one by one: runs of earlier ones may be gone.
CREATE TABLE kept (
    since INTEGER NOT NULL
) STRICT;

INSERT INTO kept (since) VALUES (0);
