"""Java's `.properties` files, as `java.util.Properties.load` reads them."""

from __future__ import annotations

from typing import Final

_BLANK: Final = " \t\f"
_ESCAPES: Final = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}


def decode(data: bytes) -> str:
    """The text of a file: UTF-8 if it is valid UTF-8, else ISO-8859-1, which Java assumes.

    A file that Java reads correctly is in ASCII with Unicode escapes, or in ISO-8859-1. ISO-8859-1 with characters beyond
    ASCII is almost never valid UTF-8 by chance.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("iso-8859-1")


def parse(text: str) -> dict[str, str]:
    """The entries; of two with the same name the later one wins. Spaces at the end of a value belong to it.

    Raises:
        ValueError: a Unicode escape is malformed; the message names the line.
    """
    entries: dict[str, str] = {}
    for number, line in _logical_lines(text):
        end = _end_of_key(line)
        rest = line[end:].lstrip(_BLANK)
        if rest[:1] in ("=", ":"):
            rest = rest[1:].lstrip(_BLANK)
        entries[_unescape(line[:end], number)] = _unescape(rest, number)
    return entries


def _logical_lines(text: str) -> list[tuple[int, str]]:
    """Lines with an entry, continuation lines joined, each with the number of its first line."""
    # Not splitlines(), which has more separators than Java.
    natural = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    lines: list[tuple[int, str]] = []
    at = 0
    while at < len(natural):
        number, line = at + 1, natural[at].lstrip(_BLANK)
        at += 1
        if not line or line[0] in "#!":  # a comment cannot be continued
            continue
        while _is_continued(line):
            line = line[:-1]
            # An empty line before the backslash: the next line stands for itself, and may be a comment.
            if not line or at == len(natural):
                break
            line += natural[at].lstrip(_BLANK)
            at += 1
        if line:
            lines.append((number, line))
    return lines


def _is_continued(line: str) -> bool:
    return (len(line) - len(line.rstrip("\\"))) % 2 == 1


def _end_of_key(line: str) -> int:
    at = 0
    while at < len(line):
        if line[at] == "\\":
            at += 1  # the next character belongs to the key
        elif line[at] in "=: \t\f":
            return at
        at += 1
    return len(line)


def _unescape(text: str, line: int) -> str:
    if "\\" not in text:
        return text
    out: list[str] = []
    at = 0
    while at < len(text):
        char = text[at]
        at += 1
        if char != "\\" or at == len(text):
            out.append("" if char == "\\" else char)
            continue
        char = text[at]
        at += 1
        if char == "u":
            digits = text[at : at + 4]
            if len(digits) < 4 or not all(digit in "0123456789abcdefABCDEF" for digit in digits):
                raise ValueError(f"line {line}: \\u must be followed by four hexadecimal digits")
            out.append(chr(int(digits, 16)))
            at += 4
        else:
            out.append(_ESCAPES.get(char, char))
    # Two escapes may be a surrogate pair, which is one character.
    return "".join(out).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
