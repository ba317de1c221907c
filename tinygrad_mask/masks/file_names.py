"""File names as they can be shown: a name is bytes, and need not be text."""


def printable(name: str) -> str:
    """Return a file name such that it stays in its line and every terminal can show it.

    Control characters, and bytes that are no UTF-8, are escaped as Python escapes them.
    """
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in name
    )


def unicode_name(name: str) -> str:
    """Return a file name for JSON, whose text is Unicode: bytes that are no UTF-8 are escaped."""
    return name.encode("utf-8", "backslashreplace").decode()
