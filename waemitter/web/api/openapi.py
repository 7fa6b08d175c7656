"""The API's OpenAPI 3.1 description, made from the operations that are served. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final, TypeAlias

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from waemitter.web.api.model import Nothing, ProblemDocument
from waemitter.web.api.operation import Operation

_REF: Final = "#/components/schemas/{model}"
_ALWAYS: Final = (
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.FORBIDDEN,
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.INTERNAL_SERVER_ERROR,
    HTTPStatus.SERVICE_UNAVAILABLE,
)
_OF_A_BODY: Final = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
)

Mode: TypeAlias = tuple[type[BaseModel], JsonSchemaMode]
Schemas: TypeAlias = Mapping[Any, dict[str, Any]]


def describe(operations: Sequence[Operation[Any, Any]], *, version: str) -> dict[str, Any]:
    """Return the description as a document; aliases are left out of it."""
    wanted = sorted({*_models(operations)}, key=lambda each: (each[0].__name__, each[1]))
    schemas, definitions = models_json_schema(wanted, by_alias=True, ref_template=_REF)
    paths: dict[str, Any] = {}
    for operation in operations:
        path = paths.setdefault(operation.path, {})
        path[operation.method.lower()] = _described(operation, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "waemitter",
            "version": version,
            "description": "Send WhatsApp messages through the outbox, and ask what became of them.",
        },
        "security": [{"key": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            "schemas": definitions.get("$defs", {}),
        },
    }


def _models(operations: Sequence[Operation[Any, Any]]) -> Iterator[Mode]:
    yield ProblemDocument, "serialization"
    for operation in operations:
        yield operation.params, "validation"
        if operation.takes_json:
            yield operation.body, "validation"
        for answer in operation.answers.values():
            yield answer, "serialization"


def _described(operation: Operation[Any, Any], schemas: Schemas) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "security": [{"key": [operation.scope] if operation.scope else []}],
        "parameters": list(_parameters(operation)),
        "responses": dict(_responses(operation, schemas)),
    }
    if operation.takes_json:
        described["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schemas[operation.body, "validation"]}},
        }
    elif operation.uploads:
        file = {"type": "string", "format": "binary"}
        described["requestBody"] = {
            "required": True,
            "content": {
                kind: {"schema": _form(file) if kind.startswith("multipart/") else file}
                for kind in operation.uploads
            },
        }
    return described


def _form(file: dict[str, str]) -> dict[str, Any]:
    return {"type": "object", "required": ["file"], "properties": {"file": file}}


def _parameters(operation: Operation[Any, Any]) -> Iterator[dict[str, Any]]:
    if operation.params is Nothing:
        return
    schema = operation.params.model_json_schema(by_alias=True, ref_template=_REF)
    for name, described in schema["properties"].items():
        kept = {key: value for key, value in described.items() if key not in {"in", "title"}}
        if "anyOf" in kept:  # "or null" is how a field says that it may be left out
            kept |= kept.pop("anyOf")[0]
            kept.pop("default", None)
        where = "path" if name in operation.in_path else described.get("in", "query")
        yield {
            "name": name,
            "in": where,
            "required": name in schema.get("required", ()),
            "schema": kept,
        }


def _responses(
    operation: Operation[Any, Any], schemas: Schemas
) -> Iterator[tuple[str, dict[str, Any]]]:
    for status, model in operation.answers.items():
        schema = schemas[model, "serialization"]
        yield (
            str(status.value),
            {"description": status.phrase, "content": {"application/json": {"schema": schema}}},
        )
    refusals = {*_ALWAYS, *operation.refusals}
    if operation.takes_json or operation.params is not Nothing:
        refusals.add(HTTPStatus.UNPROCESSABLE_ENTITY)
    if operation.takes_json or operation.uploads:
        refusals |= {*_OF_A_BODY}
    problem = {"$ref": _REF.format(model=ProblemDocument.__name__)}
    for status in sorted(refusals):
        yield (
            str(status.value),
            {
                "description": status.phrase,
                "content": {"application/problem+json": {"schema": problem}},
            },
        )
