from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from p2ch_luna.datasets.implant import Implantable, Variety
from p2ch_luna.datasets.patches import (
    CubePatches,
    LungPatches,
    PatchDataset,
    PatchSource,
    PlacePatches,
    as_batch,
    implant_randomly,
    voxel_weights,
)
from p2ch_luna.datasets.places import nodule_places
from p2ch_luna.datasets.sampling import BalancedSampler, Pick
from p2ch_luna.datasets.scans import UNSURE, LabelledScan, label_scan
from p2ch_luna.findings import Nodule
from p2ch_luna.geometry import CtVolume, ImageGeometry
from p2ch_luna.io.lidc import NoduleCrop
from p2ch_luna.lungs import PreparedCt

SHAPE = (32, 48, 48)
MIDDLE = (0.0, -10.0, -255.0)  # LPS mm of voxel (45, 50, 50)


def dataset(*sources: PatchSource) -> PatchDataset:
    return PatchDataset(sources, SHAPE)


def pick(index: int, source: int = 0, item: int = 0, seed: int = 0) -> Pick:
    return Pick(source, item, (seed, 0, index))


@pytest.fixture
def implants(scan: LabelledScan, nodule: Implantable) -> LungPatches:
    return LungPatches([scan], [nodule], most_implants=3)


def test_a_sample_has_the_shape_asked_for(implants: LungPatches) -> None:
    sample = dataset(implants)[pick(0)]
    assert {tensor.shape for tensor in sample} == {(1, *SHAPE)}
    assert [tensor.dtype for tensor in sample] == [torch.int16, torch.uint8]


def test_the_mask_is_where_the_nodule_is_bright(implants: LungPatches) -> None:
    samples = [dataset(implants)[pick(i)] for i in range(24)]
    inside = torch.cat([s.hu[(s.labels > 0) & (s.labels != UNSURE)] for s in samples])
    assert len(inside) > 1000
    assert (inside > -650).float().mean() > 0.95  # 100 HU, less at the edge, shared with lung


def test_a_sample_depends_on_its_pick_alone(implants: LungPatches) -> None:
    first, second = dataset(implants), dataset(implants)
    second[pick(3)]  # what was drawn before does not matter
    assert torch.equal(first[pick(7)].hu, second[pick(7)].hu)
    assert not torch.equal(first[pick(7)].hu, first[pick(8)].hu)
    assert not torch.equal(first[pick(7)].hu, first[pick(7, seed=1)].hu)


@pytest.mark.filterwarnings("ignore:This DataLoader will create 4")  # more than there may be cores
@pytest.mark.parametrize("workers", [1, 4])
def test_workers_do_not_change_the_batches(implants: LungPatches, scan: LabelledScan, workers: int) -> None:
    patches = dataset(implants, LungPatches([scan]))

    def batches(n_workers: int) -> list[Sequence[torch.Tensor]]:
        sampler = BalancedSampler([1, 1], [0.5, 0.5], 10, seed=0)
        return list(DataLoader(patches, batch_size=4, sampler=sampler, num_workers=n_workers))

    pairs = zip(batches(0), batches(workers), strict=True)
    assert all(torch.equal(a, b) for x, y in pairs for a, b in zip(x, y, strict=True))


def test_lung_patches_without_implants_hold_no_nodule(scan: LabelledScan) -> None:
    labels = torch.stack([dataset(LungPatches([scan]))[pick(i)].labels for i in range(8)])
    assert set(labels.unique().tolist()) <= {0, UNSURE}


def test_no_implant_crosses_the_end_of_the_scan(implants: LungPatches) -> None:
    for i in range(40):
        sample = dataset(implants)[pick(i)]
        outside = sample.hu == -1000  # the scan itself has no such voxel
        assert set(sample.labels[outside].tolist()) <= {UNSURE}


def test_there_is_nothing_to_implant_without_nodules(scan: LabelledScan) -> None:
    assert (len(LungPatches([scan], (), most_implants=3)), len(LungPatches([scan]))) == (0, 1)


