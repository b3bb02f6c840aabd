"""Topics made, grown, trimmed, deleted and set up: translated for the controller, who decides.

Invariants
    any broker takes these and passes them on; only records are deleted where their partition is led
    what one topic of a request is refused for is told there, and fails nothing else
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

from ...proto.errors import (
    InvalidConfig,
    InvalidReplication,
    InvalidRequest,
    LograftError,
    NotAuthorized,
    RequestTimedOut,
    UnknownTopicId,
)
from ..config import BrokerConfig
from ..controller.topic_rules import is_internal, settings_of
from ..replicas import Replicas, topic_limits
from ..rpc.limits import CALL_SECONDS_MAX
from ..rpc.plain_admin import PlainAdmin
from .configs import Setting, all_of_ours, broker_settings, ours, topic_settings
from .errors import NONE, code_of, message_of
from .offset_requests import check_partitions
from .requests import Call

Told = Mapping[str, Any]

TOPIC, BROKER = 2, 4
"""Kinds of resources that have settings."""
SET, DELETE, APPEND, SUBTRACT = 0, 1, 2, 3
RESOURCES_MAX = 1_000
"""That one request may name."""
_DELETED_BY_ID_FROM = 6


class InvalidReplicaAssignment(InvalidReplication):
    """Where replicas go is for the controller to say; `lograft partition move` moves them."""

    reason, kafka_code = "INVALID_REPLICA_ASSIGNMENT", 39


class TopicRequests:
    def __init__(self, replicas: Replicas, admin: PlainAdmin, config: BrokerConfig) -> None:
        self._replicas = replicas
        self._admin = admin
        self._config = config

    # -- topics --------------------------------------------------------------------------------------------------------

    async def create_topics(self, request: Any, call: Call) -> Told:
        validate_only = getattr(request, "validate_only", False)
        return {"topics": [await self._created(one, validate_only) for one in request.topics[:RESOURCES_MAX]]}

    async def _created(self, asked: Any, validate_only: bool) -> Told:
        told: dict[str, Any] = {"name": asked.name, "topic_id": None, "configs": (), "error_message": None}
        try:
            if asked.assignments:
                raise InvalidReplicaAssignment("replicas are placed by the controller; leave the assignment out")
            config = {}
            for one in asked.configs:
                mapped = ours(one.name, one.value, max(asked.replication_factor, 0) or None)
                if mapped is not None and mapped[1] is not None:
                    config[mapped[0]] = mapped[1]
            made = await self._admin.create_topic(
                asked.name,
                self._config.kafka.auto_create_partitions if asked.num_partitions == -1 else asked.num_partitions,
                0 if asked.replication_factor == -1 else asked.replication_factor or -1,
                config,
                validate_only=validate_only,
            )
        except LograftError as error:
            return told | {"error_code": code_of(error), "error_message": message_of(error), "configs": None}
        settings = topic_settings(config, settings_of(config, topic_limits(self._config)), made.replication)
        return told | {
            "error_code": NONE,
            "topic_id": None if validate_only else UUID(hex=made.topic_id),
            "num_partitions": made.partitions,
            "replication_factor": made.replication,
            "configs": [
                {
                    "name": one.name,
                    "value": one.value,
                    "read_only": one.is_read_only,
                    "config_source": one.source,
                    "is_sensitive": False,
                }
                for one in settings
            ],
        }

    async def delete_topics(self, request: Any, call: Call) -> Told:
        if call.version < _DELETED_BY_ID_FROM:
            wanted: list[tuple[str | None, UUID | None]] = [(name, None) for name in request.topic_names]
        else:
            wanted = [(one.name, one.topic_id) for one in request.topics]
        return {"responses": [await self._deleted(*one) for one in wanted[:RESOURCES_MAX]]}

    async def _deleted(self, name: str | None, topic_id: UUID | None) -> Told:
        told: dict[str, Any] = {"name": name, "topic_id": topic_id}
        try:
            if name is None:
                known = None if topic_id is None else self._replicas.state.topic_by_id(topic_id.hex)
                if known is None:
                    raise UnknownTopicId(f"there is no topic of id {topic_id}")
                told["name"] = name = known.name
            await self._admin.delete_topic(name, "" if topic_id is None else topic_id.hex)
        except LograftError as error:
            return told | {"error_code": code_of(error), "error_message": message_of(error)}
        return told | {"error_code": NONE}

    async def create_partitions(self, request: Any, call: Call) -> Told:
        results = []
        for one in request.topics[:RESOURCES_MAX]:
            told: dict[str, Any] = {"name": one.name, "error_code": NONE, "error_message": None}
            try:
                if one.assignments:
                    raise InvalidReplicaAssignment("replicas are placed by the controller; leave the assignment out")
                await self._admin.grow_topic(one.name, one.count, validate_only=request.validate_only)
            except LograftError as error:
                told |= {"error_code": code_of(error), "error_message": message_of(error)}
            results.append(told)
        return {"results": results}

    async def delete_records(self, request: Any, call: Call) -> Told:
        try:
            check_partitions(request.topics)
        except LograftError as error:
            return {"topics": [_all_refused(topic, error) for topic in request.topics]}
        topics = []
        for topic in request.topics:
            told = await asyncio.gather(*(self._trimmed(topic.name, one) for one in topic.partitions))
            topics.append({"name": topic.name, "partitions": told})
        return {"topics": topics}

    async def _trimmed(self, topic: str, asked: Any) -> Told:
        told = {"partition_index": asked.partition_index, "low_watermark": -1, "error_code": NONE}
        try:
            led = self._replicas.leading(topic, asked.partition_index)
            if is_internal(topic):
                raise NotAuthorized(f"topic {topic} is internal; the cluster itself decides what it keeps")
            async with asyncio.timeout(CALL_SECONDS_MAX):
                offset = asked.offset if asked.offset != -1 else await led.replica.confirm_read()
                start = await led.replica.move_log_start(offset)
        except TimeoutError:
            return told | {"error_code": code_of(RequestTimedOut(""))}
        except LograftError as error:
            return told | {"error_code": code_of(error)}
        return told | {"low_watermark": start}

    # -- settings ------------------------------------------------------------------------------------------------------

    async def describe_configs(self, request: Any, call: Call) -> Told:
        results = []
        for one in request.resources[:RESOURCES_MAX]:
            told: dict[str, Any] = {
                "resource_type": one.resource_type,
                "resource_name": one.resource_name,
                "error_code": NONE,
                "error_message": None,
                "configs": (),
            }
            try:
                settings = self._settings(one.resource_type, one.resource_name)
                names = None if one.configuration_keys is None else {*one.configuration_keys}
                told["configs"] = [
                    _described(setting, request) for setting in settings if names is None or setting.name in names
                ]
            except LograftError as error:
                told |= {"error_code": code_of(error), "error_message": message_of(error)}
            results.append(told)
        return {"results": results}

    def _settings(self, kind: int, name: str) -> list[Setting]:
        if kind == TOPIC:
            topic = self._replicas.topic(name)
            return topic_settings(topic.config, self._replicas.settings(topic), topic.replication)
        if kind == BROKER:
            if name not in ("", str(self._config.broker.id)):
                raise InvalidRequest(f"this is broker {self._config.broker.id}; ask broker {name!r:.20} itself")
            return broker_settings(self._config) if name else []
        raise InvalidRequest(f"resources of type {kind} have no settings here; topics (2) and brokers (4) have")

    async def alter_configs(self, request: Any, call: Call) -> Told:
        """All settings of each topic: those that are not named go back to their default."""
        return {
            "responses": [
                await self._altered(one, [(SET, *pair) for pair in _pairs(one)], request.validate_only, whole=True)
                for one in request.resources[:RESOURCES_MAX]
            ]
        }

    async def incremental_alter_configs(self, request: Any, call: Call) -> Told:
        return {
            "responses": [
                await self._altered(
                    one,
                    [(config.config_operation, config.name, config.value) for config in one.configs],
                    request.validate_only,
                    whole=False,
                )
                for one in request.resources[:RESOURCES_MAX]
            ]
        }

    async def _altered(
        self, resource: Any, asked: Sequence[tuple[int, str, str | None]], validate_only: bool, *, whole: bool
    ) -> Told:
        told = {
            "resource_type": resource.resource_type,
            "resource_name": resource.resource_name,
            "error_code": NONE,
            "error_message": None,
        }
        try:
            if resource.resource_type != TOPIC:
                raise InvalidRequest("only topics' settings change so; a broker's are in its configuration file")
            topic = self._replicas.topic(resource.resource_name)
            changes, unset = _changes(topic.config, asked, topic.replication)
            if whole:
                unset |= {name for name in all_of_ours() if name in topic.config} - changes.keys()
            if changes or unset:
                await self._admin.alter_topic(topic.name, changes, sorted(unset), validate_only=validate_only)
        except LograftError as error:
            return told | {"error_code": code_of(error), "error_message": message_of(error)}
        return told


def _changes(
    config: Mapping[str, str], asked: Iterable[tuple[int, str, str | None]], replication: int
) -> tuple[dict[str, str], set[str]]:
    """What is to be set, and what to be unset, under our names. Raises InvalidConfig, InvalidRequest."""
    changes: dict[str, str] = {}
    unset: set[str] = set()
    for operation, name, value in asked:
        mapped = ours(name, None if operation == DELETE else value, replication)
        if mapped is None:
            continue
        name, value = mapped
        if name in changes or name in unset:
            raise InvalidRequest(f"{name} is named twice", key=name)
        if operation == DELETE:
            unset.add(name)
        elif value is None:
            raise InvalidConfig(f"{name} needs a value", key=name)
        elif operation == SET:
            changes[name] = value
        elif operation in (APPEND, SUBTRACT) and name == "cleanup.policy":
            present = config.get(name, "delete").split(",")
            named = [part.strip() for part in value.split(",")]
            kept = [part for part in present if part not in named]
            changes[name] = ",".join(sorted([*kept, *named] if operation == APPEND else kept))
        else:
            raise InvalidRequest(f"{name} is no list; set it, or delete it", key=name)
    return changes, unset


def _pairs(resource: Any) -> list[tuple[str, str | None]]:
    return [(one.name, one.value) for one in resource.configs]


def _described(setting: Setting, request: Any) -> Told:
    synonym = {"name": setting.name, "value": setting.value, "source": setting.source}
    return {
        "name": setting.name,
        "value": setting.value,
        "read_only": setting.is_read_only,
        "config_source": setting.source,
        "is_sensitive": False,
        "synonyms": [synonym] if request.include_synonyms else (),
        "config_type": setting.kind,
        "documentation": setting.doc if getattr(request, "include_documentation", False) else None,
    }


def _all_refused(topic: Any, error: LograftError) -> Told:
    return {
        "name": topic.name,
        "partitions": [
            {"partition_index": one.partition_index, "low_watermark": -1, "error_code": code_of(error)}
            for one in topic.partitions
        ],
    }
