"""The one exception that a user's input can cause."""

from typing import Self


class BadInput(ValueError):
    """Input that cannot be used. The message is one line: file or key, what was expected, what was found.

    The command line prints it without a traceback and exits with 2.
    """

    def __init__(self, where: object, expected: object, found: object) -> None:
        super().__init__(f"{where}: expected {expected}, found {found}")

    @classmethod
    def from_line(cls, line: str) -> Self:
        """The error whose message is `line`, as another process told it."""
        error = cls.__new__(cls)
        error.args = (line,)
        return error
