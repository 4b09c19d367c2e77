"""What `luna bench runtime` measures and names."""

import json
from pathlib import Path

import pytest
import torch

from p2ch_luna.cli import main
from p2ch_luna.export import formats
from p2ch_luna.inference.classify import CROP_IRC
from p2ch_luna.models.checkpoint import bundled, load_model
from p2ch_luna.report.bench import runtimes
from p2ch_luna.report.bench.runtimes import CHOICES, EAGER, NODULES, Timing, crops, fastest, measure, phantom


def timing(network: str, runtime: str, milliseconds: float) -> Timing:
    return Timing(network, (1, 1, 16, 16, 16), runtime, milliseconds, 1.0, 0.001)


def test_the_fastest_is_so_for_all_networks_together() -> None:
    mine, openvino = "torch, as diagnose runs it", "openvino"
    timings = [
        timing("a", mine, 30),
        timing("b", mine, 10),
        timing("a", openvino, 20),
        timing("b", openvino, 25),
    ]
    assert fastest(timings) == "torch"


def test_what_cannot_be_chosen_is_not_named() -> None:
    assert fastest([timing("a", EAGER, 1), timing("a", "onnxruntime", 5)]) == "onnxruntime"


def test_a_runtime_that_is_not_installed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(runtimes, "_is_installed", lambda runtime: runtime != "onnxruntime")
    list(measure(tmp_path, told.append, shapes={}))
    assert told[0] == 'onnxruntime is not installed and left out: pip install "p2ch-luna[onnxruntime]"'
    assert not any("openvino" in line for line in told)


@pytest.mark.slow
def test_crops_are_round_nodules() -> None:
    chest = phantom()
    around = crops(chest, (NODULES + 1, 1, 4, 4, 4))
    assert around.shape == (NODULES + 1, 1, 4, 4, 4)
    assert (around[0] != around[NODULES]).any()


@pytest.mark.slow
def test_a_classifier_is_not_sure_of_all_crops() -> None:
    model, _ = load_model(bundled("nodule"))
    with torch.inference_mode():
        logits = model(crops(phantom(), (NODULES, 1, *CROP_IRC))).nodule_logit
    assert (logits > 10).sum() > 1
    assert (logits.abs() < 3).sum() > 1


@pytest.mark.slow
def test_a_torch_that_cannot_export_has_rows_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats, "SETTING", "no_such_setting")
    shapes = {"malignancy": (1, 1, 32, 32, 32)}
    timings = measure(tmp_path, lambda _: None, 1, shapes=shapes, compiled=True)
    assert [one.runtime for one in timings][-1] == "torchscript, float32"


@pytest.mark.slow
def test_every_runtime_is_measured_with_small_differences(tmp_path: Path) -> None:
    timings = list(measure(tmp_path, lambda _: None, 1, shapes={"malignancy": (2, 1, 32, 32, 32)}))
    assert [one.runtime for one in timings] == [
        EAGER,
        *CHOICES,
        "torchscript, float32",
        "torch-export, float32",
    ]
    assert all(one.milliseconds > 0 for one in timings)
    assert max(one.largest_difference for one in timings) < 0.02


@pytest.mark.parametrize("as_json", [False, True])
def test_the_fastest_is_printed(
    as_json: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def measured(_folder: Path, _stage: object, runs: int, *, compiled: bool) -> list[Timing]:
        assert (runs, compiled) == (2, True)
        return [timing("nodule", "openvino", 12.0)]

    monkeypatch.setattr(runtimes, "measure", measured)
    with pytest.raises(SystemExit) as done:
        main(["bench", "runtime", "--runs", "2", "--compiled", *(["--json"] if as_json else [])])
    assert not done.value.code
    printed = capsys.readouterr().out
    if as_json:
        assert json.loads(printed)["fastest"] == "openvino"
    else:
        assert "| nodule, 1x1x16x16x16 | openvino | 12 ms  | 1.00          | 0.001" in printed
        assert printed.endswith("on this CPU, for many scans: luna diagnose --runtime openvino\n")


def test_the_cpu_is_named_where_diagnose_would_take_a_gpu(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(runtimes, "measure", lambda *_, **__: [timing("nodule", "openvino", 12.0)])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(SystemExit):
        main(["bench", "runtime"])
    assert capsys.readouterr().out.endswith("luna diagnose --device cpu --runtime openvino\n")
