"""The user's mistakes: one family, caught once at the roof, printed as one line, exit 2.

Network failures are values, never exceptions; anything else that is raised is a bug and crashes loudly.
"""


class UserError(Exception):
    """Something that the user can mend. `str()` is the one line to print."""

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


class LatchError(UserError):
    """The safety latch forbids this network namespace: nothing was sent."""


def first_user_error(error: BaseException) -> UserError | None:
    """The user's mistake inside what a nursery raised, if that is what it was."""
    if isinstance(error, BaseExceptionGroup):
        return next((found for inner in error.exceptions if (found := first_user_error(inner))), None)
    return error if isinstance(error, UserError) else None


def one_line(text: str) -> str:
    """`text` with control characters made visible, so that a hostile file name cannot forge a second line."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
