"""A job that worker processes import: a fast diagnosis that does as the scan says."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from p2ch_luna.errors import LunaError
from p2ch_luna.findings import Detection
from p2ch_luna.io import write_detections
from p2ch_luna.report.schema import Finding, Report, Scan, Settings

POINT = (1.0, 2.0, 3.0)


def finding(rank: int, mean_mm: float, probability: float, suspicion: float | None) -> Finding:
    return Finding(
        id=f"F{rank}",
        rank=rank,
        center_lps_mm=POINT,
        voxel_irc=POINT,
        slice_index=1,
        slice_number=2,
        label=rank,
        tracking_uid="1.2",
        side="left",
        third="upper",
        is_cut_off=False,
        pleura_mm=4.0,
        longest_mm=mean_mm,
        perpendicular_mm=mean_mm,
        mean_diameter_mm=mean_mm,
        longest_lps_mm=(POINT, POINT),
        perpendicular_lps_mm=(POINT, POINT),
        diameter_mm=mean_mm,
        volume_mm3=100.0,
        mean_hu=0.0,
        texture="solid",
        solid_mm=mean_mm,
        lung_rads="4A",
        nodule_probability=probability,
        segmentation_probability=probability,
        classifier_probability=probability,
        malignancy_probability=suspicion,
        malignancy_by_diameter=0.5,
        images={},
    )


def report(series_uid: str, findings: tuple[Finding, ...] = (), warnings: tuple[str, ...] = ()) -> Report:
    axes = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
    return Report(
        is_searched=True,
        scan=Scan(
            name=series_uid,
            format=".mha",
            series_uid=series_uid,
            series=(),
            shape_irc=(8, 8, 8),
            spacing_xyz_mm=(1.0, 1.0, 1.0),
            origin_xyz_mm=(0.0, 0.0, 0.0),
            direction=axes,
        ),
        findings=findings,
        rejected=(),
        warnings=warnings,
        models=(),
        settings=Settings(
            finding_threshold=0.8,
            operating_point=None,
            proposal_threshold=0.5,
            mask_threshold=0.5,
            outline_share=0.65,
            max_candidates=9,
        ),
        files=("detections.csv",),
        timings_s={},
    )


def diagnose_one(scan: Path, folder: Path) -> Report:
    """Two findings of a scan whose text is no order to fail."""
    order = scan.read_text(encoding="utf-8")
    if order == "bad":
        raise LunaError(f"{scan}: bad; expected good")
    if order == "bug":
        raise ZeroDivisionError("by\nnothing")
    folder.mkdir(parents=True, exist_ok=True)
    if order == "kill":
        (folder / ".0123abcd").mkdir()
        os.kill(os.getpid(), signal.SIGKILL)
    if order == "kill once" and not (folder / "was here").exists():
        (folder / "was here").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if order == "slow":
        return _slowly(folder)
    uid = scan.name.partition(".")[0]
    made = report(uid, (finding(1, 6.0, 0.9, 0.2), finding(2, 8.5, 0.85, 0.7)), ("a warning",))
    write_detections(folder / "detections.csv", [Detection(uid, POINT, 0.9, 0.9, 0.9, 0.2, 100.0, 6.0)])
    (folder / "report.json").write_text(made.to_json(), encoding="utf-8")
    (folder / "worker").write_text(f"{os.getpid()} {torch.get_num_threads()}", encoding="utf-8")
    return made


def _slowly(folder: Path) -> Report:
    """Never done; what was begun is removed where it is ended in order."""
    try:
        (folder / ".0123abcd").mkdir()
        time.sleep(600)
    finally:
        (folder / "tidied").touch()
    raise AssertionError("ten minutes are over")


@dataclass(frozen=True)
class FakeJob:
    """Notes in `log` who loads it."""

    log: Path
    fingerprint: str = "one"
    device: str = "cpu"
    load_error: str = ""

    def load(self) -> Callable[[Path, Path], Report]:
        if self.load_error:
            raise LunaError(self.load_error)
        with self.log.open("a", encoding="utf-8") as file:
            file.write(f"{os.getpid()}\n")
        return diagnose_one
