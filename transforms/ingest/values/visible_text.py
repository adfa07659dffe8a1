"""Removes invisible characters from a text.

They come with what is copied out of web pages, documents, contacts and spreadsheets, and make two identifiers of one.
Nobody can tell them apart, so nobody means them. RFC 8265 treats opaque strings alike (spaces are one space, composed
and decomposed letters one letter), and Unicode's own folding of identifiers leaves out what is ignorable by default.
"""

from __future__ import annotations

import re
import unicodedata

# Unicode's Default_Ignorable_Code_Point (soft hyphen, zero width, marks of direction, byte order mark, variation
# selectors, fillers, tags), written out so that no other version of Unicode makes other identifiers; and the control
# characters but for line ends and tabs, which part words.
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
    "\x00-\x08\x0e-\x1f\x7f\x80-\x84\x86-\x9f]+"
)
_SPACE = re.compile("[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]")


def visible(text: str) -> str:
    """The text without what cannot be seen: no spaces around it, every other space an ordinary one, letters
    composed."""
    if text.isascii():
        return (text if text.isprintable() else _INVISIBLE.sub("", text)).strip()
    text = _SPACE.sub(" ", _INVISIBLE.sub("", text))
    return unicodedata.normalize("NFC", text).strip()
