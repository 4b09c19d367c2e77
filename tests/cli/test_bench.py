"""`luna bench data` on a scan small enough for a test."""

import json
from pathlib import Path

import pytest

from p2ch_luna.cli import main
from p2ch_luna.geometry import crop_around
from p2ch_luna.training.bench_data import Figure
from p2ch_luna.training.bench_scans import Bench, make_scans


def test_a_bound_is_an_upper_one_unless_said() -> None:
    assert Figure("a", 2.0, "ms", 2.0).holds
    assert not Figure("a", 2.1, "ms", 2.0).holds
    assert Figure("a", 300.0, "a second", 300.0, at_least=True).holds
    assert not Figure("a", 299.0, "a second", 300.0, at_least=True).holds
    assert Figure("a", 1.0, "ms").holds is None


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return make_scans(tmp_path_factory.mktemp("bench"), 4, (60, 96, 96))


def test_scans_are_mirrored_with_their_nodules(bench: Bench) -> None:
    assert [source.series_uid for source in bench.sources] == [f"bench-{k:02d}" for k in range(4)]
    for source in bench.sources:
        ct = source.read()
        for nodule in bench.nodules:
            if nodule.series_uid == ct.series_uid and nodule.diameter_mm > 12:
                assert crop_around(ct.hu, ct.geometry.to_irc(nodule.center_xyz), (1, 1, 1)).item() > -700


def test_the_fourth_scan_has_the_voxels_of_the_first(bench: Bench) -> None:
    first, fourth = bench.sources[0].read(), bench.sources[3].read()
    assert (first.hu == fourth.hu).all()


@pytest.mark.slow
def test_every_figure_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main(["bench", "data", "--scans", "4", "--shape", "60", "96", "96", "--batches", "100", "--json"])
    assert not done.value.code
    figures = json.loads(capsys.readouterr().out)
    found = {figure["what"]: figure["value"] for figure in figures}
    for storage in ("blosc2", "raw"):
        assert 0 < found[f"a random 64³ patch, {storage}"] < 50
        assert 1 < found[f"a prepared scan, {storage}"] < 200
        assert 50 < found[f"highest memory of a worker, {storage}"] < 2000
    assert found["a prepared scan, raw"] > 1.5 * found["a prepared scan, blosc2"]
    assert 0 <= found["training waits for data"] < 100
    assert len(figures) == 25


def test_bench_train_prints_what_is_measured(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(*_: object, steps: int, memory_steps: int) -> list[Figure]:
        return [Figure(f"{steps} steps, {memory_steps} of them small", 2.0, "times", 3.0, at_least=True)]

    monkeypatch.setattr("p2ch_luna.training.bench_train.measure", measured)
    with pytest.raises(SystemExit) as done:
        main(["bench", "train", "--device", "cpu", "--steps", "8", "--memory-steps", "10"])
    assert not done.value.code
    assert "| 8 steps, 10 of them small | 2 times | at least 3 (missed) |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "module"), [([], "bench.diagnosis"), (["--tiles"], "bench.tiles")], ids=["runs", "tiles"]
)
def test_bench_diagnose_prints_what_is_measured(
    options: list[str], module: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(scan: Path, _folder: Path, _stage: object, runs: int) -> list[Figure]:
        return [Figure(f"{runs} runs of {scan}", 16.0, "s", 15.0)]

    monkeypatch.setattr(f"p2ch_luna.report.{module}.measure", measured)
    with pytest.raises(SystemExit) as done:
        main(["bench", "diagnose", "--scan", "ct.mha", "--runs", "3", *options])
    assert not done.value.code
    assert "| 3 runs of ct.mha | 16 s   | at most 15 (missed) |" in capsys.readouterr().out
