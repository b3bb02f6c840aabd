"""What a broker's process need not import: each restart pays for it."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import runpy, sys
sys.argv = ["lograft.node", "--help"]
try:
    runpy.run_module("lograft.node", run_name="__main__")
except SystemExit:
    pass
print(*(name for name, module in sys.modules.items() if module is not None), file=sys.stderr)
"""


def test_a_broker_starts_without_what_only_a_terminal_needs() -> None:
    told = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True).stderr.split()
    assert "lograft.node.node" in told
    assert not [name for name in told if name.split(".")[0] in ("rich", "pygments", "typer", "aiokafka")]


def test_a_broker_tells_a_traceback_without_colours_and_boxes() -> None:
    code = (
        "import runpy; runpy.run_module('lograft.node')\n"
        "import structlog; from lograft.node.logs import set_up_logging\n"
        "set_up_logging(form='human')\n"
        "try:\n    1 / 0\nexcept ZeroDivisionError:\n    structlog.get_logger().exception('failed')"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stderr
    assert "Traceback (most recent call last)" in told
    assert "ZeroDivisionError: division by zero" in told


def test_a_broker_with_a_door_for_kafka_clients_starts_without_what_only_tests_need() -> None:
    code = (
        "import sys; from lograft.node import __main__ as program\n"
        "async def serve(config, loop_kind):\n"
        "    import lograft.node.kafka.service\n"
        "    return 0\n"
        "program._serve = serve\n"
        "assert program.main(['--set', 'broker.id=0', '--set', 'broker.data_directory=d']) == 0\n"
        "print(*(name for name, module in sys.modules.items() if module is not None))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "kio.static.primitive" in told
    assert not [name for name in told if name.split(".")[0] in ("hypothesis", "pytest")]
