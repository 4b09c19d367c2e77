"""MetaImage from bytes: the same array and place as ITK's own reader gives, and what is refused."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from p2ch_luna.errors import LunaError
from p2ch_luna.io import read_ct
from p2ch_luna.io.metaimage import meta_geometry, meta_voxels, parse_header

HEADER = """ObjectType = Image
NDims = 3
BinaryData = True
BinaryDataByteOrderMSB = False
CompressedData = False
TransformMatrix = 0 1 0 -1 0 0 0 0 1
Offset = -198.5 -195 -335.25
CenterOfRotation = 0 0 0
AnatomicalOrientation = RAI
ElementSpacing = 0.5 0.75 2.5
DimSize = 4 3 2
ElementType = MET_SHORT
ElementDataFile = 1.2.3.raw
"""
VOXELS = np.arange(24, dtype="<i2").reshape(2, 3, 4)
SOURCE = Path("a.zip: subset0/1.2.3.mhd")
RAW = Path("a.zip: subset0/1.2.3.raw")


def decoded(text: str = HEADER, data: bytes = VOXELS.tobytes()) -> np.ndarray:
    return meta_voxels(parse_header(SOURCE, text.encode()), data, RAW)[0]


def test_voxels_are_indexed_by_slice_row_and_column() -> None:
    np.testing.assert_array_equal(decoded(), VOXELS)


def test_the_matrix_lists_the_steps_of_column_row_and_slice() -> None:
    """A column further is 0.5 mm along y, a row further 0.75 mm against x."""
    _, geometry = meta_geometry(parse_header(SOURCE, HEADER.encode()))
    np.testing.assert_allclose(geometry.to_xyz([1, 1, 1]), [-199.25, -194.5, -332.75])


def test_data_may_be_big_endian() -> None:
    text = HEADER.replace("OrderMSB = False", "OrderMSB = True")
    np.testing.assert_array_equal(decoded(text, VOXELS.astype(">i2").tobytes()), VOXELS)


def test_data_may_be_compressed() -> None:
    text = HEADER.replace("CompressedData = False", "CompressedData = True")
    np.testing.assert_array_equal(decoded(text, zlib.compress(VOXELS.tobytes())), VOXELS)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("kind", [np.int16, np.uint16, np.int32, np.float32, np.float64])
def test_it_reads_what_itk_writes_as_itk_reads_it(tmp_path: Path, kind: type, compressed: bool) -> None:
    voxels = np.random.default_rng(0).integers(0, 1000, (9, 10, 11)).astype(kind)
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing((1.5, 1.25, 2.0))
    image.SetOrigin((-10.5, 20.25, 30.0))
    image.SetDirection((0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, 1.0))
    path = tmp_path / "1.2.3.mhd"
    sitk.WriteImage(image, str(path), useCompression=compressed)
    header = parse_header(path, path.read_bytes())
    data = path.parent / str(header.data_name)
    found, geometry = meta_voxels(header, data.read_bytes(), data)
    back = sitk.ReadImage(str(path))
    np.testing.assert_array_equal(found, sitk.GetArrayFromImage(back))
    wanted_xyz = back.TransformIndexToPhysicalPoint((10, 9, 8))
    np.testing.assert_allclose(geometry.to_xyz([8, 9, 10]), wanted_xyz, atol=1e-9)


def test_a_luna16_header_gives_the_same_ct_as_read_ct(tmp_path: Path) -> None:
    voxels = np.random.default_rng(0).integers(-1000, 500, (8, 16, 24)).astype("<i2")
    text = HEADER.replace("4 3 2", "24 16 8").replace("2.5", "1.5")
    (tmp_path / "1.2.3.mhd").write_text(text)
    (tmp_path / "1.2.3.raw").write_bytes(voxels.tobytes())
    ct = read_ct(tmp_path / "1.2.3.mhd")
    found, geometry = meta_voxels(parse_header(SOURCE, text.encode()), voxels.tobytes(), RAW)
    np.testing.assert_array_equal(found, ct.hu)
    np.testing.assert_allclose(geometry.direction, ct.geometry.direction, atol=1e-9)


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("DimSize = 4 3 2\n", "", "'DimSize'; expected sizes and a type"),
        ("DimSize = 4 3 2", "DimSize = 4 x 2", "'x'; expected sizes and a type"),
        ("DimSize = 4 3 2", "DimSize = 4 0 2", "DimSize is 4 0 2; expected positive numbers"),
        ("DimSize = 4 3 2", "DimSize = -4 -3 2", "DimSize is -4 -3 2; expected positive numbers"),
        ("MET_SHORT", "MET_STRING", "'MET_STRING'; expected sizes and a type"),
        ("ElementSpacing = 0.5 0.75 2.5\n", "", "no ElementSpacing; expected the mm"),
        ("0.5 0.75 2.5", "0.5 0 2.5", "ElementSpacing is 0.5 0 2.5; expected positive mm"),
        ("0.5 0.75 2.5", "0.5 -0.75 2.5", "ElementSpacing is 0.5 -0.75 2.5; expected positive mm"),
        ("0.5 0.75 2.5", "0.5 nan 2.5", "ElementSpacing is 0.5 nan 2.5; expected numbers"),
        ("0.5 0.75 2.5", "", "ElementSpacing is ; expected positive mm"),
        ("-335.25", "inf", "Offset is -198.5 -195 inf; expected numbers"),
        ("ElementDataFile", "ElementData", "not a MetaImage header; expected lines"),
    ],
)
def test_a_header_that_is_no_good_is_named(old: str, new: str, error: str) -> None:
    with pytest.raises(LunaError, match=f"a.zip: subset0/1.2.3.mhd: .*{error}"):
        parse_header(SOURCE, HEADER.replace(old, new).encode())


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("DimSize = 4 3 2", "DimSize = 12 2", "a 2-D image of 12 x 2; expected a 3-D volume"),
        ("MET_SHORT", "MET_CHAR\nElementNumberOfChannels = 2", "2 values a voxel"),
        ("BinaryData = True", "BinaryData = False", "BinaryData is False; expected True"),
        ("NDims = 3", "NDims = 3\nHeaderSize = -1", "HeaderSize is -1; expected 0"),
        ("0 1 0 -1 0 0 0 0 1", "1 1 0 1 0 0 0 0 1", "direction must be orthonormal"),
        ("0 1 0 -1 0 0 0 0 1", "0 1 0 -1", "a matrix of 4; expected 3, 3 and 9 numbers"),
    ],
)
def test_an_image_that_is_no_plain_ct_is_named(old: str, new: str, error: str) -> None:
    with pytest.raises(LunaError, match=f"a.zip: subset0/1.2.3.mhd: .*{error}"):
        decoded(HEADER.replace(old, new))


def test_data_cut_short_are_named_with_both_sizes() -> None:
    with pytest.raises(LunaError, match=r"1\.2\.3\.raw: 46 bytes; expected 48 by its header.*cut short"):
        decoded(data=VOXELS.tobytes()[:-2])


def test_a_header_of_fewer_voxels_than_there_are_is_named() -> None:
    with pytest.raises(LunaError, match=r"1\.2\.3\.raw: 50 bytes; expected 48 by its header: the sizes"):
        decoded(data=VOXELS.tobytes() + b"00")


def test_a_file_longer_than_its_header_says_is_refused_by_read_ct(tmp_path: Path) -> None:
    (tmp_path / "1.2.3.mhd").write_text(HEADER)
    (tmp_path / "1.2.3.raw").write_bytes(VOXELS.tobytes() + bytes(24))
    with pytest.raises(LunaError, match=r"1\.2\.3\.raw: 72 bytes; expected 48 by its header: the sizes"):
        read_ct(tmp_path / "1.2.3.mhd")


def test_compressed_data_that_are_damaged_are_named() -> None:
    text = HEADER.replace("CompressedData = False", "CompressedData = True")
    with pytest.raises(LunaError, match=r"1\.2\.3\.raw: damaged: .*expected data that decompress"):
        decoded(text, zlib.compress(VOXELS.tobytes())[:-4])


@pytest.mark.parametrize("odd", ["ElementDataFile : other.raw = 1", "elementdatafile = other.raw"])
def test_a_second_name_of_the_data_that_itk_may_follow_is_refused(odd: str) -> None:
    head = f"ObjectType = Image\nNDims = 3\nDimSize = 2 2 2\nElementType = MET_SHORT\n{odd}\n"
    with pytest.raises(LunaError, match="not a MetaImage header"):
        parse_header(Path("a.mha"), f"{head}ElementDataFile = LOCAL\n".encode())
