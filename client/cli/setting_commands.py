"""`cluster settings|set`: what holds for all brokers, and can be changed while they run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from .endings import say
from .local_commands import OutputOption
from .record_commands import BrokersOption
from .tables import OutputFormat
from .topic_commands import run_with_client

if TYPE_CHECKING:
    from ..admin import ClusterSetting


def list_settings(output: OutputOption = OutputFormat.text, brokers: BrokersOption = None) -> None:
    """List the settings of the whole cluster, with what is in force.

    \b
      lograft cluster settings
    """
    from .tables import columns, show, show_json

    async def work(client: Any) -> list[ClusterSetting]:
        found: list[ClusterSetting] = await client.admin.cluster_settings()
        return found

    found = run_with_client(brokers, work)
    if output is OutputFormat.json:
        show_json(
            [
                {
                    "name": setting.name,
                    "value": setting.value,
                    "default": setting.default,
                    "explanation": setting.explanation,
                }
                for setting in found
            ]
        )
        return
    rows = [(setting.name, setting.value, setting.default, setting.explanation) for setting in found]
    show(columns(("SETTING", "VALUE", "DEFAULT", "WHAT IT DOES"), rows))


def change(
    name: Annotated[str, typer.Argument(help="As `lograft cluster settings` lists it.", show_default=False)],
    value: Annotated[str, typer.Argument(help="With its unit; `default` undoes what was set.", show_default=False)],
    brokers: BrokersOption = None,
) -> None:
    """Change a setting of the whole cluster. It is in force on all brokers a moment later, without a restart.

    \b
      lograft cluster set moves.bytes_per_second 20MB/s
      lograft cluster set moves.bytes_per_second unlimited
      lograft cluster set brokers.gone_after_ms 2h
      lograft cluster set brokers.gone_after_ms never
    """

    async def work(client: Any) -> ClusterSetting:
        changed: ClusterSetting = await client.admin.change_cluster_setting(name, value)
        return changed

    changed = run_with_client(brokers, work)
    say(f"{changed.name} is {changed.value}: {changed.explanation}")
