"""The ledger in a PostgreSQL database, for any number of controllers.

General layout:

- `driver`: `PostgresqlLedger`, which gives each call a connection.
- `database`: the pool of connections, transactions, and how long anything may take.
- `claims`, `finishes`, `holds`, `sync`, `pauses`, `processes`, `runs`, `results`, `workers`,
  `lists`: what is done with a connection.
- `incarnation`: which line of history the database goes on, so that no epoch is given twice.
- `clock`, `upkeep`: the database's clock, and what is looked after beside the calls.
- `migrations`, `failures`, `statements`: its schema, its errors, its SQL.
- `sql/`: every statement, with a comment each; `sql/migrations/` makes the tables.
"""
