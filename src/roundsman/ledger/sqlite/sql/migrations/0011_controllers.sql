-- Controllers, and which of them leads. Runs before the code that needs it.

-- Those that have not signed off.
CREATE TABLE controllers (
    controller_id TEXT NOT NULL PRIMARY KEY,
    record TEXT NOT NULL -- JSON, the whole as RegisteredController in ledger/interface.py
) STRICT, WITHOUT ROWID;

-- Who leads, and until when. One row.
CREATE TABLE leadership (
    term INTEGER NOT NULL,
    controller_id TEXT NOT NULL,
    until REAL NOT NULL,
    calls INTEGER NOT NULL, -- to read the configuration anew
    salt TEXT NOT NULL
) STRICT;

INSERT INTO leadership (term, controller_id, until, calls, salt) VALUES (0, '', 0, 0, lower(hex(randomblob(16))));
