"""The records and states that travel: between controller, worker, clients, ledger and pages.

Records are frozen and keyword-only. Instants are Unix seconds, UTC. Nothing here decides
anything; the modules above do.
"""
