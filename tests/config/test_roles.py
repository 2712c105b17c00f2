"""Every option of training says whether a resumed run may change it."""

from __future__ import annotations

import pytest

from hubdpo.config import TrainConfig
from hubdpo.config.roles import Role


@pytest.mark.parametrize("name", TrainConfig.model_fields)
def test_every_option_has_one_role(name: str) -> None:
    found = [item for item in TrainConfig.model_fields[name].metadata if isinstance(item, Role)]
    assert len(found) == 1, f"mark `{name}` in hubdpo/config with Role.WEIGHTS, Role.MANNER or Role.COMMAND"
