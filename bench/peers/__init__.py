"""Programs that log in to routers, each in a process of its own: see `harness`."""
