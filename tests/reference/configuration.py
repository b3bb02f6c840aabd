"""Configuration: of a broker (TOML), of a topic, of the whole cluster."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
from typing import Any, get_type_hints

import msgspec
from lograft.node.config import BrokerConfig
from lograft.node.controller.settings import SETTINGS
from lograft.node.controller.topic_rules import CONFIG_KEYS


def page() -> str:
    parts = [
        "# Configuration\n",
        "## Of a broker\n",
        "`lograft broker -c FILE` reads TOML; over it holds the environment (`LOGRAFT_SECTION__KEY=value`), over that",
        "`--set section.key=value`. What is wrong stops the start with one line that names source, key, value and reason.",
        "Names end in their unit: `_ms` milliseconds, `_bytes` bytes. Samples are in `cluster-configs/`. `lograft up` writes",
        "the files of a local cluster by itself.\n",
    ]
    for name, section in get_type_hints(BrokerConfig).items():
        parts += _section(name, section)
    parts += [
        "## Of a topic\n",
        "`lograft topic create T -c key=value`, `lograft topic alter T -c key=value`; `--unset key` goes back to the default.\n",
        "| key | value | default | meaning |\n| --- | --- | --- | --- |",
        *(_row(f"`{key.name}`", key.type, key.default, key.doc) for key in CONFIG_KEYS.values()),
        "\n## Of the whole cluster\n",
        "`lograft cluster settings` lists them, `lograft cluster set NAME VALUE` changes one while the brokers run;",
        "`default` undoes it.\n",
        "| name | default | to switch it off | meaning |\n| --- | --- | --- | --- |",
        *(_row(f"`{one.name}`", one.shown(one.default), f"`{one.off}`", one.explained) for one in SETTINGS.values()),
    ]
    return "\n".join(parts)


def _section(name: str, section: type[Any]) -> list[str]:
    told = inspect.cleandoc(section.__doc__ or "").replace("\n", " ")
    explained = _explained(section)
    rows = [_row(f"`{key}`", _shown(key, default), explained.get(key, "")) for key, default in _defaults(section)]
    return [f"### [{name}]\n", f"{told}\n", "| key | default | meaning |\n| --- | --- | --- |", *rows, ""]


def _defaults(section: type[Any]) -> list[tuple[str, object]]:
    if dataclasses.is_dataclass(section):
        return [(one.name, one.default) for one in dataclasses.fields(section)]
    return [
        (one.name, one.default_factory() if one.default_factory is not msgspec.NODEFAULT else one.default)
        for one in msgspec.structs.fields(section)
    ]


def _explained(section: type[Any]) -> dict[str, str]:
    """The sentences below the fields. A field without one is explained with the field after it."""
    (found,) = ast.parse(textwrap.dedent(inspect.getsource(section))).body
    assert isinstance(found, ast.ClassDef)
    explained: dict[str, str] = {}
    waiting: list[str] = []
    for one in found.body:
        if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name):
            waiting.append(one.target.id)
        elif isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant) and waiting:
            explained[waiting[-1]] = " ".join(inspect.cleandoc(str(one.value.value)).split())
            waiting = []
    return explained


def _shown(key: str, default: object) -> str:
    if default is msgspec.NODEFAULT:
        return "must be given"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, int) and "bytes" in key and default >= 1 << 10 and default % (1 << 10) == 0:
        return f"`{default}` ({_power(default)})"
    return "none" if default in ("", {}) else f"`{default}`"


def _power(number: int) -> str:
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if number % size == 0:
            return f"{number // size} {unit}"
    return str(number)


def _row(*cells: str) -> str:
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"
