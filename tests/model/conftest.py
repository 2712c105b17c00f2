"""What the tests of this room share with those of its neighbours."""

from tests.publishing import data, faults, other, run, run_cli, short_waits

__all__ = ["data", "faults", "other", "run", "run_cli", "short_waits"]
