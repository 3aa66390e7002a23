"""Texts in the encodings that people's programs write."""

from __future__ import annotations


def decoded(data: bytes) -> tuple[str, str]:
    """Return the text of a file that a person wrote, and how it was understood if it is not UTF-8."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):  # as Windows saves Unicode text
        return data.decode("utf-16"), ""
    try:
        return data.decode("utf-8-sig"), ""
    except UnicodeDecodeError:  # as it saves other text in the West
        return data.decode("cp1252"), "not UTF-8; it is read as Windows-1252 (check accents in names)"
