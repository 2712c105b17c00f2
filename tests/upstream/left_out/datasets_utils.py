"""Helpers that datasets' tests import, which its source archive leaves out: those that tests with a Hub use."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import pytest

Test = Callable[..., Any]


def for_all_test_methods(*decorators: Callable[[Test], Test]) -> Callable[[type], type]:
    def decorate(cls: type) -> type:
        for name, method in list(vars(cls).items()):
            if name.startswith("test"):
                for decorator in decorators:
                    method = decorator(method)
                setattr(cls, name, method)
        return cls

    return decorate


def xfail_if_500_502_http_error(test: Test) -> Test:
    """Return the test as it is: here an error of the server is a failure."""
    return test


def require_torchcodec(test: Test) -> Test:
    return pytest.mark.skipif(importlib.util.find_spec("torchcodec") is None, reason="needs torchcodec")(test)


require_zstandard = pytest.mark.skipif(importlib.util.find_spec("zstandard") is None, reason="needs zstandard")


def __getattr__(name: str) -> Any:
    """Return something harmless for a helper of tests without a Hub, which are not run."""
    if name.startswith("__"):
        raise AttributeError(name)
    return lambda test=None, *_, **__: test
