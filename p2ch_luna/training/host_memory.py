"""How the C library of Linux keeps the memory of tensors that are gone."""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # mallopt's names of its settings
LARGEST_KEPT = 32 * 2**20  # bytes of one tensor; older libraries allow no more
KEPT = 2**31 - 1  # bytes, free at the end of the heap: as much as can be said


def keep_freed_memory() -> bool:
    """Reuse the memory of freed tensors, in this process and those forked from it; False: not possible here.

    By itself the C library gives most of it back at once and asks anew for the next tensor, which the system
    then hands out page by page: 20,000 pages in a step of the default segmentation, an eighth of its time.
    The highest memory stays what it was.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc's
    if mallopt is None:
        return False
    return bool(mallopt(_MMAP_THRESHOLD, LARGEST_KEPT) and mallopt(_TRIM_THRESHOLD, KEPT))
