"""The controller: knows devices and jobs, leases executions to workers, keeps what comes back.

- `service`: the `Controller`, which holds one service per use case and their common ground.
- `membership`: the controllers that share a ledger, and which of them leads; `recognition` of the
  workers of all of them, `catching_up` with the results of all of them.
- `access`: who calls, and what they may do.
- `planner`: which slots there are, and what comes after each run.
- `dispatch`: hands out what is due. `intake`: takes in what came of it, by way of `spool`.
  `shrinkage`: the shrink guard; `acceptance`: what a person confirms of it. `ending`: writes the
  run, and what follows from it; `judgement` says what that is. `evidence` keeps what failed runs
  left behind, as long as `retention` says.
- `workers`: who runs things. `fleet`: commands on them.
- `inspection`: what is configured and how it stands; `history`: what came of it and was kept.
- `operations`: run now, pause, resume, release. `reloading`: another configuration, while serving.
- `server`: serves it all over HTTP until told to stop.
- `api`: the route tables, thin: parse, call one service function, answer.
"""
