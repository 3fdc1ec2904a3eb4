"""The HTTP client of every surface the controller serves.

`ControllerClient` is the connection: address, token, TLS, limits, errors. On it hang the
surfaces: `worker` (leases and results), `fleet` (commands on demand) and `manage` (lists and
switches). `retry` says which call is repeated after which error; `errors` what can go wrong.
"""

from roundsman.client.controller import ControllerClient

__all__ = ["ControllerClient"]
