"""Roundsman makes the rounds of a network.

General layout, top to bottom; imports run downward only, and import-linter holds it (see pyproject.toml):

- ``cli``, ``simulator``: what a person starts. ``testing``: what tests import.
- ``controller`` and ``worker``: the two halves. They meet in ``wire`` and over HTTP, never by import.
- ``client``: the HTTP client of the controller's surfaces.
- ``ledger``, ``archive``, ``inventory``, ``notify``: the interfaces to the outside, each with its drivers.
- ``config``: files to frozen, validated records.
- ``schedules``, ``platforms``: pure knowledge of time and of device operating systems.
- ``wire``: the records and states that travel.
- ``clock``, ``errors``, ``logs``, ``secret``: what everything stands on.
"""

__version__ = "0.1.0"
