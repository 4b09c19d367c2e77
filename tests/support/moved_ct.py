"""A CT as another scan of the patient would show it, who lies otherwise: resampled, with noise of its own."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk  # noqa: N813

from p2ch_luna.geometry import PADDING_HU, CtVolume, ImageGeometry
from p2ch_luna.inference.alignment_views import Rigid

SPACING_XYZ = np.array([0.8, 0.8, 2.0])


def moved_ct(ct: CtVolume, move: Rigid, rng: np.random.Generator, noise_hu: float = 25.0) -> CtVolume:
    """What lies at a point comes to `move(point)`; axial slices round all of it, else padding."""
    shape = np.array(ct.hu.shape)
    middle = move(ct.geometry.to_xyz((shape - 1) / 2))
    size = np.ceil(((shape * ct.geometry.spacing_irc)[::-1] + 20) / SPACING_XYZ).astype(int)
    geometry = ImageGeometry(middle - SPACING_XYZ * (size - 1) / 2, SPACING_XYZ, np.eye(3))
    back = move.inverse()
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(back.rotation.ravel().tolist())
    transform.SetTranslation(back.shift_xyz.tolist())
    image = sitk.GetImageFromArray(ct.hu)
    image.SetOrigin(ct.geometry.origin_xyz.tolist())
    image.SetSpacing(ct.geometry.spacing_xyz.tolist())
    image.SetDirection(ct.geometry.direction.ravel().tolist())
    resampled = sitk.Resample(
        image,
        size.tolist(),
        transform,
        sitk.sitkLinear,
        geometry.origin_xyz.tolist(),
        SPACING_XYZ.tolist(),
        geometry.direction.ravel().tolist(),
        float(PADDING_HU),
        sitk.sitkInt16,
    )
    hu = sitk.GetArrayFromImage(resampled)
    noise = np.rint(rng.normal(0, noise_hu, hu.shape)).astype(np.int16)
    return CtVolume("moved", np.where(hu > PADDING_HU, hu + noise, hu).astype(np.int16), geometry)
