"""What a request to a DICOMweb server that fails means for the others; any other LunaError is of it alone."""

from __future__ import annotations

from p2ch_luna.errors import LunaError


class UnreachableError(LunaError):
    """The server does not answer, or not as it should: it may later."""


class OddAnswerError(UnreachableError):
    """What came for an instance is not that instance; it is hardly a matter of time."""


class DeniedError(LunaError):
    """The server does not accept the credentials: no other request would go well either."""


class WrongServerError(LunaError):
    """What answers at the URL is no DICOMweb, or has a false certificate: no other request would go well."""


class MissingError(LunaError):
    """The server does not have what was asked for."""
