"""A GraphQL request as it came: read from a POST's body, a GET's parameters or a socket's message, its form checked."""

from dataclasses import dataclass
from typing import Final, TypeGuard
from urllib.parse import parse_qsl

import orjson

from app.graphql.limits import check_variables
from kit.errors import BadRequest

MAX_QUERY_STRING_BYTES: Final = 32_768
MAX_NAME_LENGTH: Final = 200
_PARAMETERS: Final = frozenset({"query", "operationName", "variables", "extensions", "documentId"})

JsonMap = dict[str, object]


@dataclass(frozen=True, slots=True)
class GraphQLRequest:
    """What is to be run. `query` None: a persisted document, by `document_id` or `extensions.persistedQuery`."""

    query: str | None
    operation_name: str | None
    variables: JsonMap
    extensions: JsonMap
    document_id: str | None


def of_body(body: bytes) -> GraphQLRequest:
    """The request in a POST's body; BadRequest for anything else than one JSON object of the right form."""
    if not body:
        raise BadRequest("the body is empty; send a JSON object with `query`")
    try:
        parameters: object = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"the body is not JSON: {error.msg}") from None
    return of_parameters(parameters)


def of_query_string(query_string: bytes) -> GraphQLRequest:
    """The request in a GET's parameters; `variables` and `extensions` are JSON texts there."""
    if len(query_string) > MAX_QUERY_STRING_BYTES:
        raise BadRequest(f"the parameters are longer than {MAX_QUERY_STRING_BYTES} bytes; send a POST")
    try:
        pairs = parse_qsl(
            query_string.decode("ascii"), keep_blank_values=True, encoding="utf-8", errors="strict", max_num_fields=50
        )
    except ValueError:
        raise BadRequest("the URL's parameters are not percent-encoded UTF-8") from None
    parameters: JsonMap = {}
    for name, value in pairs:
        if name not in _PARAMETERS:
            continue
        if name in parameters:
            raise BadRequest(f"the parameter {name} is there twice")
        if name in {"variables", "extensions"}:
            parameters[name] = _json_text(name, value)
        elif value or name == "query":
            parameters[name] = value
    return of_parameters(parameters)


def of_parameters(parameters: object) -> GraphQLRequest:
    """The request in a parsed JSON value, which may be anything."""
    if not _is_map(parameters):
        if isinstance(parameters, list):
            raise BadRequest("the body is a list, but requests come one by one: batches are not taken")
        raise BadRequest("the body must be a JSON object with `query`")
    query = parameters.get("query")
    operation_name = parameters.get("operationName")
    variables = parameters.get("variables")
    extensions = parameters.get("extensions")
    document_id = parameters.get("documentId")
    if query is not None and not isinstance(query, str):
        raise BadRequest("`query` must be a text")
    if operation_name is not None and not isinstance(operation_name, str):
        raise BadRequest("`operationName` must be a text or null")
    if operation_name is not None and len(operation_name) > MAX_NAME_LENGTH:
        raise BadRequest(f"`operationName` is longer than {MAX_NAME_LENGTH} characters")
    if document_id is not None and not isinstance(document_id, str):
        raise BadRequest("`documentId` must be a text or null")
    if variables is None:
        variables = {}
    elif not _is_map(variables):
        raise BadRequest("`variables` must be an object or null")
    elif variables:
        check_variables(variables)
    if extensions is None:
        extensions = {}
    elif not _is_map(extensions):
        raise BadRequest("`extensions` must be an object or null")
    if not query and document_id is None and "persistedQuery" not in extensions:
        raise BadRequest("`query` is missing")
    return GraphQLRequest(query or None, operation_name or None, variables, extensions, document_id)


def _is_map(value: object) -> TypeGuard[JsonMap]:
    """Whether a parsed JSON value is an object; its names are texts by JSON's grammar."""
    return isinstance(value, dict)


def _json_text(name: str, value: str) -> object:
    if not value:
        return None
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"`{name}` is not JSON: {error.msg}") from None
