from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from p2ch_luna.errors import LunaError
from p2ch_luna.geometry import AIR_HU, CtVolume, ImageGeometry
from p2ch_luna.io import read_ct, read_series, write_ct, write_series

UID = "1.3.6.1.4.1.14519.5.2.1.6279.6001.179049373636438705059720603192"


@pytest.fixture
def upright() -> CtVolume:
    """Random HU; slices 2.5 mm apart, the first at (-90, -80, -200)."""
    hu = np.random.default_rng(0).integers(-1000, 1000, (12, 16, 20)).astype(np.int16)
    return CtVolume("1.2.3", hu, ImageGeometry.axial((0.7, 0.8, 2.5), (-90, -80, -200)))


@pytest.fixture
def series(tmp_path: Path, upright: CtVolume) -> Path:
    write_series(tmp_path / "series", upright)
    return tmp_path / "series"


def edit(path: Path, old: bytes, new: bytes) -> None:
    """Change a text value of the same length inside a DICOM file."""
    content = path.read_bytes()
    assert len(old) == len(new)
    assert old in content
    path.write_bytes(content.replace(old, new))


def test_lidc_idri_0001_has_its_shape(lidc_ct: CtVolume) -> None:
    assert lidc_ct.hu.shape == (133, 512, 512)


def test_lidc_idri_0001_has_its_series_uid(lidc_ct: CtVolume) -> None:
    assert lidc_ct.series_uid == UID


def test_the_rescale_of_the_file_is_applied(lidc_series: Path, lidc_ct: CtVolume) -> None:
    """The pixels of the top slice are the last bytes of its file, its intercept is -1024."""
    stored = np.frombuffer(
        (lidc_series / "LIDC-IDRI-0001" / "1-001.dcm").read_bytes()[-512 * 512 * 2 :], "<i2"
    )
    wanted = np.maximum(stored.reshape(512, 512) - 1024, -1024)
    np.testing.assert_array_equal(lidc_ct.hu[-1], wanted)


def test_luna16s_nodule_is_soft_tissue_in_lidc_idri_0001(lidc_ct: CtVolume) -> None:
    irc = np.round(lidc_ct.geometry.to_irc([56.20840547, 86.34341278, -115.8675792])).astype(int)
    around = lidc_ct.hu[tuple(slice(i - 1, i + 2) for i in irc)]
    assert -100 < around.mean() < 200


def test_lidc_idri_0001_is_read_in_a_few_seconds(lidc_series: Path) -> None:
    start = time.process_time()  # not the clock: it counts what else the machine does
    read_series(lidc_series)
    assert time.process_time() - start < 5  # 0.7 s on two quiet cores


def test_slices_are_ordered_by_position_not_by_name(series: Path, upright: CtVolume) -> None:
    for k, path in enumerate(sorted(series.iterdir())):
        path.rename(series / f"{(7 * k) % 12:02d}")
    np.testing.assert_array_equal(read_series(series).hu, upright.hu)


def test_subfolders_are_searched(series: Path, upright: CtVolume) -> None:
    (series / "a" / "b").mkdir(parents=True)
    shutil.move(series / "0003.dcm", series / "a" / "b" / "IM3")
    np.testing.assert_array_equal(read_series(series).hu, upright.hu)


def test_other_files_are_passed_over(series: Path, upright: CtVolume) -> None:
    (series / "notes.txt").write_text("not an image")
    (series / "DICOMDIR").write_bytes(bytes(128) + b"DICM" + bytes(100))
    np.testing.assert_array_equal(read_series(series).hu, upright.hu)


def test_other_modalities_are_passed_over(tmp_path: Path, series: Path, upright: CtVolume) -> None:
    write_series(tmp_path / "other", replace(upright, series_uid="1.2.4"))
    for path in (tmp_path / "other").iterdir():
        edit(path, b"CT", b"PT")
    shutil.move(tmp_path / "other", series / "other")
    np.testing.assert_array_equal(read_series(series).hu, upright.hu)


