"""A small model with a card, and a benchmark of it whose figures can be checked by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from p2ch_luna.cli import main
from p2ch_luna.models.build import build_model
from p2ch_luna.models.checkpoint import Calibration, ModelCard, OperatingPoint, load_card, save_model
from p2ch_luna.report.benchmark.schema import (
    RATES,
    BenchmarkReport,
    Figures,
    Group,
    HostInput,
    Inputs,
    Settings,
    share_of,
)
from p2ch_luna.report.benchmark.stages import Auc, Proposed, Stages
from p2ch_luna.report.evaluation.schema import FrocPoint
from p2ch_luna.report.malignancy.recipe import recipe_of
from p2ch_luna.report.malignancy.schema import Auc as Area
from p2ch_luna.report.malignancy.schema import Figures as MalignancyFigures
from p2ch_luna.report.malignancy.schema import Gain, Indeterminate, Judge, MalignancyReport, Reliability
from p2ch_luna.report.robustness.schema import Change, RobustnessReport, VariantFigures

ARGUMENTS = {"widths": [4, 8], "window_hu": [-900.0, 300.0]}
LIDC_1 = "1.3.6.1.4.1.14519.5.2.1.6279.6001.179049373636438705059720603192"  # of patient LIDC-IDRI-0001


def card_of(task: str) -> ModelCard:
    return ModelCard(
        builder="segmentation_unet",
        arguments=ARGUMENTS,
        config={
            "task": task,
            "seed": 3,
            "data": {"shape_irc": [32, 32, 32], "train_folds": [0, 1], "validation_folds": [2]},
            "sampling": {"implants": 0.7, "cubes": 0.0},
            "loop": {"epochs": 11, "steps_per_epoch": 500, "batch_size": 4},
            "start": {"init_from": "elsewhere/first.safetensors"},
        },
        data=["nodules_of_x: CC BY 3.0", "chest y: CC BY 4.0"],
        split={
            "train": ["patient-1", "patient-2"],
            "train hosts": ["1.2.3"],
            "validation": ["patient-3"],
            "pretrained on": ["patient-4", "patient-5", "patient-6"],
            "untouched folds": ["7", "8"],
        },
        metrics={"nodule_auc": 0.91, "false_positives_per_patch": 1.64375, "epoch": 7.0},
        calibration=Calibration(
            segmentation=0.5,
            classifier=1.25,
            intercept=-2.0,
            operating_points=(
                OperatingPoint(fp_per_scan=0.125, probability=0.9, sensitivity=0.5),
                OperatingPoint(fp_per_scan=4, probability=0.0625, sensitivity=0.75),
            ),
            on="40 nodules of fold 6",
        ),
        known_failures=("masses at the hilum",),
        software="test",
    )


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Of the task "nodule"."""
    torch.manual_seed(0)
    path = tmp_path / "model.safetensors"
    save_model(path, build_model("segmentation_unet", ARGUMENTS), card_of("nodule"))
    return path


def group(name: str, nodules: int, at_1: int, at_4: int) -> Group:
    found = zip(RATES, (at_1, at_4), strict=True)
    return Group(name=name, nodules=nodules, at=tuple(share_of(rate, n, nodules) for rate, n in found))


@pytest.fixture
def make_group() -> Callable[..., Group]:
    """Of a name, a number of nodules and how many of them are found at 1 and at 4 FP/scan."""
    return group


@pytest.fixture
def benchmark(weights: Path) -> BenchmarkReport:
    """40 nodules: 20 small, of which 11 are found at 4 FP/scan, and 20 larger, of which 19 are."""
    card = load_card(weights)
    assert card.calibration is not None
    return BenchmarkReport(
        inputs=Inputs(
            hosts=(
                HostInput(name="a.mha", series_uid="1.2.3", sha256="0", known=0),
                HostInput(name="dicom", series_uid=LIDC_1, sha256="0", known=1),
            ),
            pool=100,
            pool_sha256="0",
            models={"segmentation": "f" * 64, "classifier": card.weights_sha256},
            calibration=card.calibration.sha256,
        ),
        settings=Settings(
            copies=2, count=10, folds=(7, 8), min_diameter_mm=3, max_diameter_mm=30, seed=5, device="cpu"
        ),
        figures=Figures(
            cpm=0.7,
            cpm_95=(0.6, 0.8),
            froc=(
                FrocPoint(fp_per_scan=0.5, sensitivity=0.5, sensitivity_95=None),
                FrocPoint(fp_per_scan=1, sensitivity=0.625, sensitivity_95=None),
                FrocPoint(fp_per_scan=4, sensitivity=0.75, sensitivity_95=(0.5, 0.9)),
            ),
            scans=4,
            nodules=40,
            distinct_nodules=35,
            found=32,
            false_positives=50,
            groups={
                "diameter": (
                    group("3-6 mm", 20, 8, 11),
                    group("6-10 mm", 15, 13, 14),
                    group("10-20 mm", 5, 4, 5),
                ),
                "texture": (group("ground glass", 4, 1, 1), group("solid", 26, 20, 24)),
                "contrast": (group("below 200 HU", 10, 2, 7), group("400-600 HU", 30, 23, 23)),
                "pleura": (group("below 10 mm", 40, 25, 30),),
                "host": (group("1.2.3", 20, 17, 18), group(LIDC_1, 20, 8, 12)),
            },
            stages=Stages(
                candidates_per_scan=23.5,
                on_nodules=36,
                on_nothing=58,
                proposed=(Proposed(name="all", nodules=40, proposed=36, share=0.9, share_95=(0.7, 0.95)),),
                auc={"joint": Auc(auc=0.97, auc_95=(0.95, 0.98)), "classifier": Auc(auc=None, auc_95=None)},
            ),
        ),
        warnings=("2 host(s): the 95% interval of the CPM is a rough one",),
    )


