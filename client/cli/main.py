"""`lograft`: the table of contents of the command line.

Always
    what a command needs is imported when it runs, so that help and wrong usage are answered at once
    whatever happens, the process ends by one of the exit codes in `endings`
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
import typer.core
from typer.exceptions import Abort, TyperException

from . import (
    bench_commands,
    broker_commands,
    check_commands,
    check_log,
    cluster_commands,
    generate_commands,
    group_commands,
    local_commands,
    partition_commands,
    record_commands,
    recovery_commands,
    rolling_restart,
    setting_commands,
    topic_commands,
)
from .endings import (
    DONE,
    FAILED,
    INTERRUPTED,
    OUTPUT_CLOSED,
    WRONG_USAGE,
    Ended,
    leave_output,
    one_line,
    refusal_of,
    replace_closed_streams,
    say,
    tell_mistake_of_ours,
)


class _InOrder(typer.core.TyperGroup):
    """Lists commands as they were added: what one needs first comes first."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(self.commands)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # before typer makes an exit code 1 of it
            raise Ended(OUTPUT_CLOSED) from None

    def make_context(self, *args: Any, **rest: Any) -> Any:
        try:
            return super().make_context(*args, **rest)  # writes the help, if that is asked for
        except BrokenPipeError:
            raise Ended(OUTPUT_CLOSED) from None


# Rich help is left out: it costs twice the time of all the rest, and cannot be copied from.
_APP: dict[str, Any] = {
    "cls": _InOrder,
    "no_args_is_help": True,
    "add_completion": False,
    "rich_markup_mode": None,
    "pretty_exceptions_enable": False,
    "context_settings": {"help_option_names": ["-h", "--help"]},
}

app = typer.Typer(**_APP)
_topic = typer.Typer(help="Create, list, describe, alter, grow, trim and delete topics.", **_APP)
_group = typer.Typer(help="Consumer groups: who reads what, how far behind, and moving them.", **_APP)
_partition = typer.Typer(help="List partitions, move their replicas, and go on where a majority is lost.", **_APP)
_broker = typer.Typer(**{**_APP, "no_args_is_help": False})
_check = typer.Typer(help="Check what is stored, and what was seen: logs and histories.", **_APP)
_generate = typer.Typer(help="Monitoring: Prometheus' configuration, alerts, Grafana's dashboards.", **_APP)
_bench = typer.Typer(help="Measure a running cluster: records a second, and how long one takes.", **_APP)
_cluster = typer.Typer(help="The whole cluster: who is in it, is it well, is it even, and its settings.", **_APP)

app.command()(local_commands.up)
app.command()(local_commands.down)
app.command()(local_commands.status)
app.command()(local_commands.kill)
app.command()(local_commands.start)
app.command()(rolling_restart.restart)
app.add_typer(_topic, name="topic")
app.command()(record_commands.produce)
app.command()(record_commands.consume)
app.add_typer(_group, name="group")
app.add_typer(_cluster, name="cluster")
app.add_typer(_partition, name="partition")
app.add_typer(_broker, name="broker")
app.add_typer(_check, name="check")
app.add_typer(_bench, name="bench")
app.add_typer(_generate, name="generate")

_topic.command()(topic_commands.create)
_topic.command("list")(topic_commands.list_topics)
_topic.command()(topic_commands.describe)
_topic.command()(topic_commands.alter)
_topic.command()(topic_commands.grow)
_topic.command()(topic_commands.trim)
_topic.command()(topic_commands.delete)

_group.command("list")(group_commands.list_groups)
_group.command()(group_commands.describe)
_group.command()(group_commands.seek)
_group.command()(group_commands.delete)

_partition.command("list")(partition_commands.list_partitions)
_partition.command()(partition_commands.move)
_partition.command()(recovery_commands.recover)

_broker.callback(invoke_without_command=True)(local_commands.broker)
_broker.command("list")(broker_commands.list_brokers)
_broker.command()(broker_commands.add)
_broker.command()(broker_commands.drain)
_broker.command()(broker_commands.undrain)
_broker.command()(broker_commands.remove)

_check.command()(check_commands.history)
_check.command("log")(check_log.check_log)

_bench.command()(bench_commands.produce)
_bench.command()(bench_commands.consume)
_bench.command()(bench_commands.latency)
_bench.command()(bench_commands.mixed)

_generate.command()(generate_commands.prometheus)
_generate.command()(generate_commands.alerts)
_generate.command()(generate_commands.grafana)

_cluster.command()(cluster_commands.info)
_cluster.command()(cluster_commands.health)
_cluster.command()(cluster_commands.rebalance)
_cluster.command("settings")(setting_commands.list_settings)
_cluster.command("set")(setting_commands.change)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"lograft {version('lograft')}")
        raise typer.Exit


@app.callback()
def lograft(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version, and stop.")
    ] = False,
) -> None:
    """A replicated log that survives the death of its brokers.

    \b
    Try it:
      lograft up                                     three brokers on this machine
      lograft topic create events                    (in another terminal)
      echo 'hello, log' | lograft produce events
      lograft consume events -o start
      lograft consume events -g billing              share it with others, and go on where you stopped
      lograft kill 1                                 and nothing is lost

    Commands talk to the brokers named by --brokers or LOGRAFT_BROKERS, else to the local cluster that `up` started.
    """


def main(arguments: Sequence[str]) -> int:
    """Run one command; returns its exit code. Says why, in one line, if it is not 0."""
    try:
        code = app(args=list(arguments), prog_name="lograft", standalone_mode=False)
        sys.stdout.flush()
    except Ended as ended:
        if ended.exit_code == OUTPUT_CLOSED:
            leave_output()
        return ended.exit_code
    except BrokenPipeError:
        leave_output()
        return OUTPUT_CLOSED
    except TyperException as error:
        return _wrong_usage(error)
    except (KeyboardInterrupt, Abort):
        return INTERRUPTED
    except Exception as error:
        line = refusal_of(error)
        if line is None:
            tell_mistake_of_ours(error)
        else:
            say(f"lograft: {line}")
        try:
            sys.stdout.flush()
        except OSError:
            leave_output()  # it was this that failed, and it would fail once more at the very end
        return FAILED
    return code if isinstance(code, int) else DONE


def _wrong_usage(error: TyperException) -> int:
    context = getattr(error, "ctx", None)
    text = one_line(error.format_message())
    if type(error).__name__ == "NoArgsIsHelpError":
        say(error.format_message())
        return WRONG_USAGE
    where = context.command_path if context is not None else "lograft"
    say(f"{where}: {text.rstrip('.')}; see `{where} --help`")
    return WRONG_USAGE


def run() -> None:
    """The entry point of the `lograft` command."""
    replace_closed_streams()
    sys.exit(main(sys.argv[1:]))


if __name__ == "__main__":
    run()