def test_every_patch_of_an_own_nodule_shows_its_centre(prepared: PreparedCt) -> None:
    scan = label_scan(prepared, [Nodule("1.2.3", MIDDLE, 8.0)])
    patches = dataset(PlacePatches(nodule_places([scan]), 0.25))
    centers = [np.argwhere(patches[pick(i)].labels[0].numpy()).mean(axis=0) for i in range(32)]
    off = np.abs(np.array(centers) - np.array(SHAPE) // 2)
    assert off.max(axis=0) == pytest.approx([8, 12, 12], abs=1.01)  # a quarter of the sides


def test_an_unsure_place_has_no_weight_and_is_no_nodule(prepared: PreparedCt) -> None:
    scan = label_scan(prepared, [], [Nodule("1.2.3", MIDDLE, 60.0)])
    batch = as_batch(*(tensor[None] for tensor in dataset(LungPatches([scan]))[pick(0)]))
    assert (batch.weight == 0).any()
    assert not batch.mask.any()


def test_a_batch_is_float_hu_with_its_mask() -> None:
    labels = torch.tensor([0, 1, 101, UNSURE], dtype=torch.uint8).reshape(1, 1, 1, 2, 2)
    batch = as_batch(torch.full((1, 1, 1, 2, 2), -850, dtype=torch.int16), labels)
    assert (batch.hu.dtype, batch.mask.flatten().tolist()) == (torch.float32, [0, 1, 1, 0])


def test_weights_are_worked_out_from_the_volumes_in_each_sample() -> None:
    labels = torch.zeros(2, 1, 20, 20, 20, dtype=torch.uint8)
    labels[0, 0, 0, :10, :10] = 1  # 100 voxels: 113 / 100
    labels[0, 0, 2, 0, :7] = 2  # 7 voxels: 16, bounded by 3
    labels[0, 0, 4:10] = 3  # 2400 voxels: 0.047, bounded by 0.1
    labels[0, 0, 12] = UNSURE
    labels[1, 0, 0, :10, :5] = 1  # 50 voxels: 113 / 50
    weight = voxel_weights(labels)
    found = [weight[0][labels[0] == k].mean().item() for k in (0, 1, 2, 3, UNSURE)]
    assert found == pytest.approx([1.0, 1.13, 3.0, 0.1, 0.0])
    assert weight[1][labels[1] == 1].mean().item() == pytest.approx(2.26)


def test_no_implant_hides_another(nodule: Implantable) -> None:
    hu, labels = np.full((40, 40, 40), -850, np.int16), np.zeros((40, 40, 40), np.uint8)
    done = implant_randomly(hu, labels, np.ones(hu.shape, bool), [nodule], 30, np.random.default_rng(0))
    assert 2 <= len(done) < 30
    centers = np.array([center for _, center, _ in done])
    between = np.linalg.norm(centers[:, None] - centers[None], axis=-1)[np.triu_indices(len(done), 1)]
    assert between.min() > 5


def test_implants_are_varied_as_they_are_told(nodule: Implantable) -> None:
    def poses(variety: Variety) -> set[tuple[float, float]]:
        hu, labels = np.full((40, 40, 40), -850, np.int16), np.zeros((40, 40, 40), np.uint8)
        anywhere, rng = np.ones(hu.shape, bool), np.random.default_rng(0)
        done = implant_randomly(hu, labels, anywhere, [nodule], 3, rng, variety)
        return {(pose.zoom, pose.opacity) for _, _, pose in done}

    assert poses(Variety()) == {(1.0, 1.0)}
    assert all(zoom != 1 and opacity < 1 for zoom, opacity in poses(Variety(zoom=1.1, faint=1.0)))


def test_nothing_is_implanted_where_there_is_no_air(nodule: Implantable) -> None:
    hu, labels = np.full((40, 40, 40), 30, np.int16), np.zeros((40, 40, 40), np.uint8)
    assert implant_randomly(hu, labels, np.ones(hu.shape, bool), [nodule], 3, np.random.default_rng(0)) == []


def test_a_cube_smaller_than_the_patch_is_mirrored_at_its_ends() -> None:
    values = np.arange(51, dtype=np.int16)[None, None].repeat(51, 0).repeat(51, 1)
    mask = np.zeros((51, 51, 51), bool)
    mask[24:27, 24:27, 24:27] = True
    cube = NoduleCrop("cube", CtVolume("cube", values, ImageGeometry.axial()), mask, 4.0, None)
    hu, labels = CubePatches([cube], [], largest_shift=0).draw(0, (64, 64, 64), np.random.default_rng(0))
    # voxel 32 of the patch is voxel 25 of the cube: 7 columns come before the first
    assert hu[0, 0, 5:12].tolist() == [1, 0, 0, 1, 2, 3, 4]
    assert hu[0, 0, 32] == 25
    assert np.argwhere(labels).mean(axis=0).tolist() == [32, 32, 32]
