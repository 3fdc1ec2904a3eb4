"""Roundsman makes the rounds of a network.

General layout, bottom to top; imports run downward only (CONTRIBUTING.md has the picture, and
an import contract holds it):

- `errors`, `secret`, `clock`, `logs`: what everything stands on.
- `wire`: the records and states that travel between controller, worker and clients.
- `schedules`: when a job is due, as pure functions of time.
- `config`: configuration files to frozen, validated records.
- `ledger`: the database of slots, leases, runs, workers and processes.
- `archive`: the git repository of results.
- `client`: the HTTP client of every surface the controller serves.
- `controller`: one service module per use case; `controller.api` maps them to HTTP.
- `worker`: one file per loop; `runners` do the work, `sessions` speak with devices.
- `simulator`: devices over real SSH, for the demo and the tests.
- `testing`: clocks, factories and conformance suites, for our drivers and for others'.
- `cli`: one file per command; the only reader of the environment.
"""

__version__ = "0.1.0"
