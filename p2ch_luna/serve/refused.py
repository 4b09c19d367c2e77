"""What a client asks for and does not get."""

from __future__ import annotations

from p2ch_luna.errors import LunaError


class Refused(LunaError):  # noqa: N818
    """What a client asks for is not done. status: of HTTP.    retry_after_s: when it may be done."""

    def __init__(self, status: int, reason: str, retry_after_s: int | None = None) -> None:
        super().__init__(reason)
        self.status, self.retry_after_s = status, retry_after_s

    @classmethod
    def too_large(cls, limit: int) -> Refused:
        """An upload of more than `limit` bytes."""
        return cls(413, f"the upload is too large; expected at most {limit} bytes ({limit / 1e9:.3g} GB)")

    @classmethod
    def no_room(cls) -> Refused:
        """The disk of the server is full, or nearly so."""
        return cls(507, "the server has too little room on its disk; delete jobs, or try again later")
