"""Controllers, workers, a database and a network that fail in every way, and who counts afterwards.

`site` has the processes and the network between them, `faults` what is done to them; `devices` and
`worker` run as processes of their own; `checker` holds what was planned against what came of it.
"""
