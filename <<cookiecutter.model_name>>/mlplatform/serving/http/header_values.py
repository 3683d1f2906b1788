"""Values of headers: numbers, and what of a value is shown."""

_SHOWN = 60


def header_number(text: str, most: int) -> int | None:
    """The whole number that a header holds, in ASCII digits, if it is at most `most`, else None."""
    digits = text.lstrip("0")
    if not text or not text.isascii() or not text.isdigit() or len(digits) > len(str(most)):
        return None
    number = int(digits or "0")
    return number if number <= most else None


def shorten(text: str) -> str:
    """What a client has sent, for a message."""
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."
