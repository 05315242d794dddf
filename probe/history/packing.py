"""Whole reports in little space: one that is like an earlier one is compressed with that one as its dictionary.

Lossless and blind to what the text means: whatever part of the evidence repeats costs next to nothing.
"""

from typing import Final

import zstandard

_LEVEL: Final = 12
_WINDOW: Final = 27  # log2 bytes: the dictionary must lie within reach
_LARGEST: Final = 1 << 30  # bytes of a report: a damaged length may not fill the memory
_WORSE: Final = 3  # a new dictionary, where this one saves less than a third


class PackingError(Exception):
    """The bytes are not what was packed."""


def pack(text: bytes, dictionary: bytes | None = None) -> bytes:
    """`text`, compressed; with `dictionary` only what differs from it."""
    settings = zstandard.ZstdCompressionParameters.from_level(
        _LEVEL, window_log=min(_WINDOW, max(10, (len(text) + len(dictionary or b"")).bit_length())), write_checksum=True
    )
    return zstandard.ZstdCompressor(compression_params=settings, dict_data=_dictionary(dictionary)).compress(text)


def unpack(packed: bytes, dictionary: bytes | None = None) -> bytes:
    """What was packed. Raises PackingError."""
    try:
        size = zstandard.frame_content_size(packed)
        if not 0 <= size <= _LARGEST:
            raise PackingError("its length is not a report's")
        maker = zstandard.ZstdDecompressor(dict_data=_dictionary(dictionary), max_window_size=1 << _WINDOW)
        return maker.decompress(packed)
    except zstandard.ZstdError as error:
        raise PackingError(str(error)) from None


def is_alike(packed: bytes, alone: bytes) -> bool:
    """Whether the dictionary was worth it. `alone`: the dictionary itself, packed."""
    return len(packed) * _WORSE < len(alone) * 2


def _dictionary(content: bytes | None) -> zstandard.ZstdCompressionDict | None:
    if content is None:
        return None
    return zstandard.ZstdCompressionDict(content, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
