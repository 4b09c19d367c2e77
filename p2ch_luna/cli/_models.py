"""What the argument MODEL of a command stands for."""

from __future__ import annotations

from pathlib import Path

from p2ch_luna.errors import LunaError

BUNDLED = ("segmentation", "nodule", "malignancy")


def model_at(model: str) -> Path:
    """The weights that a word, a file or a run's folder means. Raises LunaError for anything else."""
    from p2ch_luna.models.checkpoint import bundled, weights_at

    if model in BUNDLED:
        return bundled(model)
    try:
        return weights_at(Path(model))
    except LunaError as error:
        raise LunaError(f"{error}, or one of the words {', '.join(BUNDLED)}") from error