def variant(
    name: str,
    found: int,
    fp_per_scan: float,
    change: tuple[float, float, float] | None = None,
    nodules: int = 20,
) -> VariantFigures:
    """Of the nodules in view `found` at 4 FP/scan; change: at that rate, with its interval."""
    changes = [Change(fp_per_scan=1, gained=0, lost=0, difference=0, difference_95=(-0.1, 0.1))]
    if change:
        value, *bounds = change
        lost = max(0, -round(value * nodules))
        changes.append(
            Change(
                fp_per_scan=4,
                gained=round(value * nodules) + lost,
                lost=lost,
                difference=value,
                difference_95=(bounds[0], bounds[1]),
            )
        )
    return VariantFigures(
        name=name,
        nodules=nodules,
        cpm=0.5,
        at=(share_of(1, 5, nodules), share_of(4, found, nodules)),
        changes=tuple(changes) if change else (),
        fp_per_scan=fp_per_scan,
        sensitivity=0.5,
    )


@pytest.fixture
def make_variant() -> Callable[..., VariantFigures]:
    """`variant`, for a test that makes its own."""
    return variant


@pytest.fixture
def robustness(benchmark: BenchmarkReport) -> RobustnessReport:
    """As it is 16 of 20 are found; noise loses surely, thick slices fall below 0.7, a kernel shows more."""
    nothing = VariantFigures(
        name="half in view", nodules=0, cpm=None, at=(), changes=(), fp_per_scan=0.5, sensitivity=None
    )
    return RobustnessReport(
        inputs=benchmark.inputs,
        settings=benchmark.settings,
        scans=4,
        score=0.4,
        variants=(
            variant("as it is", 16, 1.0),
            variant("thin slices", 15, 1.5, (-0.05, -0.2, 0.1)),
            variant("thick slices", 13, 0.5, (-0.15, -0.35, 0.05)),
            variant("noise", 14, 1.0, (-0.1, -0.19, -0.01)),
            variant("sharp kernel", 16, 2.5, (0.0, -0.1, 0.1)),
            nothing,
        ),
        warnings=("a: slices of 5 mm; those of 1 mm are interpolated", "the lungs were not found"),
    )


def tell_apart(
    name: str,
    counts: tuple[int, int],
    auc: tuple[float, float, float],
    gain: tuple[float, float, float],
    by_patient: tuple[float, float] | None = None,
) -> MalignancyFigures:
    """counts: benign, malignant; auc, gain: with its interval. The diameter alone has 0.9."""
    return MalignancyFigures(
        name=name,
        benign=counts[0],
        malignant=counts[1],
        network=Area(auc=auc[0], auc_95=auc[1:]),
        diameter=Area(auc=0.9, auc_95=(0.85, 0.94)),
        both=None,
        network_gain=Gain(difference=gain[0], difference_95=gain[1:], p=0.5, by_patient_95=by_patient),
        both_gain=None,
    )


@pytest.fixture
def malignancy() -> MalignancyReport:
    """Small ones are badly told apart, large ones surely worse than by diameter."""
    judges = tuple(
        Judge(
            run=f"fold-{k}",
            weights_sha256=str(k) * 64,
            folds=(k,),
            hosts=("1.2.3",),
            seen_hosts=(),
            epochs=1,
            recipe=recipe_of({"task": "malignancy"}),
            nodules=9,
            temperature=1.5,
        )
        for k in (0, 1)
    )
    return MalignancyReport(
        places=4,
        seed=7,
        judges=judges,
        patients=60,
        all=tell_apart("all", (70, 30), (0.95, 0.92, 0.97), (0.05, 0.01, 0.09), (-0.01, 0.11)),
        one_place_auc=0.93,
        by_diameter=(
            tell_apart("3-6 mm", (50, 4), (0.6, 0.4, 0.8), (0.1, -0.2, 0.3)),  # too few
            tell_apart("6-10 mm", (15, 9), (0.65, 0.5, 0.8), (0.1, -0.2, 0.3)),
            tell_apart("10-20 mm", (5, 7), (0.9, 0.8, 0.96), (-0.1, -0.15, -0.05), (-0.3, 0.01)),
            tell_apart("from 20 mm", (5, 10), (0.85, 0.7, 0.96), (-0.05, -0.09, -0.01)),
        ),
        by_run=(),
        as_said=Reliability(calibration_error=0.08, brier=0.1, bins=()),
        with_temperature=Reliability(calibration_error=0.03, brier=0.09, bins=()),
        indeterminate=Indeterminate(nodules=40, mean_probability=0.4, called_malignant=0.25),
        diameter_error_mm=1.25,
        warnings=(),
    )


@pytest.fixture
def luna_card(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs `luna card`; what it prints, on stderr where it fails."""

    def run(*arguments: str | Path, fails: bool = False) -> str:
        with pytest.raises(SystemExit) as end:
            main(["card", *map(str, arguments)])
        told = capsys.readouterr()
        assert bool(end.value.code) == fails, told.err
        return told.err if fails else told.out

    return run
