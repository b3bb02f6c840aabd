"""docs/metrics.md, made of the families themselves, so that it says what there is."""

from __future__ import annotations

from collections.abc import Iterable

from . import Metrics
from .families import Family

BEGINNING = """\
# What a broker measures

Made from the code by `make metrics-doc`; a test keeps it fresh. How to use it is in [operating.md](operating.md).

Every broker serves two pages on its HTTP port (`listen.http`), in Prometheus' text format:

- `/metrics`: the broker, its topics and groups, and the health of the cluster as it sees it;
- `/metrics/partitions`: what there is a series of for each partition. With thousands of partitions, scrape it less
  often than the other page, or not at all.

**Whose word a figure is** decides how to add it up over brokers:

| figure | told by | over all brokers |
|---|---|---|
| requests, traffic, storage, disk, process | each broker, of itself | `sum` |
| `lograft_under_replicated_partitions`, `lograft_at_min_quorum_partitions`, `lograft_partition_moves_active`, \
`lograft_copies*` | leaders, of what they lead | `sum` |
| `lograft_leaderless_partitions` | each broker, its own view of the whole cluster | `max` |
| `lograft_brokers_registered`, `lograft_brokers_up` | each broker, its own view | `max`, `min` |
| `lograft_controller_active` | each broker, of itself | `sum`: it must be 1 |
| `lograft_group_*` | the coordinator of the group alone | `max`, or none |

So a dead broker shows in `lograft_brokers_up` of the others, and a partition that lost its majority in
`lograft_leaderless_partitions` of all that are left; neither needs a controller. A partition without a leader is in no
leader's figures: alerts need both kinds.

Health is looked at each second, the lag of groups each 5 s; where there is so much that this would take more than a
hundredth of a core or so, more rarely (`lograft_group_lag_age_seconds` says how old the lag is). Nothing of it is
worked out in a scrape. Counters begin at zero with each start of a broker. The series of a topic or group end when it
is deleted, those of a group also when another broker coordinates it.

What a scrape and the recording of a batch cost is in [performance.md](performance.md).
"""

ENDING = """
On `/metrics` there are also `process_*`, `python_gc_*` and `python_info`: memory, CPU, open files, and what Python's
garbage collector did, as prometheus_client tells them.
"""


def reference() -> str:
    """The whole document."""
    metrics = Metrics()
    return "".join(
        (
            BEGINNING,
            "\n## `/metrics`\n\n",
            _table(metrics.page.families),
            ENDING,
            "\n## `/metrics/partitions`\n\n",
            _table(metrics.partitions_page.families),
        )
    )


def _table(families: Iterable[Family]) -> str:
    rows = ["| name | type | labels | meaning |\n", "|---|---|---|---|\n"]
    for family in families:
        labels = ", ".join(family.labels)
        rows.append(f"| `{family.name}` | {family.kind} | {labels} | {family.help_text} |\n")
    return "".join(rows)
