"""The one error that a user is meant to read."""


class LunaError(Exception):
    """Bad input or an impossible request, told in one line: the thing, the value found, the value wanted.

    The library raises it; `cli` prints it and exits with 1.
    """
