"""The folder of the results of many scans: what may be there before, and that one at a time writes to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from p2ch_luna.errors import LunaError
from p2ch_luna.io.file_locks import claiming
from p2ch_luna.io.find_scans import FoundScan
from p2ch_luna.report.many.summary import SERIES_UIDS, SUMMARY, is_summary
from p2ch_luna.report.outputs import DETECTIONS, REPORT

LOCK = ".luna-diagnose.lock"  # held while scans are diagnosed into the folder


@contextmanager
def held(output: Path, scans: Sequence[FoundScan]) -> Iterator[None]:
    """Make the folder, and let no other diagnosis of many scans on this machine write there in the block.

    Raises LunaError where another does, where the scans lie in it, and where files are in it that would be
    replaced and are not of an earlier diagnosis of many scans; then nothing has been written.
    """
    _check_apart(output, scans)
    _check_tables(output)
    with ExitStack() as stack:
        try:
            output.mkdir(parents=True, exist_ok=True)
            is_ours = stack.enter_context(claiming(output / LOCK))
        except OSError as error:
            told = f"{output}: cannot be written: {error.strerror}; expected the name of a folder"
            raise LunaError(told) from error
        if not is_ours:
            raise LunaError(f"{output}: another process diagnoses scans into it; wanted one at a time")
        yield


def _check_apart(output: Path, scans: Sequence[FoundScan]) -> None:
    """Their own tables and folders may have the names that results have."""
    whole = output.resolve()
    above = {folder for scan in scans for folder in (scan.path.absolute(), *scan.path.absolute().parents)}
    if any(folder.resolve() == whole for folder in above):
        raise LunaError(f"{output}: the scans lie in it; expected another folder for their results")


def _check_tables(output: Path) -> None:
    if (output / REPORT).exists():
        raise LunaError(
            f"{output}: holds {REPORT}, the results of one scan; expected another folder for those of several"
        )
    if is_summary(output / SUMMARY):
        return
    for name in (SUMMARY, DETECTIONS, SERIES_UIDS):
        if (output / name).exists():
            raise LunaError(f"{output / name}: not of a diagnosis of several scans; expected another folder")
