"""What came of one implanted scan, kept so that an interrupted benchmark goes on where it was."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from pydantic import ValidationError

from p2ch_luna import __version__
from p2ch_luna.datasets.benchmark import Host, Implanted
from p2ch_luna.errors import LunaError
from p2ch_luna.files import replacing
from p2ch_luna.findings import Detection, Nodule
from p2ch_luna.frozen import Frozen
from p2ch_luna.inference.joint import LOGIT_LIMIT
from p2ch_luna.inference.propose import ProposalSettings
from p2ch_luna.io.scan_keys import recipe_digest

FORMAT = 3  # of a part, and of how a scan is made; a new one makes all parts anew

log = logging.getLogger(__name__)


class Part(Frozen):
    """One copy of one host: the truth and what was found."""

    key: str  # as of `part_key`: another one means that this part is of something else
    host: str  # its series uid
    series_uid: str  # of the implanted scan
    is_kept: bool  # the scan too, as a file
    implanted: tuple[Implanted, ...]
    excluded: tuple[Nodule, ...]
    detections: tuple[Detection, ...]  # every candidate with its score, the most probable first
    warnings: tuple[str, ...]
    seconds: float  # of the diagnosis


def part_key(
    host: Host,
    copy: int,
    *,
    seed: int,
    count: int,
    pool: str,
    known: Sequence[Nodule],
    models: Mapping[str, str],
    calibrations: Mapping[str, Sequence[float]],
    proposal: ProposalSettings,
    device: str,
) -> str:
    """A digest of everything that decides what comes of a copy: another input has another key.

    pool: `benchmark.pool_sha256`.    models: SHA-256 of the weights by stage.    calibrations: by stage, the
    weights that join the logits, where a card has them.    device: its kind, as networks do not compute the
    same to the last digit on all.
    """
    decides = {
        "software": [FORMAT, __version__, recipe_digest()],
        "host": [host.series_uid, host.sha256, [asdict(nodule) for nodule in known]],
        "nodules": [pool, count, seed, copy],
        "networks": [dict(models), asdict(proposal), device],
        "joined": [LOGIT_LIMIT, {stage: list(numbers) for stage, numbers in calibrations.items()}],
    }
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()


def part_path(folder: Path, series_uid: str) -> Path:
    """Where the part of an implanted scan lies."""
    return folder / f"{series_uid}.json"


def read_part(folder: Path, series_uid: str, key: str) -> Part | None:
    """The part of an implanted scan; None if there is none with this key. A damaged one is told and None."""
    path = part_path(folder, series_uid)
    try:
        part = Part.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise LunaError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        log.warning("%s: not a part of a benchmark: %s: %s; made anew", path, where, first["msg"])
        return None
    return part if part.key == key else None


def write_part(folder: Path, part: Part) -> None:
    """Write it whole or not at all."""
    with replacing(part_path(folder, part.series_uid)) as temporary:
        temporary.write_text(part.model_dump_json(indent=1) + "\n", encoding="utf-8")
