"""What the tests of this room share with those of its neighbours."""

from tests.publishing import run_cli, short_waits

__all__ = ["run_cli", "short_waits"]
