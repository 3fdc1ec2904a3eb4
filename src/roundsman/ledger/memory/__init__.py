"""A ledger that keeps every law but durability, for tests and for trying things out.

Each method does its work without awaiting, so that nothing comes in between. Its costs grow with
the fleet, unlike those of the drivers that are meant for service.

General layout:

- `driver`: `MemoryLedger`, which is all parts together.
- `tables`, `rows`: everything that is kept. Each part is a class that adds calls of the interface
  to `Tables`, and names as its bases those parts whose work it needs.
- `sync`, `claims`, `finishes`, `results`, `pauses`, `holds`: what is done to slots.
- `runs`, `accounts`, `retention`, `lists`: what is said of them, and of what became of them.
- `workers`, `controllers`, `processes`, `batches`, `audit`: the rest.
- `pages`: lists cut into pages.
"""

from roundsman.ledger.memory.driver import MemoryLedger

__all__ = ["MemoryLedger"]
