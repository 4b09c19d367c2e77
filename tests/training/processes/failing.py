"""`luna` in which one process fails at its second step, as bad data could make it: `failing.py train …`."""

from __future__ import annotations

import os
from collections.abc import Mapping

from p2ch_luna.cli import _training, main
from p2ch_luna.errors import LunaError

FAILING_RANK = "1"


class Failing(_training._Shown):
    """Tells how the run goes until it fails."""

    def step(self, step: int, total: int, figures: Mapping[str, float]) -> None:
        super().step(step, total, figures)
        if step == 2 and os.environ["RANK"] == FAILING_RANK:
            raise LunaError("chest-15.mhd: 3 slices; wanted more")


if __name__ == "__main__":
    _training._Shown = Failing  # type: ignore[misc]
    main()
