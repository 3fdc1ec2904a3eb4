"""The ledger: the database of slots, leases, runs, workers and processes.

`interface` states the laws; `memory` and `sqlite` keep them; `open_ledger` is the one place that
names the drivers. `roundsman.testing.ledger_conformance` tells whether a driver keeps the laws.
"""
