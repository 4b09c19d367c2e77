"""A synthetic chest CT with nodules of known place, size and texture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from p2ch_luna.datasets.phantom_anatomy import Chest, Field
from p2ch_luna.datasets.phantom_canvas import Grid, Paint, Patch, Stain, draw_tubes
from p2ch_luna.datasets.phantom_nodules import Lesion, PhantomNodule, Room, make_lesions
from p2ch_luna.datasets.phantom_scene import Scene, Textures
from p2ch_luna.datasets.phantom_texture import Scanner, add_noise, blur
from p2ch_luna.datasets.phantom_tubes import FixedTubes, fixed_tubes, join
from p2ch_luna.datasets.phantom_vessels import LungTubes, lung_tubes
from p2ch_luna.errors import LunaError
from p2ch_luna.findings import Nodule
from p2ch_luna.geometry import AIR_HU, CtVolume, ImageGeometry

__all__ = ["Phantom", "PhantomNodule", "make_phantom"]

_MAX_NODULES = 255  # labels are uint8
_DIAMETERS_MM = (4.0, 20.0)  # of nodules whose size is not asked for
_LIMITS_MM = (2.0, 40.0)


@dataclass(frozen=True, eq=False)
class Phantom:
    """A synthetic CT and what is true of it."""

    ct: CtVolume  # int16 HU
    nodules: list[PhantomNodule]
    nodule_labels: NDArray[np.uint8]  # (D, H, W): 0 background, k: the k-th nodule, counted from 1

    @property
    def truth(self) -> list[Nodule]:
        """The nodules as annotations."""
        return [Nodule(self.ct.series_uid, n.center_xyz, n.diameter_mm) for n in self.nodules]


def make_phantom(
    rng: np.random.Generator,
    *,
    shape_irc: Sequence[int] = (250, 512, 512),
    spacing_xyz: ArrayLike = (0.7, 0.7, 1.25),
    direction: ArrayLike | None = None,
    n_nodules: int = 6,
    diameters_mm: Sequence[float] | None = None,
    noise_hu: float = 20.0,
    series_uid: str | None = None,
) -> Phantom:
    """Make a chest that only `rng` decides: the same at any spacing, direction (3, 3) and image size.

    The image is cut round the middle of the chest. `diameters_mm`, one a nodule, takes the place of
    `n_nodules` sizes from 4 to 20 mm. `noise_hu` is the noise's standard deviation.
    Raises LunaError for impossible arguments, and where a nodule finds no room.
    """
    _check(shape_irc, n_nodules, diameters_mm, noise_hu)
    for_chest, for_vessels, for_nodules, for_texture, for_scanner = rng.spawn(5)
    if diameters_mm is None:
        low, high = np.log(_DIAMETERS_MM)
        diameters_mm = np.exp(for_nodules.uniform(low, high, n_nodules)).round(1).tolist()
    geometry = _centred(shape_irc, spacing_xyz, direction)
    grid = Grid.over(geometry, shape_irc)
    chest = Chest.random(for_chest)
    middle_xyz = for_chest.uniform((-25, -190, -320), (25, -130, -60)).round(2)
    fixed, branches = fixed_tubes(chest), lung_tubes(chest, for_vessels)
    room = Room(chest, branches.vessels, join([branches.bronchi, fixed.airways]), grid)
    lesions = make_lesions(for_nodules, room, diameters_mm)
    scene = Scene(chest, grid, chest.fields(grid.node_xyz()), Textures.random(for_texture, grid))
    paints = _all_paints(scene, fixed, branches, lesions)
    hu = _scan(grid, paints, _random_scanner(for_scanner, noise_hu), for_scanner)
    moved = replace(geometry, origin_xyz=geometry.origin_xyz + middle_xyz)
    uid = series_uid or f"2.25.{int.from_bytes(for_chest.bytes(15), 'big')}"
    return Phantom(
        CtVolume(uid, hu, moved),
        [_moved(lesion.nodule, middle_xyz) for lesion in lesions],
        _labels(grid, lesions),
    )


def _check(
    shape_irc: Sequence[int], n_nodules: int, diameters_mm: Sequence[float] | None, noise_hu: float
) -> None:
    if len(shape_irc) != 3 or min(shape_irc) < 2:
        raise LunaError(f"phantom: shape is {tuple(shape_irc)}; expected three sides of 2 voxels or more")
    count = n_nodules if diameters_mm is None else len(diameters_mm)
    if not 0 <= count <= _MAX_NODULES:
        raise LunaError(f"phantom: {count} nodules wanted; expected 0 to {_MAX_NODULES}")
    low, high = _LIMITS_MM
    for mm in diameters_mm or ():
        if not low <= mm <= high:
            raise LunaError(f"phantom: a nodule of {mm:g} mm wanted; expected {low:g} to {high:g} mm")
    if not 0 <= noise_hu <= 200:
        raise LunaError(f"phantom: noise of {noise_hu:g} HU wanted; expected 0 to 200")


def _centred(shape_irc: Sequence[int], spacing_xyz: ArrayLike, direction: ArrayLike | None) -> ImageGeometry:
    """The geometry whose middle is at (0, 0, 0)."""
    spacing = np.asarray(spacing_xyz, float)
    matrix = np.eye(3) if direction is None else np.asarray(direction, float)
    if spacing.shape != (3,) or matrix.shape != (3, 3):
        raise LunaError(
            f"phantom: spacing has {spacing.size} numbers and direction {matrix.size}; expected 3 and 9"
        )
    try:
        cornered = ImageGeometry(np.zeros(3), spacing, matrix)
    except ValueError as error:
        raise LunaError(f"phantom: {error}") from error
    return replace(cornered, origin_xyz=-cornered.to_xyz((np.asarray(shape_irc) - 1) / 2))


def _moved(nodule: PhantomNodule, by_xyz: NDArray[np.float64]) -> PhantomNodule:
    x, y, z = (float(a + b) for a, b in zip(nodule.center_xyz, by_xyz, strict=True))
    return replace(nodule, center_xyz=(x, y, z))


def _all_paints(
    scene: Scene, fixed: FixedTubes, branches: LungTubes, lesions: Sequence[Lesion]
) -> list[Paint]:
    """In the order in which one covers the other."""
    return [
        *scene.surroundings(fixed),
        *scene.lungs(),
        *_hazes(scene.grid, lesions, scene.textures.lung),
        *scene.branches(branches),
        *_cores(scene.grid, lesions),
        *scene.airways(fixed),
    ]


def _hazes(grid: Grid, lesions: Sequence[Lesion], texture: Field) -> list[Paint]:
    """Ground glass: drawn before the vessels, which stay visible in it."""
    hazy = [lesion for lesion in lesions if lesion.nodule.texture != "solid"]
    return [Patch(*lesion.share(grid, lesion.distance, 1.2), lesion.hu, texture) for lesion in hazy]


def _cores(grid: Grid, lesions: Sequence[Lesion]) -> list[Paint]:
    """Solid nodules, the cores of part-solid ones, and spicules."""
    paints: list[Paint] = []
    for lesion in lesions:
        if len(lesion.spicules):
            paints.append(Stain(draw_tubes(grid, lesion.spicules), min(lesion.hu, 0.0)))
        if lesion.nodule.texture == "solid":
            paints.append(Patch(*lesion.share(grid, lesion.opaque), lesion.core_hu))
        elif lesion.nodule.texture == "part-solid":
            core = lesion.distance + np.float32(lesion.core_mm)
            paints.append(Patch(*lesion.share(grid, core), lesion.core_hu))
    return paints


def _labels(grid: Grid, lesions: Sequence[Lesion]) -> NDArray[np.uint8]:
    """Voxels more than half in a nodule, and always the one that holds its centre."""
    labels = np.zeros(grid.shape_irc, np.uint8)
    for k, lesion in enumerate(lesions, 1):
        box, share = lesion.share(grid, lesion.distance)
        labels[box][share >= 0.5] = k
        i, r, c = np.rint(grid.geometry.to_irc(lesion.nodule.center_xyz)).astype(int)
        labels[i, r, c] = k
    return labels


def _random_scanner(rng: np.random.Generator, noise_hu: float) -> Scanner:
    return Scanner(
        blur_mm=rng.uniform(0.35, 0.55),
        profile=rng.uniform(0.08, 0.22),
        sharpening=rng.choice([0.0, 0.35]),
        noise_hu=noise_hu,
        noise_cutoff=rng.uniform(0.42, 0.65),
    )


def _scan(
    grid: Grid, paints: Sequence[Paint], scanner: Scanner, rng: np.random.Generator
) -> NDArray[np.int16]:
    """Draw all paints, blur them as a scanner does and add its noise; (D, H, W) HU."""
    hu = np.full(grid.shape_irc, AIR_HU, np.float32)
    for k in range(len(hu)):
        for paint in paints:
            paint(hu[k], k)
    blur(hu, scanner, grid.geometry.spacing_irc)
    return add_noise(hu, scanner, grid.geometry.spacing_irc, rng)
