"""The Python client: everything that `import lograft` shows, from its docstrings."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from typing import Any

import lograft

_FIRST = ("Client", "Producer", "Consumer", "Groups")
"""What one begins with; the others follow by name."""
_HIDDEN = re.compile(r"_(?!_aenter__|_aiter__)")


def page() -> str:
    names = [*_FIRST, *(name for name in lograft.__all__ if name not in _FIRST and name not in ("errors", "sync"))]
    from lograft.client.admin import Admin

    parts = [
        "# The Python client\n",
        "`import lograft` shows these names; they are imported when they are first used. `lograft.sync.Client` has the same",
        "ones for blocking programs: no `await`, `for` instead of `async for`. Errors: `lograft.errors`,",
        "[listed here](errors.md). How groups work: [groups](../groups.md).\n",
        'Begin with `async with lograft.Client("host:9600") as client`; `client.admin` and `client.groups` administer.\n',
    ]
    for name in names:
        parts += _class(f"lograft.{name}", getattr(lograft, name))
        if name == "Consumer":
            parts += _class("client.admin", Admin)
    return "\n".join(parts)


def _class(shown: str, kind: Any) -> list[str]:
    parts = [f"## {shown}\n"]
    if not inspect.isclass(kind):
        return [*parts, f"```python\n{shown} = {str(kind).replace('typing.', '')}\n```\n"]
    own_init = kind.__dict__.get("__init__")
    takes = "" if own_init is None or hasattr(kind, "_fields") or _is_record(kind) else _signature(own_init)
    if shown == "lograft.Client":
        parts.append(f"```python\nlograft.Client{takes}\n```\n")
    doc = kind.__dict__.get("__doc__") or ""
    if not doc.startswith(f"{kind.__name__}("):
        parts.append(_text(doc))
    fields = _fields(kind)
    if fields:
        parts += [*(f"- `{name}: {of}`{': ' + told if told else ''}" for name, of, told in fields), ""]
    for name, member in kind.__dict__.items():
        if name.startswith("_"):
            continue
        function = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
        if not inspect.isfunction(function) or not (function.__doc__ or isinstance(member, property)):
            continue
        kinds = "async " if inspect.iscoroutinefunction(function) else ""
        takes = "" if isinstance(member, property) else _signature(function)
        parts += [f"```python\n{kinds}{name}{takes}\n```\n", _text(function.__doc__ or "")]
    return parts


def _is_record(kind: type[Any]) -> bool:
    return hasattr(kind, "__dataclass_fields__") or hasattr(kind, "__struct_fields__")


def _signature(function: Any) -> str:
    """As it is written in the source: what evaluates to a long union there has a name."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    assert isinstance(tree, ast.FunctionDef | ast.AsyncFunctionDef)
    tree.args.args = [one for one in tree.args.args if one.arg not in ("self", "cls")]
    returns = f" -> {ast.unparse(tree.returns)}" if tree.returns is not None and tree.name != "__init__" else ""
    spaced = re.sub(r"(\w: [^=,]+(?:\[[^]]*\][^=,]*)?)=", r"\1 = ", ast.unparse(tree.args))
    taken = f"({spaced}){returns}"
    if len(tree.name) + len(taken) <= 100:
        return taken
    arguments = re.sub(r", (?=\*{0,2}\w+: |\*, )", ",\n    ", spaced)
    return f"(\n    {arguments},\n){returns}"


def _fields(kind: type[Any]) -> list[tuple[str, str, str]]:
    """Of a named tuple or data class: name, type and what is said below it."""
    if not (hasattr(kind, "_fields") or _is_record(kind)):
        return []
    tree = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    assert isinstance(tree, ast.ClassDef)
    found: list[tuple[str, str, str]] = []
    for one in tree.body:
        if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name) and not one.target.id.startswith("_"):
            found.append((one.target.id, ast.unparse(one.annotation), ""))
        elif isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant) and found:
            name, of, _ = found[-1]
            found[-1] = name, of, " ".join(str(one.value.value).split())
    return found


def _text(doc: str) -> str:
    """A docstring as Markdown: indented tables, such as of what is raised, as they stand."""
    parts = []
    for paragraph in inspect.cleandoc(doc).split("\n\n"):
        lines = paragraph.splitlines()
        indented = next((nth for nth, line in enumerate(lines) if line.startswith("    ")), None)
        if indented is None:
            parts.append(paragraph)
        elif indented:
            parts.append(
                "\n".join(lines[:indented]) + "\n\n```text\n" + textwrap.dedent("\n".join(lines[indented:])) + "\n```"
            )
        else:
            parts.append("```text\n" + textwrap.dedent(paragraph) + "\n```")
    return "\n\n".join(part for part in parts if part) + "\n"
