"""Refuse files too large for the repository. Bundled weights may be larger than the rest.

usage: check_file_sizes.py FILE ...    (paths from the root of the repository)
"""

from __future__ import annotations

import sys
from pathlib import Path

MIB = 2**20
LIMIT_MIB = 1
WEIGHTS_LIMIT_MIB = 16
WEIGHTS = Path("p2ch_luna/weights")


def too_large(path: Path) -> str | None:
    """One line about a file above its limit, else None."""
    limit = WEIGHTS_LIMIT_MIB if WEIGHTS in path.parents else LIMIT_MIB
    size = path.stat().st_size / MIB
    return f"{path}: {size:.1f} MiB; expected at most {limit} MiB" if size > limit else None


def main() -> None:
    """Exit with 1 if any file named on the command line is too large."""
    complaints = [line for name in sys.argv[1:] if (line := too_large(Path(name)))]
    print("\n".join(complaints), file=sys.stderr, end="\n" if complaints else "")
    sys.exit(bool(complaints))


if __name__ == "__main__":
    main()
