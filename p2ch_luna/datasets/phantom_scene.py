"""The synthetic chest as a list of paints, from the table under the patient to the vessels of the lungs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from p2ch_luna.datasets.phantom_anatomy import (
    CAGE_DEPTH,
    CAGE_Y,
    TOP_RIB_MM,
    VERTEBRA_MM,
    Chest,
    Field,
    Fields,
    ellipse,
    ellipsoid,
    ramp,
    smooth_max,
    spine_y,
)
from p2ch_luna.datasets.phantom_canvas import Grid, Paint, Shape, Stain, draw_tubes
from p2ch_luna.datasets.phantom_texture import texture_tile
from p2ch_luna.datasets.phantom_tubes import FixedTubes, Tubes
from p2ch_luna.datasets.phantom_vessels import LungTubes

_SOFT_HU, _FAT_HU, _CORTEX_HU, _MARROW_HU = 50.0, -102.0, 520.0, 170.0


class Textures(NamedTuple):
    """Tiles of what varies below the size of an organ."""

    soft: Field
    fat: Field
    bone: Field
    lung: Field

    @classmethod
    def random(cls, rng: np.random.Generator, grid: Grid) -> Textures:
        """Draw them for the voxels of one grid."""

        def tile(grain_mm: float, hu: float) -> Field:
            return texture_tile(rng, grid.shape_irc, grid.geometry.spacing_irc, grain_mm=grain_mm, hu=hu)

        lung = tile(0.9, 20.0)
        lung += 0.010 * (lung**2 - 400.0) + tile(5.0, 9.0)  # skewed: the finest vessels
        return cls(soft=tile(3.0, 7.0), fat=tile(2.5, 14.0), bone=tile(1.5, 60.0), lung=lung)


@dataclass(frozen=True, eq=False)
class Scene:
    """What the paints of one chest are made from."""

    chest: Chest
    grid: Grid
    fields: Fields  # at the grid's nodes
    textures: Textures

    def surroundings(self, tubes: FixedTubes) -> list[Paint]:
        """The table, the body, the bones and all between and below the lungs."""
        wall = [*self._table(), *self._wall(), *self._cavity()]
        return [*wall, *self._bones(tubes), *self._middle(tubes), *self._abdomen()]

    def lungs(self) -> list[Paint]:
        """Aerated lung with its fissures."""
        f, t = self.fields, self.textures
        oblique, level = self.chest.fissures(f.x, f.y, f.z)
        bumps = 12.0 * np.sin(f.x / 17.0) * np.sin(f.y / 14.0 + 1.0) * np.sin(f.z / 19.0 + 2.0)
        hu = (self.chest.lung_hu + 26.0 * (f.y - 10.0) / 70.0 - 12.0 * f.z / 100.0 + bumps).astype(np.float32)
        paints: list[Paint] = [Shape(self.grid, f.lung, hu, t.lung)]
        for sheet in (oblique, level):
            paints.append(Shape(self.grid, sheet, _SOFT_HU, sheet_mm=0.3, within=f.lung, opacity=0.25))
        return paints

    def branches(self, tubes: LungTubes) -> list[Paint]:
        """Vessels and bronchi in the lungs."""
        walls = _widened(tubes.bronchi, 0.40)
        return [
            Stain(draw_tubes(self.grid, walls), -140.0),
            Stain(draw_tubes(self.grid, tubes.vessels), self.chest.blood_hu),
            Stain(draw_tubes(self.grid, tubes.bronchi), -960.0),
        ]

    def airways(self, tubes: FixedTubes) -> list[Paint]:
        """The trachea and the main bronchi."""
        walls = draw_tubes(self.grid, _widened(tubes.airways, 1.4))
        return [Stain(walls, 25.0), Stain(draw_tubes(self.grid, tubes.airways), -985.0)]

    def _table(self) -> list[Paint]:
        """Two thin shells with foam between, curved, just behind the back."""
        xyz = self.grid.node_xyz()
        back = 5.0 + 104.0 + self.chest.fat_mm
        top = xyz[..., 1] - float(self.chest.scale_xyz[1]) * back - 7.0 + xyz[..., 0] ** 2 / 950.0
        sides = np.abs(xyz[..., 0]) - np.float32(205.0)
        foam = np.maximum(np.abs(top - 14.0) - 14.0, sides).astype(np.float32)
        shells = [
            Shape(self.grid, (top - y).astype(np.float32), 80.0, sheet_mm=0.6, within=sides) for y in (0, 28)
        ]
        return [Shape(self.grid, foam, -945.0), *shells]

    def _wall(self) -> list[Paint]:
        """Skin, fat and muscle."""
        f, t = self.fields, self.textures
        body = self.chest.body(f.x, f.y, f.z)
        muscle = smooth_max(f.cage - self._muscle_mm(), body + 5.0 + 0.4 * max(0.0, self.chest.fat_mm), 4.0)
        planes = (
            np.sin(f.x / 13.0 + 0.6 * np.sin(f.z / 31.0))
            + np.sin(f.y / 12.0 + 2.0)
            + np.sin(f.z / 23.0 + f.x / 40.0)
        )
        paints: list[Paint] = [
            Shape(self.grid, body, 15.0),
            Shape(self.grid, body + 2.0, _FAT_HU, t.fat),
            Shape(self.grid, muscle, 56.0, t.soft),
            Shape(self.grid, (9.0 * planes).astype(np.float32), -70.0, sheet_mm=0.9, within=muscle + 1.5),
        ]
        if self.chest.breast_mm:
            r = 0.62 * self.chest.breast_mm
            gland = ellipsoid(np.abs(f.x) - 72, f.y + 97, f.z + 17, (r, 0.7 * r, 0.8 * r))
            patches = (gland + 7.0 * np.sin(f.x / 4.5) * np.sin(f.z / 5.0 + f.y / 6.0)).astype(np.float32)
            paints.append(Shape(self.grid, patches, 10.0, t.fat, within=body + 6.0))
        return paints

    def _muscle_mm(self) -> Field:
        """Thickness of the muscles outside the cage."""
        x, y, z = np.abs(self.fields.x), self.fields.y, self.fields.z
        pectoral = 15.0 * np.exp(-(((x - 72) / 38) ** 2)) * ramp(-y, 10, 40) * ramp(z, -15, 45)
        flank = 15.0 * ramp(x, 60, 110) * ramp(y, -30, 20) * ramp(z, -90, -20)
        back = 16.0 * np.exp(-(((x - 32) / 26) ** 2)) * ramp(y, 20, 50)
        shoulder = 70.0 * ramp(z, 55, 105) * ramp(x, 25, 70) + 30.0 * ramp(z, 95, 130)
        blade = 14.0 * ramp(x, 35, 60) * ramp(y, 10, 40) * ramp(z, -20, 30)
        return np.asarray(9.0 + pectoral + flank + back + blade + shoulder, np.float32)

    def _cavity(self) -> list[Paint]:
        """Fat inside the cage, muscle beside the spine, the discs between the vertebrae."""
        f, t = self.fields, self.textures
        dy = f.y - spine_y(f.z)
        nodes = 0.55 - np.sin(f.x / 5.0 + 0.5) * np.sin(f.y / 6.0) * np.sin(f.z / 6.5)
        return [
            Shape(self.grid, f.cage + 1.0, _FAT_HU + 8.0, t.fat),
            Shape(self.grid, 6.0 * nodes.astype(np.float32), 35.0, t.soft, within=f.cage + 8.0),
            Shape(self.grid, np.maximum(f.cage, 4.0 - dy), 52.0, t.soft),
            Shape(self.grid, ellipse(f.x, dy, 16.5, 13.5, 2.2), 85.0, t.soft),
        ]

    def _bones(self, tubes: FixedTubes) -> list[Paint]:
        """Scapulae, clavicles, sternum, spine and ribs: dense outside, marrow inside."""
        f = self.fields
        paints: list[Paint] = []
        for bone in (self._scapula(), self._sternum(), self._vertebrae()):
            paints += self._bone(bone)
        canal = ellipse(f.x, f.y - spine_y(f.z) - 22.0, 9.5, 8.0, 2.0)
        paints.append(Shape(self.grid, canal, 25.0))
        for tube in (tubes.clavicles, tubes.ribs):
            paints.append(Stain(draw_tubes(self.grid, tube), 620.0))
            paints.append(Stain(draw_tubes(self.grid, tube.shrunk(1.3)), _MARROW_HU, self.textures.bone))
        paints.append(Stain(draw_tubes(self.grid, tubes.cartilage), 95.0))
        return paints

    def _bone(self, distance: Field) -> list[Paint]:
        inner = distance + np.float32(1.5)
        return [
            Shape(self.grid, distance, _CORTEX_HU),
            Shape(self.grid, inner, _MARROW_HU, self.textures.bone),
        ]

    def _scapula(self) -> Field:
        """A blade behind the upper ribs, with its spine, thick towards the shoulder joint."""
        f = self.fields
        x, y, z = np.abs(f.x), f.y, f.z
        outline = np.maximum(np.abs(x - 82 - 0.2 * (z - 55)) - (22 + 0.25 * (z - 10)), np.abs(z - 48) - 58)
        thick = 2.2 + 6.0 * ramp(x, 105, 125) * ramp(z, 60, 90)
        blade = np.maximum(np.abs(f.cage - 17.0 - 0.16 * (x - 60)) - thick, outline)
        ridge = np.maximum(np.abs(z - 80 - 0.25 * (x - 80)) - 3.0, np.abs(f.cage - 28.0) - 12.0)
        blade = np.minimum(blade, np.maximum(ridge, np.abs(x - 95) - 32))
        return np.asarray(np.maximum(blade, 15.0 - y), np.float32)

    def _sternum(self) -> Field:
        f = self.fields
        front = CAGE_Y(f.z) - CAGE_DEPTH(f.z) - 6.5
        half_width = 14.0 + 12.0 * ramp(f.z, 35, 65)
        plate = smooth_max(np.abs(f.x) - half_width, np.abs(f.y - front) - 5.5, 5.0)
        return smooth_max(plate, np.abs(f.z - 2.0) - 76.0, 6.0)

    def _vertebrae(self) -> Field:
        """Bodies with discs between, arches, transverse and spinous processes."""
        f = self.fields
        dy = f.y - spine_y(f.z)
        size = 1.0 - 0.0011 * f.z
        above = _above_vertebra(f.z)
        level = np.abs(above)
        waist = 1.5 * (1 - (np.minimum(level, 10.0) / 10.0) ** 2)
        body = smooth_max(ellipse(f.x, dy, 17.0 * size, 14.0 * size, 2.3) + waist, level - 9.8, 3.0)
        arch = np.maximum(np.abs(ellipse(f.x, dy - 22.0, 12.5, 11.0, 2.0)) - 3.0, level - 8.0)
        tail = np.abs(_above_vertebra(f.z + 0.55 * (dy - 30.0)))
        spinous = np.maximum(np.maximum(np.abs(f.x) - 3.0, tail - 6.0), np.abs(dy - 44.0) - 13.0)
        slant = dy - 22.0 - 0.45 * (np.abs(f.x) - 12.0)
        across = np.maximum(np.hypot(slant, above - 4.0) - 4.5, np.abs(np.abs(f.x) - 22.0) - 12.0)
        return np.asarray(np.minimum(np.minimum(body, arch), np.minimum(spinous, across)), np.float32)

    def _middle(self, tubes: FixedTubes) -> list[Paint]:
        """The heart and the great vessels."""
        f, t = self.fields, self.textures
        blood = self.chest.blood_hu
        heart = self.chest.heart(f.x, f.y, f.z)
        wall = np.where(f.x > 10, 10.0, 4.0).astype(np.float32)
        septum = 1.0 - np.abs(0.5 * (f.x - 22) - 0.8 * (f.y + 30)) / 6.0
        chambers = heart + wall + np.clip(9.0 * septum, 0, None).astype(np.float32)
        muscle_hu = 0.45 * blood + 30.0
        return [
            Shape(self.grid, heart + 2.5, muscle_hu, t.soft),
            Shape(self.grid, chambers, blood, t.soft),
            Stain(draw_tubes(self.grid, tubes.soft), 35.0),
            Stain(draw_tubes(self.grid, tubes.blood), blood, t.soft),
        ]

    def _abdomen(self) -> list[Paint]:
        """Liver, stomach and spleen under the domes."""
        f, t = self.fields, self.textures
        enhanced = 0.3 * (self.chest.blood_hu - 40.0)
        under = smooth_max(f.abdomen + 1.5, f.cage + 2.5, 4.0)
        spine = ellipse(f.x, f.y - spine_y(f.z), 26.0, 21.0, 2.0)
        liver = smooth_max(smooth_max(under, f.x - 30.0 - 0.4 * f.z / 4.0, 12.0), 6.0 - spine, 8.0)
        stomach = smooth_max(under + 2.0, ellipsoid(f.x - 62, f.y + 18, f.z + 112, (38, 42, 48)), 6.0)
        gas = smooth_max(stomach + 4.0, f.y + 30.0, 4.0)
        spleen = smooth_max(under + 1.0, ellipsoid(f.x - 92, f.y - 38, f.z + 118, (32, 42, 45)), 6.0)
        diaphragm = np.abs(f.abdomen + 1.2) - 1.4
        return [
            Shape(self.grid, under, _FAT_HU, t.fat),
            Shape(self.grid, np.maximum(diaphragm, f.cage).astype(np.float32), _SOFT_HU),
            Shape(self.grid, liver, 58.0 + enhanced, t.soft),
            Shape(self.grid, stomach, 35.0, t.soft),
            Shape(self.grid, gas, -980.0),
            Shape(self.grid, spleen, 50.0 + 1.3 * enhanced, t.soft),
        ]


def _above_vertebra(z: Field) -> Field:
    """Height over the middle of the nearest vertebral body, mm."""
    return np.asarray((z - TOP_RIB_MM + VERTEBRA_MM / 2) % VERTEBRA_MM - VERTEBRA_MM / 2, np.float32)


def _widened(tubes: Tubes, mm: float) -> Tubes:
    return tubes.shrunk(-mm)
