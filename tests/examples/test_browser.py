"""examples/browser: each step in JavaScript, by node, as in Python."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from p2ch_luna.datasets.phantom import make_phantom
from p2ch_luna.geometry import CtVolume, ImageGeometry
from p2ch_luna.inference.joint import LOGIT_LIMIT, joint_probability
from p2ch_luna.inference.propose import Proposals, propose
from p2ch_luna.inference.tiles import plan_tiles
from p2ch_luna.io import read_ct, write_ct
from p2ch_luna.lungs import Lungs, PreparedCt, find_lungs, prepare
from p2ch_luna.models.checkpoint import Calibration
from support.browser_site import run_node, run_steps

pytestmark = pytest.mark.slow

COS, SIN = 0.96, 0.28
TILT = np.array([[COS, -SIN, 0], [SIN, COS, 0], [0, 0, 1]]) @ [[1, 0, 0], [0, COS, -SIN], [0, SIN, COS]]
WAYS = {
    "straight": np.eye(3),
    "flipped": np.diag([1.0, -1.0, -1.0]),
    "coronal": np.eye(3)[:, [0, 2, 1]],
    "tilted": TILT,
}


class Stepped(NamedTuple):
    """What Python and JavaScript made of one scan, stored in one of `WAYS`. js: facts; arrays by name."""

    way: str
    ct: CtVolume
    lungs: Lungs
    prepared: PreparedCt
    proposals: Proposals
    js: dict[str, Any]
    arrays: dict[str, NDArray[Any]]


def phantom(direction: NDArray[np.float64] | None = None) -> CtVolume:
    made = make_phantom(
        np.random.default_rng(5),
        shape_irc=(60, 140, 150),
        spacing_xyz=(2.4, 2.45, 4.0),
        direction=direction,
        n_nodules=4,
        series_uid="2.25.7",
    )
    return made.ct


def turned(ct: CtVolume, way: str) -> CtVolume:
    """The same chest with its voxels stored in another order, or tilted."""
    if way == "tilted":
        return phantom(TILT)
    axes, geometry = WAYS[way], ct.geometry
    order = [int(np.abs(axes[:, a]).argmax()) for a in (2, 1, 0)]  # LPS axis of index, row, col
    signs = [int(axes[k, 2 - at]) for at, k in enumerate(order)]
    hu = ct.hu.transpose([2 - k for k in order])[tuple(slice(None, None, s) for s in signs)]
    last = np.array(ct.hu.shape) - 1
    corner = np.zeros(3)
    for sign, k in zip(signs, order, strict=True):
        corner[2 - k] = last[2 - k] if sign < 0 else 0
    spacing = geometry.spacing_xyz[order[::-1]]
    return CtVolume(ct.series_uid, hu.copy(), ImageGeometry(geometry.to_xyz(corner), spacing, axes))


def probability_of(prepared: PreparedCt) -> NDArray[np.float32]:
    """Balls of many heights and sizes, some of which touch, some outside of the lungs."""
    rng = np.random.default_rng(1)
    found = np.zeros(prepared.ct.hu.shape, np.float32)
    grid = np.indices((17, 17, 17)) - 8
    for radius in rng.uniform(1, 8, 150):
        low = rng.integers(0, np.array(found.shape) - 17)
        height = rng.uniform(0.05, 1.0)
        ball = height * np.clip(1 - (grid**2).sum(0) / radius**2, 0, None)
        box = tuple(slice(a, a + 17) for a in low)
        found[box] = np.maximum(found[box], ball)
    return found


@pytest.fixture(scope="module", params=WAYS)
def stepped(request: pytest.FixtureRequest, site: Path, tmp_path_factory: pytest.TempPathFactory) -> Stepped:
    folder = tmp_path_factory.mktemp("steps")
    scan = folder / "scan.nii.gz"
    write_ct(scan, turned(phantom(), request.param))
    ct = read_ct(scan)
    lungs = find_lungs(ct)
    prepared = prepare(ct, lungs=lungs)
    probability = probability_of(prepared)
    probability.tofile(folder / "map.raw")
    facts = run_steps(site, scan, folder, folder / "map.raw")
    kinds = {
        "hu": (np.float32, facts["shape"]),
        "mask": (np.uint8, facts["lungs"]["shape"]),
        "sides": (np.uint8, facts["lungs"]["shape"]),
        "prepared": (np.int16, facts["prepared"]["shape"]),
        "lung": (np.uint8, facts["prepared"]["shape"]),
    }
    arrays = {
        name: np.fromfile(folder / f"{name}.raw", kind).reshape(shape)
        for name, (kind, shape) in kinds.items()
    }
    proposals = propose(probability, prepared.lung, prepared.ct.geometry, ct.series_uid)
    return Stepped(request.param, ct, lungs, prepared, proposals, facts, arrays)


def test_a_scan_is_read_as_python_reads_it(stepped: Stepped) -> None:
    np.testing.assert_array_equal(stepped.arrays["hu"], stepped.ct.hu)


def test_voxels_lie_where_they_do_in_python(stepped: Stepped) -> None:
    geometry = stepped.js["geometry"]
    np.testing.assert_allclose(geometry["origin"], stepped.ct.geometry.origin_xyz, atol=1e-3)
    np.testing.assert_allclose(geometry["spacing"], stepped.ct.geometry.spacing_xyz, atol=1e-5)
    np.testing.assert_allclose(geometry["direction"], stepped.ct.geometry.direction, atol=1e-5)


def test_lungs_are_those_of_python(stepped: Stepped) -> None:
    np.testing.assert_array_equal(stepped.arrays["mask"], stepped.lungs.mask)


def test_sides_are_those_of_python(stepped: Stepped) -> None:
    np.testing.assert_array_equal(stepped.arrays["sides"], stepped.lungs.sides)


def test_resampled_hu_are_those_of_python(stepped: Stepped) -> None:
    off = np.abs(stepped.arrays["prepared"].astype(int) - stepped.prepared.ct.hu)
    assert off.max() <= (1 if stepped.way == "tilted" else 0)
    assert np.mean(off > 0) < 0.001


def test_the_searched_box_lies_where_it_does_in_python(stepped: Stepped) -> None:
    origin = stepped.js["prepared"]["geometry"]["origin"]
    np.testing.assert_allclose(origin, stepped.prepared.ct.geometry.origin_xyz, atol=1e-3)


def test_tiles_are_those_of_python(stepped: Stepped) -> None:
    ours = [
        [tile[box][end] for box in ("core", "read") for end in ("low", "high")]
        for tile in stepped.js["tiles"]
    ]
    theirs = [
        [[getattr(axis, end) for axis in box] for box in (tile.core, tile.read) for end in ("start", "stop")]
        for tile in plan_tiles(stepped.prepared.lung)
    ]
    assert ours == theirs


@pytest.mark.parametrize("kind", ["kept", "dropped"])
def test_candidates_are_those_of_python(stepped: Stepped, kind: str) -> None:
    ours = stepped.js["candidates"][kind]
    theirs = [one.candidate for one in getattr(stepped.proposals, kind)]
    assert len(theirs) > 5
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert math.dist(one["centerXyz"], other.center_xyz) < 0.1
        assert one["probability"] == pytest.approx(other.probability)
        assert one["volumeMm3"] == pytest.approx(other.volume_mm3)


@pytest.mark.parametrize(
    "calibration",
    [None, Calibration(segmentation=0.7, classifier=0.4, intercept=-1.5, operating_points=(), on="")],
    ids=["none", "some"],
)
def test_both_opinions_are_joined_as_python_joins_them(site: Path, calibration: Calibration | None) -> None:
    opinions = [(a, b) for a in (0.0, 1e-9, 0.2, 0.7, 1.0) for b in (0.0, 0.01, 0.5, 0.999, 1.0)]
    settings = {
        "calibration": calibration and calibration.model_dump(mode="json"),
        "LOGIT_LIMIT": LOGIT_LIMIT,
    }
    code = f"""
      import {{ jointProbability }} from {json.dumps(str(site / "js" / "joint.js"))};
      const joint = ([a, b]) => jointProbability(a, b, {json.dumps(settings)});
      console.log(JSON.stringify({json.dumps(opinions)}.map(joint)));
    """
    ours = json.loads(run_node("--input-type=module", "--eval", code))
    np.testing.assert_allclose(ours, [joint_probability(a, b, calibration) for a, b in opinions], rtol=1e-9)


def test_tiles_too_small_for_their_margins_are_refused(site: Path) -> None:
    code = f"""
      import {{ planTiles }} from {json.dumps(str(site / "js" / "tiles.js"))};
      const k = {{ MULTIPLE: 16, MARGIN: 16, RIM: 8, MAX_VOXELS: 48 ** 3 - 1 }};
      try {{ planTiles(new Uint8Array(64 ** 3).fill(1), [64, 64, 64], k); }}
      catch (error) {{ console.log(error.message); }}
    """
    assert "cannot tile with margin 16" in run_node("--input-type=module", "--eval", code)
