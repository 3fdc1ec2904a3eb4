-- Which controller has which worker, what controllers ask of each other's workers, and who carries a batch. Runs before the
-- code that needs it.

-- Of two connections of a worker the one with the larger term is the newer.
CREATE SEQUENCE connection_terms;

CREATE TABLE connections (
    worker_id text COLLATE "C" PRIMARY KEY,
    controller_id text COLLATE "C" NOT NULL,
    term bigint NOT NULL,
    ready boolean NOT NULL, -- what the worker said first is dealt with
    bounds text COLLATE "C" NOT NULL -- JSON
) WITH (fillfactor = 50);

CREATE INDEX connections_by_controller ON connections (controller_id);

-- Starts and stops, until they are answered.
CREATE TABLE orders (
    order_id text COLLATE "C" PRIMARY KEY,
    worker_id text COLLATE "C" NOT NULL,
    process_id text COLLATE "C" NOT NULL,
    starts boolean NOT NULL,
    asked_by text COLLATE "C", -- the controller that waits; NULL: nobody does
    not_after double precision NOT NULL,
    message text COLLATE "C" NOT NULL, -- JSON, as it goes to the worker
    given bigint, -- the term of the connection through which it went last
    answer text COLLATE "C" -- JSON
) WITH (fillfactor = 50);

CREATE INDEX orders_by_worker ON orders (worker_id);
CREATE INDEX orders_answered ON orders (asked_by) WHERE answer IS NOT NULL;
CREATE INDEX orders_by_end ON orders (not_after);

ALTER TABLE batches ADD COLUMN carrier text COLLATE "C"; -- the controller that carries it
ALTER TABLE batches ADD COLUMN carried_until double precision; -- then another one may

CREATE INDEX batches_open ON batches (carried_until) WHERE state <> 'ended';
