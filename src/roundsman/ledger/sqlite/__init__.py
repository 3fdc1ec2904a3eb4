"""The ledger in one SQLite file, for one controller.

General layout:

- `driver`: `SqliteLedger`, which hands each call to the writer or to a reader.
- `writer`: the one thread that writes; calls that wait together share a transaction.
- `readers`: the connections that only read, apart from the writer.
- `claims`, `lanes`, `holds`, `sync`, `pauses`, `processes`, `runs`, `results`, `lists`: what is
  done with a connection.
- `database`, `migrations`, `lock`, `failures`: opening it, and what may go wrong with it.
- `sql/`: every statement, with a comment each; `sql/migrations/` makes the tables.
"""
