import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from p2ch_luna.datasets.implant import Implantable
from p2ch_luna.datasets.patches import CubePatches, PatchDataset, ScanPatches, implant_randomly, voxel_weights
from p2ch_luna.datasets.scans import UNSURE, LabelledScan, label_scan
from p2ch_luna.findings import Nodule
from p2ch_luna.geometry import CtVolume, ImageGeometry
from p2ch_luna.io.lidc import NoduleCrop
from p2ch_luna.lungs import PreparedCt

SHAPE = (32, 48, 48)


def dataset(scan: LabelledScan, nodules: list[Implantable], seed: int = 0) -> PatchDataset:
    return PatchDataset([ScanPatches([scan], nodules)], [1.0], SHAPE, length=64, seed=seed)


def test_a_sample_has_the_shape_asked_for(scan: LabelledScan, nodule: Implantable) -> None:
    sample = dataset(scan, [nodule])[0]
    assert {tensor.shape for tensor in sample} == {(1, *SHAPE)}
    assert {tensor.dtype for tensor in sample} == {torch.float32}


def test_the_mask_is_where_the_nodule_is_bright(scan: LabelledScan, nodule: Implantable) -> None:
    samples = [dataset(scan, [nodule])[i] for i in range(24)]
    inside = torch.cat([s.hu[s.mask > 0] for s in samples])
    assert len(inside) > 1000
    assert (inside > -650).float().mean() > 0.95  # 100 HU, less at the edge, shared with lung


def test_a_sample_depends_on_seed_and_index_alone(scan: LabelledScan, nodule: Implantable) -> None:
    first, second = dataset(scan, [nodule]), dataset(scan, [nodule])
    second[3]  # what was drawn before does not matter
    assert torch.equal(first[7].hu, second[7].hu)
    assert not torch.equal(first[7].hu, first[8].hu)
    assert not torch.equal(first[7].hu, dataset(scan, [nodule], seed=1)[7].hu)


def test_workers_do_not_change_the_batches(scan: LabelledScan, nodule: Implantable) -> None:
    patches = dataset(scan, [nodule])
    alone = list(DataLoader(patches, batch_size=4, sampler=range(8)))
    helped = list(DataLoader(patches, batch_size=4, sampler=range(8), num_workers=2))
    assert all(
        torch.equal(a, b) for x, y in zip(alone, helped, strict=True) for a, b in zip(x, y, strict=True)
    )


def test_an_own_nodule_is_in_about_half_of_the_patches(prepared: PreparedCt) -> None:
    scan = label_scan(prepared, [Nodule("1.2.3", (0.0, -10.0, -255.0), 8.0)])
    patches = dataset(scan, [])
    assert 20 <= sum(bool(patches[i].mask.any()) for i in range(64)) <= 52


def test_an_unsure_place_has_no_weight_and_is_no_nodule(prepared: PreparedCt) -> None:
    scan = label_scan(prepared, [], [Nodule("1.2.3", (0.0, -10.0, -255.0), 60.0)])
    sample = dataset(scan, [])[0]
    assert (sample.weight == 0).any()
    assert not sample.mask.any()


def test_weights_are_worked_out_from_volumes() -> None:
    labels = np.zeros((20, 20, 20), np.uint8)
    labels[0, :10, :10] = 1  # 100 voxels: 113 / 100
    labels[2, 0, :7] = 2  # 7 voxels: 16, bounded by 3
    labels[4:10] = 3  # 2400 voxels: 0.047, bounded by 0.1
    labels[12] = UNSURE
    weight = voxel_weights(labels)
    found = [weight[labels == k].mean() for k in (0, 1, 2, 3, UNSURE)]
    assert found == pytest.approx([1.0, 1.13, 3.0, 0.1, 0.0])


def test_no_implant_hides_another(nodule: Implantable) -> None:
    hu, labels = np.full((40, 40, 40), -850, np.int16), np.zeros((40, 40, 40), np.uint8)
    done = implant_randomly(hu, labels, np.ones(hu.shape, bool), [nodule], 30, np.random.default_rng(0))
    assert 2 <= len(done) < 30
    centers = np.array([center for _, center, _ in done])
    between = np.linalg.norm(centers[:, None] - centers[None], axis=-1)[np.triu_indices(len(done), 1)]
    assert between.min() > 5


def test_nothing_is_implanted_where_there_is_no_air(nodule: Implantable) -> None:
    hu, labels = np.full((40, 40, 40), 30, np.int16), np.zeros((40, 40, 40), np.uint8)
    assert implant_randomly(hu, labels, np.ones(hu.shape, bool), [nodule], 3, np.random.default_rng(0)) == []


def test_a_cube_smaller_than_the_patch_is_mirrored_at_its_ends() -> None:
    values = np.arange(51, dtype=np.int16)[None, None].repeat(51, 0).repeat(51, 1)
    mask = np.zeros((51, 51, 51), bool)
    mask[24:27, 24:27, 24:27] = True
    cube = NoduleCrop("cube", CtVolume("cube", values, ImageGeometry.axial()), mask, 4.0, None)
    hu, labels = CubePatches([cube], [], largest_shift=0).draw((64, 64, 64), np.random.default_rng(0))
    # voxel 32 of the patch is voxel 25 of the cube: 7 columns come before the first
    assert hu[0, 0, 5:12].tolist() == [1, 0, 0, 1, 2, 3, 4]
    assert hu[0, 0, 32] == 25
    assert np.argwhere(labels).mean(axis=0).tolist() == [32, 32, 32]
