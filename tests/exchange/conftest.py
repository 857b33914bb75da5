"""The gloo processes that the tests of the hook share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.exchange.ranks import Ranks


@pytest.fixture(scope="package")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ranks]:
    torch = pytest.importorskip("torch")
    if not torch.distributed.is_available() or not torch.distributed.is_gloo_available():
        pytest.skip("torch is built without gloo")
    group = Ranks(3, tmp_path_factory.mktemp("gloo"))
    yield group
    group.stop()
