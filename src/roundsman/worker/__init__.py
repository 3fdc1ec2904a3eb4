"""The worker: an agent in a network segment that only ever dials out.

General layout, one loop a file:

- `settings`: what a worker is told at its start.
- `identity`: its lasting id and token, kept in the state folder, which it locks.
- `lease_loop`: asks for executions, waits for their time, has them run.
- `heartbeat`: says "alive", and renews every lease held.
- `outbox`: finished runs on disk, from the moment they end until the controller keeps them.
- `uploader`: brings them there.
- `control_channel`: the one connection through which commands arrive.
- `service`: puts these together, and ends them in order.

`runners` do the work (a device session, a process); `sessions` speak with devices; `detectors` look
for what slipped through the scrubbers; `recording` makes a dialogue of a session.
"""
