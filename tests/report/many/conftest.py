"""Folders of fake scans, and worker processes that find the modules of these tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from p2ch_luna.io.find_scans import FoundScan

from .fake_jobs import FakeJob

ROOT = Path(__file__).parents[3]

MakeScans = Callable[..., list[FoundScan]]


@pytest.fixture(autouse=True, scope="module")
def _modules_of_tests() -> Iterator[None]:
    """Workers import `tests.report.many.fake_jobs`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT)
        patch.setenv("PYTHONPATH", str(ROOT))
        yield


@pytest.fixture(scope="module")
def make_scans(tmp_path_factory: pytest.TempPathFactory) -> MakeScans:
    """Scans by name, each with its order: what the fake diagnosis is to do with it."""

    def make(**orders: str) -> list[FoundScan]:
        folder = tmp_path_factory.mktemp("scans")
        for name, order in orders.items():
            (folder / f"{name}.mha").write_text(order, encoding="utf-8")
        return [FoundScan(name, folder / f"{name}.mha") for name in orders]

    return make


@pytest.fixture
def job(tmp_path: Path) -> FakeJob:
    return FakeJob(tmp_path / "loaded")
