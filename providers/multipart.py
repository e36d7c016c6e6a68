"""Forms with one file (multipart/form-data), read and written."""

from typing import Final

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from kit.json_values import is_list, is_object
from providers.base import JsonObject, Upload

MAX_FIELDS: Final = 100
MAX_FIELD_BYTES: Final = 64 * 1024
FILE_FIELD: Final = "file"


class FormError(ValueError):
    """The body is no form that we take; the message says why."""


class _Reader:
    """Gathers the parts of a form."""

    def __init__(self) -> None:
        self.parts: list[tuple[dict[str, str], bytes]] = []
        self._headers: dict[str, str] = {}
        self._name = b""
        self._value = b""
        self._pieces: list[bytes] = []

    def begin(self) -> None:
        if len(self.parts) >= MAX_FIELDS:
            raise FormError(f"more than {MAX_FIELDS} fields")
        self._headers, self._pieces = {}, []

    def header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def header_end(self) -> None:
        self._headers[self._name.decode("latin-1").lower()] = self._value.decode("latin-1")
        self._name = self._value = b""

    def data(self, data: bytes, start: int, end: int) -> None:
        self._pieces.append(data[start:end])

    def end(self) -> None:
        self.parts.append((self._headers, b"".join(self._pieces)))


def read_form(content: bytes, content_type: str) -> tuple[JsonObject, Upload | None]:
    """The fields and the file. Raises FormError.

    `name[]` and names that come more than once become a list, `name[key]` an object; all values are texts.
    """
    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary:
        raise FormError("the body must be multipart/form-data with a boundary")
    reader = _Reader()
    try:
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": reader.begin,
                "on_header_field": reader.header_field,
                "on_header_value": reader.header_value,
                "on_header_end": reader.header_end,
                "on_part_data": reader.data,
                "on_part_end": reader.end,
            },
        )
        parser.write(content)
        parser.finalize()
    except (MultipartParseError, ValueError) as error:
        raise FormError(f"the form cannot be read: {error}") from error
    fields: JsonObject = {}
    upload: Upload | None = None
    for headers, value in reader.parts:
        _, about = parse_options_header(headers.get("content-disposition", ""))
        name = about.get(b"name", b"").decode("utf-8", "replace")
        if name == FILE_FIELD and upload is None:
            filename = about.get(b"filename", b"file").decode("utf-8", "replace")
            upload = Upload(filename, headers.get("content-type", "application/octet-stream"), value)
        elif len(value) > MAX_FIELD_BYTES:
            raise FormError(f"the field {name[:60]!r} is longer than {MAX_FIELD_BYTES} bytes")
        else:
            _put(fields, name, value.decode("utf-8", "replace"))
    return fields, upload


def _put(fields: JsonObject, name: str, text: str) -> None:
    outer, bracket, rest = name.partition("[")
    known = fields.get(outer)
    key = rest.partition("]")[0]
    if key:
        fields[outer] = {**(known if is_object(known) else {}), key: text}
    elif bracket or known is not None:
        fields[outer] = [*(known if is_list(known) else [] if known is None else [known]), text]
    else:
        fields[outer] = text


def write_form(fields: JsonObject, upload: Upload, boundary: str) -> bytes:
    """The form as a body; lists are written as `name[]`, objects as `name[key]`, other values as texts."""
    pieces: list[bytes] = []
    for name, value in fields.items():
        if is_list(value):
            pieces.extend(_part(boundary, f"{name}[]", _text(each).encode()) for each in value)
        elif is_object(value):
            pieces.extend(_part(boundary, f"{name}[{key}]", _text(each).encode()) for key, each in value.items())
        else:
            pieces.append(_part(boundary, name, _text(value).encode()))
    about = f'; filename="{_quoted(upload.filename)}"\r\nContent-Type: {_line(upload.content_type)}'
    pieces.append(_part(boundary, FILE_FIELD, upload.content, about))
    return b"".join([*pieces, f"--{boundary}--\r\n".encode()])


def _part(boundary: str, name: str, value: bytes, about: str = "") -> bytes:
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="{_quoted(name)}"{about}\r\n\r\n'
    return head.encode() + value + b"\r\n"


def _text(value: object) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def _quoted(text: str) -> str:
    return _line(text).replace("\\", "\\\\").replace('"', '\\"')


def _line(text: str) -> str:
    return "".join([character if character.isprintable() else " " for character in text])
