"""Some of these run on PostgreSQL: the same server as the ledger's own tests."""

from tests.ledger.conftest import postgresql_server, postgresql_url

__all__ = ["postgresql_server", "postgresql_url"]
