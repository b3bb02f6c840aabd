"""Requests and responses as kio's schemas have them: bytes to objects with fields, and mappings of fields to bytes.

Invariants
    only kio.schema and kio.serial are used, never kio.records: records stay bytes
    whatever cannot be read raises MalformedRequest, and nothing else
    a response is told by field name for all versions at once: a version takes the fields that it has
    tagged fields at their default are left out (librdkafka before 2.2.0 cannot skip them)

Importing kio takes 40 ms, and each schema some more when first met: only brokers with this door open pay for it.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from datetime import timedelta
from functools import cache
from types import NoneType
from typing import Any, NamedTuple, get_args, get_origin

from kio.index import load_request_schema, load_response_schema
from kio.schema.errors import ErrorCode
from kio.serial import entity_reader, entity_writer
from kio.serial.errors import SerialError
from kio.serial.readers import tz_aware_from_i64

from ...proto.record_batch import Buffer
from .claims import check_claims
from .frames import MalformedRequest


class RequestCodec(NamedTuple):
    is_flexible: bool
    """Has its header tagged fields?"""
    read: Callable[[Buffer, int], tuple[Any, int]]
    check: Callable[[Any], None] | None
    """Raises MalformedRequest for lists that are null where none may be: kio gives None then."""


class ResponseCodec(NamedTuple):
    is_flexible: bool
    build: Callable[[Mapping[str, Any]], Any]
    write: Callable[[Any, Any], None]


@cache
def request_codec(key: int, version: int) -> RequestCodec:
    schema: Any = load_request_schema(key, version)
    return RequestCodec(schema.__header_schema__.__version__ == 2, entity_reader(schema), _checker(schema))


@cache
def response_codec(key: int, version: int) -> ResponseCodec:
    schema: Any = load_response_schema(key, version)
    return ResponseCodec(schema.__header_schema__.__version__ == 1, _builder(schema), entity_writer(schema))


def decode_request(key: int, version: int, frame: Buffer, position: int) -> Any:
    """The request whose body begins at `position`. Raises MalformedRequest."""
    codec = request_codec(key, version)
    check_claims(key, version, frame, position)
    try:
        request, _ = codec.read(frame, position)
    except (SerialError, ValueError, OverflowError, TypeError, KeyError) as error:
        # A KeyError is a tagged field that kio's schemas do not have.
        raise MalformedRequest(f"a request {key} of version {version} cannot be read: {error}") from None
    if codec.check is not None:
        codec.check(request)
    return request


def encode_response(key: int, version: int, told: Mapping[str, Any]) -> bytes:
    """The body of a response. Fields that the version does not have are left out, and missing ones at their default."""
    codec = response_codec(key, version)
    written = io.BytesIO()
    codec.write(written, codec.build(told))
    return written.getvalue()


@cache
def _checker(schema: Any) -> Callable[[Any], None] | None:
    plan = []
    for field in fields(schema):
        array = _array(field.type)
        if array is None:
            continue
        (item,) = [one for one in get_args(array) if one is not Ellipsis]
        check = _checker(item) if hasattr(item, "__version__") else None
        may_be_null = array is not field.type
        if check is not None or not may_be_null:
            plan.append((field.name, may_be_null, check))
    if not plan:
        return None

    def check_all(entity: Any) -> None:
        for name, may_be_null, check in plan:
            values = getattr(entity, name)
            if values is None:
                if may_be_null:
                    continue
                raise MalformedRequest(f"{name} is null, and may not be")
            if check is not None:
                for value in values:
                    check(value)

    return check_all


def _array(kind: Any) -> Any:
    """The tuple among what a field may be, if there is one."""
    return next((one for one in (kind, *get_args(kind)) if get_origin(one) is tuple), None)


# From mappings to kio's objects --------------------------------------------------------------------------------------


@cache
def _builder(schema: Any) -> Callable[[Mapping[str, Any]], Any]:
    plan = [(field.name, _converter(field), _default(field)) for field in fields(schema)]

    def build(told: Mapping[str, Any]) -> Any:
        made = {}
        for name, convert, default in plan:
            value = told.get(name, MISSING)
            if value is MISSING:
                if default is MISSING:
                    raise KeyError(f"{schema.__name__} needs {name}")
                made[name] = default
            else:
                made[name] = value if convert is None or value is None else convert(value)
        return schema(**made)

    return build


def _default(field: Any) -> Any:
    if field.default is not MISSING:
        return field.default
    kind = field.metadata.get("kafka_type")
    if kind == "error_code":
        return ErrorCode.none
    if kind in ("timedelta_i32", "timedelta_i64"):
        return timedelta()
    return MISSING


def _converter(field: Any) -> Callable[[Any], Any] | None:
    kind = field.metadata.get("kafka_type")
    if (array := _array(field.type)) is not None:
        return _tuple_converter(array)
    match kind:
        case "error_code":
            return ErrorCode
        case "timedelta_i32" | "timedelta_i64":
            return _of_milliseconds
        case "datetime_i64":
            return lambda value: None if value < 0 else tz_aware_from_i64(value)
        case None:
            entity = next(one for one in (field.type, *get_args(field.type)) if hasattr(one, "__version__"))
            return _builder(entity)
    return None


def _tuple_converter(array: Any) -> Callable[[Any], Any]:
    item = next(one for one in get_args(array) if one is not Ellipsis and one is not NoneType)
    if hasattr(item, "__version__"):
        build = _builder(item)
        return lambda values: tuple(map(build, values))
    if item is ErrorCode:
        return lambda values: tuple(map(ErrorCode, values))
    return tuple


def _of_milliseconds(value: int) -> timedelta:
    return timedelta(milliseconds=value)


def milliseconds(value: timedelta) -> int:
    """A duration of a request as the number that it was."""
    return round(value.total_seconds() * 1000)