def test_a_fractional_slope_gives_float_hu(series: Path, upright: CtVolume) -> None:
    for path in series.iterdir():
        edit(path, b"\x28\x00\x53\x10\x02\x00\x00\x001 ", b"\x28\x00\x53\x10\x02\x00\x00\x00.5")
    np.testing.assert_array_equal(read_series(series).hu, upright.hu.astype(np.float32) / 2)


def test_positions_rounded_in_the_file_are_even_enough(tmp_path: Path, upright: CtVolume) -> None:
    geometry = ImageGeometry.axial((0.7, 0.8, 10), (-90, -80, -200.5))
    write_series(tmp_path / "series", replace(upright, geometry=geometry))
    edit(tmp_path / "series" / "0004.dcm", b"-170.5", b"-170.4")
    assert read_series(tmp_path / "series").geometry.spacing_xyz[2] == 10


def test_write_series_keeps_float_hu_to_half_a_unit(tmp_path: Path, upright: CtVolume) -> None:
    ct = replace(upright, hu=upright.hu.astype(np.float32) + np.float32(0.3))
    write_series(tmp_path / "series", ct)
    assert abs(read_series(tmp_path / "series").hu - ct.hu).max() <= 0.5


def test_write_series_leaves_the_locale_as_it_was(tmp_path: Path, upright: CtVolume) -> None:
    """In a process of its own, whose locale nobody has changed yet."""
    write_ct(tmp_path / "ct.mha", upright)
    code = f"""
import locale
from pathlib import Path
from p2ch_luna.io import read_ct, write_series
locale.setlocale(locale.LC_ALL, "C.UTF-8")
write_series(Path({str(tmp_path / "series")!r}), read_ct(Path({str(tmp_path / "ct.mha")!r})))
print(locale.setlocale(locale.LC_CTYPE))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "C.UTF-8\n"


def test_write_series_gives_the_same_bytes_again(tmp_path: Path, series: Path, upright: CtVolume) -> None:
    write_series(tmp_path / "again", upright)
    for path in series.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()


def test_no_date_is_written(series: Path) -> None:
    image = sitk.ReadImage(str(series / "0001.dcm"))
    assert [image.GetMetaData(tag) for tag in ("0008|0020", "0008|0030")] == ["", ""]


def test_every_slice_has_its_own_uid(series: Path) -> None:
    uids = set()
    for path in series.iterdir():
        uids.add(sitk.ReadImage(str(path)).GetMetaData("0008|0018"))
    assert len(uids) == 12


@pytest.mark.parametrize("name", ["my scan", "1.02.3", "1." * 40 + "1", "1"])
def test_a_name_that_is_no_uid_gets_a_valid_one(tmp_path: Path, upright: CtVolume, name: str) -> None:
    write_series(tmp_path / "series", replace(upright, series_uid=name))
    assert read_series(tmp_path / "series").series_uid.startswith("2.25.")


def test_a_folder_that_holds_something_is_not_written_to(series: Path, upright: CtVolume) -> None:
    with pytest.raises(LunaError, match="not empty"):
        write_series(series, upright)


# Bad input: what is done to a good series, and what the refusal must say.


def remove(*names: str) -> Callable[[Path, CtVolume], None]:
    def spoil(series: Path, ct: CtVolume) -> None:  # noqa: ARG001
        for name in names:
            (series / name).unlink()

    return spoil


def edit_one(name: str, old: bytes, new: bytes) -> Callable[[Path, CtVolume], None]:
    return lambda series, _: edit(series / name, old, new)


def edit_all(old: bytes, new: bytes) -> Callable[[Path, CtVolume], None]:
    def spoil(series: Path, ct: CtVolume) -> None:  # noqa: ARG001
        for path in series.iterdir():
            edit(path, old, new)

    return spoil


def rewritten(change: Callable[[CtVolume], CtVolume]) -> Callable[[Path, CtVolume], None]:
    def spoil(series: Path, ct: CtVolume) -> None:
        shutil.rmtree(series)
        write_series(series, change(ct))

    return spoil


def doubled(series: Path, ct: CtVolume) -> None:
    """Another slice at the place of the fifth, of other pixels and another uid."""
    write_series(series / "other", replace(ct, hu=-1 - ct.hu, series_uid="1.2.4"))
    shutil.move(series / "other" / "0005.dcm", series / "other.dcm")
    edit(series / "other.dcm", b"1.2.4", b"1.2.3")
    shutil.rmtree(series / "other")


def cut_last(series: Path, ct: CtVolume) -> None:  # noqa: ARG001
    content = (series / "0012.dcm").read_bytes()
    (series / "0012.dcm").write_bytes(content[:-300])


def slice_of_another_size(series: Path, ct: CtVolume) -> None:
    write_series(series.parent / "small", replace(ct, hu=ct.hu[:, :8]))
    shutil.copy(series.parent / "small" / "0004.dcm", series / "0004.dcm")


def only_text(series: Path, ct: CtVolume) -> None:  # noqa: ARG001
    shutil.rmtree(series)
    series.mkdir()
    (series / "notes.txt").write_text("no image")


def tilted_gantry(series: Path, ct: CtVolume) -> None:  # noqa: ARG001
    for k, path in enumerate(sorted(series.iterdir())):
        edit(path, rb"-90\-80", rb"-90\-%02d" % (80 - k))


BAD = {
    "a slice missing": (
        remove("0005.dcm"),
        r"series: slices missing: 1, at \(-90\.00, -80\.00, -190\.00\); expected one every 2\.5 mm",
    ),
    "slices missing in two places": (
        remove("0003.dcm", "0004.dcm", "0009.dcm"),
        r"missing: 3, at .* -195\.00\), .* -192\.50\), .* -180\.00\); expected",
    ),
    "a slice out of step": (
        edit_one("0004.dcm", b"-192.5", b"-191.5"),
        r"1\.50 to 3\.50 mm apart; expected one",
    ),
    "two slices at a place": (doubled, r"0005\.dcm and other\.dcm lie at the same place \(.*\) and differ"),
    "no images": (only_text, r"series: no DICOM images in this folder; expected one CT series"),
    "MR": (
        edit_all(b"\x08\x00\x60\x00\x02\x00\x00\x00CT", b"\x08\x00\x60\x00\x02\x00\x00\x00MR"),
        r"modality MR; expected CT",
    ),
    "another orientation": (
        edit_one("0004.dcm", rb"1\0\0\0\1\0", rb"1\0\0\0\0\1"),
        r"0004\.dcm: orientation 1, 0, 0, 0, 0, 1; expected 1, 0, 0, 0, 1, 0 as in 0001\.dcm",
    ),
    "another pixel spacing": (
        edit_one("0004.dcm", rb".8\.7", rb".9\.7"),
        r"0004\.dcm: pixel spacing 0\.7, 0\.9; expected 0\.7, 0\.8",
    ),
    "another size": (slice_of_another_size, r"0004\.dcm: size 20, 8, 1; expected 20, 16, 1"),
    "no position": (edit_one("0004.dcm", b"-192.5", b"      "), r"0004\.dcm: DICOM tag \(0020\|0032\)"),
    "a slice cut short": (cut_last, r"0012\.dcm: a CT image that cannot be read"),
    "a tilted gantry": (tilted_gantry, r"shift sideways by 11\.0 mm"),
    "3 slices": (
        rewritten(lambda ct: replace(ct, hu=ct.hu[:3])),
        r"series: 3 slices of 16 x 20 voxels; expected at least 8",
    ),
    "one slice": (rewritten(lambda ct: replace(ct, hu=ct.hu[:1])), r"series: 1 slice of 16 x 20"),
    "all air": (rewritten(lambda ct: replace(ct, hu=np.full_like(ct.hu, AIR_HU))), r"series: all air"),
    "not HU": (rewritten(lambda ct: replace(ct, hu=ct.hu + np.int16(1024))), r"expected HU"),
}


@pytest.mark.parametrize(("spoil", "says"), BAD.values(), ids=BAD)
def test_a_bad_series_is_refused_in_one_line(
    series: Path,
    upright: CtVolume,
    capfd: pytest.CaptureFixture[str],
    spoil: Callable[[Path, CtVolume], None],
    says: str,
) -> None:
    spoil(series, upright)
    with pytest.raises(LunaError, match=says) as caught:
        read_ct(series)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")  # nothing leaks from the libraries beneath
