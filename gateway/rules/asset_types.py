"""What kind of file an asset is, from its first bytes, and whether a browser may show it."""

from typing import Final

OCTETS: Final = "application/octet-stream"
_SIGNS: Final = (
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"GIF8", "image/gif"),
    (8, b"WEBP", "image/webp"),
    (4, b"ftypavif", "image/avif"),
    (4, b"ftypqt", "video/quicktime"),
    (4, b"ftypM4A", "audio/mp4"),
    (4, b"ftyp", "video/mp4"),
    (0, b"\x1a\x45\xdf\xa3", "video/webm"),
    (8, b"WAVE", "audio/wav"),
    (0, b"ID3", "audio/mpeg"),
    (0, b"\xff\xfb", "audio/mpeg"),
    (0, b"\xff\xfa", "audio/mpeg"),
    (0, b"\xff\xf3", "audio/mpeg"),
    (0, b"\xff\xf2", "audio/mpeg"),
    (0, b"\xff\xf1", "audio/aac"),
    (0, b"\xff\xf9", "audio/aac"),
    (0, b"OggS", "audio/ogg"),
    (0, b"fLaC", "audio/flac"),
)
_ENDINGS: Final = {
    "image/png": "png",
    "image/jpeg": "jpg",
    "image/gif": "gif",
    "image/webp": "webp",
    "image/avif": "avif",
    "video/quicktime": "mov",
    "video/mp4": "mp4",
    "video/webm": "webm",
    "audio/mp4": "m4a",
    "audio/wav": "wav",
    "audio/mpeg": "mp3",
    "audio/aac": "aac",
    "audio/ogg": "ogg",
    "audio/flac": "flac",
}


def content_type_of(beginning: bytes) -> str:
    """The media type that a file's first bytes show; what a provider claims is not believed, as a browser would act on it."""
    for place, sign, content_type in _SIGNS:
        if beginning[place : place + len(sign)] == sign:
            return content_type
    return OCTETS


def file_name(name: str, content_type: str) -> str:
    """A name for those who save it."""
    return f"{name}.{_ENDINGS.get(content_type, 'bin')}"


def is_shown(content_type: str) -> bool:
    """Whether a browser shows it in place; anything else is saved."""
    return content_type in _ENDINGS
