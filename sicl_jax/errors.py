"""Errors that a user can cause and mend.

The command line prints each as one line and exits with `exit_code`; a library
caller catches them like any other exception.
"""


class UserError(Exception):
    """Bad input or a failed run: the message names the file or value, the fault, the remedy."""

    exit_code = 1

    def __str__(self):
        """The message, on one line and harmless to a terminal whatever a file's name holds."""
        text = super().__str__().encode("utf-8", "backslashreplace").decode()
        return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def one_line(reason: object) -> str:
    """What somebody else's error says, short and on one line; its type where it says nothing."""
    return " ".join(str(reason).split())[:200] or type(reason).__name__


class UsageError(UserError):
    """A wrong flag, argument or config field."""

    exit_code = 2


class StoppedError(UserError):
    """Work that a signal stopped, all of it saved; `exit_code` is the shell's for that signal."""

    def __init__(self, signal_number: int, message: str):
        super().__init__(message)
        self.exit_code = 128 + signal_number
