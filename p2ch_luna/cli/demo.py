"""`luna demo`: a phantom with known nodules, diagnosed; what was found of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from p2ch_luna.cli._common import (
    device_option,
    output_option,
    pick_device,
    progress,
    threads_option,
    use_threads,
)

if TYPE_CHECKING:
    from p2ch_luna.datasets.phantom import PhantomNodule
    from p2ch_luna.report.schema import Finding


@click.command()
@output_option("Folder for the phantom and what is found in it.", default="demo-out")
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Another seed is another patient.",
)
@click.option("--nodules", type=click.IntRange(1, 12), default=6, show_default=True)
@device_option
@threads_option
def demo(output: Path, seed: int, nodules: int, device: str, threads: int | None) -> None:
    """Make a phantom chest CT with known nodules, find them, and say which were found.

    \b
    luna demo
    luna demo --seed 7 --nodules 10 --output another
    """
    import numpy as np

    from p2ch_luna.datasets.phantom import make_phantom
    from p2ch_luna.files import replacing
    from p2ch_luna.inference import NoduleDetector
    from p2ch_luna.io import write_ct, write_mask, write_nodules
    from p2ch_luna.report.diagnose import diagnose

    use_threads(threads)
    truth = output / "phantom"  # apart: what is found has files of the same names
    scan = truth / "phantom.mhd"
    with progress() as stages:
        with replacing(truth / "annotations.csv") as table:  # opened first: a phantom takes long
            stages.stage("networks")
            detector = NoduleDetector.load(device=pick_device(device))
            stages.stage("making a phantom")
            phantom = make_phantom(np.random.default_rng(seed), n_nodules=nodules)
            write_ct(scan, phantom.ct)
            write_nodules(table, phantom.truth)
            write_mask(truth / "nodules.nii.gz", phantom.nodule_labels, phantom.ct.geometry)
        report = diagnose(scan, output, detector=detector, progress=stages)
    click.echo(_as_text(phantom.nodules, report.findings))
    click.echo(f"The scan: {scan}. Look at: {output / 'report.html'}")
    click.echo(report.statement)


def _as_text(nodules: list[PhantomNodule], findings: tuple[Finding, ...]) -> str:
    """A line a nodule, then the false positives, then the sum."""
    import math

    lines = [f"{'nodule':>6}  {'mm':>5}  {'texture':<14}{'place':<12}{'found':<24}"]
    hits: dict[int, Finding] = {}
    true_ids = set()
    for k, nodule in enumerate(nodules):
        for finding in findings:  # the most probable first
            if math.dist(finding.center_lps_mm, nodule.center_xyz) < nodule.diameter_mm / 2:
                hits.setdefault(k, finding)
                true_ids.add(finding.id)
        found = hits.get(k)
        said = _said(found) if found else "missed"
        lines.append(
            f"{k + 1:>6}  {nodule.diameter_mm:>5.1f}  {nodule.texture:<14}{nodule.place:<12}{said:<24}"
        )
    false = [f for f in findings if f.id not in true_ids]
    for finding in false:
        x, y, z = finding.center_lps_mm
        lines.append(
            f" false  {finding.mean_diameter_mm:>5.1f}  at ({x:.1f}, {y:.1f}, {z:.1f}), {_said(finding)}"
        )
    missed = len(nodules) - len(hits)
    lines.append(f"found {len(hits)} of {len(nodules)} nodules, missed {missed}, false {len(false)}")
    return "\n".join(lines)


def _said(finding: Finding) -> str:
    """Which finding it is, and what it is measured to be."""
    return f"{finding.id}, probability {finding.nodule_probability:.2f}, {finding.mean_diameter_mm:.1f} mm"
