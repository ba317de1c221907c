"""The error for input that cannot be used."""


class UsageError(Exception):
    """Input that cannot be used at all.

    The message is one line that says what was expected and what was received; the command line
    prints it without a traceback and ends with exit code 2.
    """
