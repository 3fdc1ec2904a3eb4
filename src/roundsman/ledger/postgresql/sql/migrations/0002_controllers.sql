-- Controllers, and which of them leads. Runs before the code that needs it.

-- Those that have not signed off.
CREATE TABLE controllers (
    controller_id text COLLATE "C" PRIMARY KEY,
    address text COLLATE "C",
    seen_at double precision NOT NULL,
    record text COLLATE "C" NOT NULL -- JSON, the whole as RegisteredController in ledger/interface.py
) WITH (fillfactor = 50);

-- Who leads, and until when. One row.
CREATE TABLE leadership (
    only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    term bigint NOT NULL DEFAULT 0,
    controller_id text COLLATE "C" NOT NULL DEFAULT '',
    until double precision NOT NULL DEFAULT 0,
    calls bigint NOT NULL DEFAULT 0, -- to read the configuration anew
    salt text COLLATE "C" NOT NULL DEFAULT gen_random_uuid()::text
) WITH (fillfactor = 50);

INSERT INTO leadership DEFAULT VALUES;

-- The current term. What only the leader may write holds this row's lock, shared, to the end of its transaction: nobody takes
-- over meanwhile. It is a row of its own so that a leader can go on leading while it writes.
CREATE TABLE terms (
    only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    term bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50);

INSERT INTO terms DEFAULT VALUES;
