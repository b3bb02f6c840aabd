"""The table of contents of the command line: every command, in the order in which it is needed.

A command is written in the module that is named here, and listed nowhere else.
"""

from __future__ import annotations

from .lazy_commands import Command, Group

_TOPIC = Group(
    "topic",
    "Create, list, describe, alter, grow, trim and delete topics.",
    (
        Command("create", "topic_commands:create", "Create a topic."),
        Command("list", "topic_commands:list_topics", "List the topics."),
        Command("describe", "topic_commands:describe", "Show a topic's partitions: leaders, replicas, offsets."),
        Command("alter", "topic_commands:alter", "Change a topic's settings."),
        Command("grow", "topic_commands:grow", "Give a topic more partitions, while records go in and out."),
        Command("trim", "topic_commands:trim", "Forget a topic's oldest records, for good."),
        Command("delete", "topic_commands:delete", "Delete a topic and all its records."),
    ),
)

_GROUP = Group(
    "group",
    "Consumer groups: who reads what, how far behind, and moving them.",
    (
        Command("list", "group_commands:list_groups", "List the consumer groups."),
        Command("describe", "group_commands:describe", "Show who reads what in a group, and how far."),
        Command("seek", "group_commands:seek", "Move a group, also while it reads."),
        Command("delete", "group_commands:delete", "Forget a group that has no members."),
    ),
)

_CLUSTER = Group(
    "cluster",
    "The whole cluster: who is in it, is it well, is it even, and its settings.",
    (
        Command("info", "cluster_commands:info", "Show the brokers of the cluster, its controller and what it holds."),
        Command(
            "health",
            "health_command:health",
            "Say whether the cluster is healthy, and if not, what is wrong; the exit code says it too.",
        ),
        Command(
            "rebalance", "cluster_commands:rebalance", "Have the brokers hold and lead equally much, moving the least."
        ),
        Command(
            "settings",
            "setting_commands:list_settings",
            "List the settings of the whole cluster, with what is in force.",
        ),
        Command("set", "setting_commands:change", "Change a setting of the whole cluster."),
    ),
)

_PARTITION = Group(
    "partition",
    "List partitions, move their replicas, and go on where a majority is lost.",
    (
        Command(
            "list",
            "partition_commands:list_partitions",
            "List partitions: who leads, where the replicas are, and how far a move has come.",
        ),
        Command(
            "move",
            "partition_commands:move",
            "Move a partition's replicas to other brokers, while records go in and out.",
        ),
        Command(
            "recover",
            "recovery_commands:recover",
            "Go on with one replica's log, when the majority of a partition is lost for good.",
        ),
    ),
)

_BROKER = Group(
    "broker",
    "Run one broker in this process, until it is stopped; or, with a command, manage the brokers of a cluster.",
    (
        Command(
            "list",
            "broker_commands:list_brokers",
            "List the brokers: alive or dead, what they lead and hold, and whether they are draining, removed or gone.",
        ),
        Command(
            "add",
            "broker_commands:add",
            "Start one broker more in the local cluster, while it serves, and wait until it has joined.",
        ),
        Command(
            "drain",
            "broker_commands:drain",
            "Hand over all that a broker leads, and have it lead nothing until `undrain`.",
        ),
        Command("undrain", "broker_commands:undrain", "Let a drained broker lead again."),
        Command(
            "remove", "broker_commands:remove", "Place elsewhere what a broker holds, for good; it may be dead already."
        ),
    ),
    home="local_commands:broker",
    alone=True,
)

_CHECK = Group(
    "check",
    "Check what is stored, and what was seen: logs and histories.",
    (
        Command(
            "history",
            "check_commands:history",
            "Judge a history: what applications sent, read, stored and were told, against what a log promises.",
        ),
        Command("log", "check_log:check_log", "Check what stopped brokers have stored, and compare the copies."),
    ),
)

_BENCH = Group(
    "bench",
    "Measure a running cluster: records a second, and how long one takes.",
    (
        Command("produce", "bench_commands:produce", "How many records a second the cluster acknowledges."),
        Command(
            "consume",
            "bench_commands:consume",
            "How many records a second can be read, from the start of the log to its end.",
        ),
        Command(
            "latency",
            "bench_commands:latency",
            "How long a record takes: until it is acknowledged, and until a consumer has it.",
        ),
        Command(
            "mixed", "bench_commands:mixed", "Producers and consumers at once: what both get done beside each other."
        ),
    ),
)

_PROFILE = Group(
    "profile",
    "Clusters by name: where they are, and what you like as defaults.",
    (
        Command(
            "create", "profile_commands:create", "Give a cluster a name, so that commands find it without --brokers."
        ),
        Command("use", "profile_commands:use", "Use a profile from now on, in every terminal."),
        Command("list", "profile_commands:list_profiles", "List the profiles, and which is in use."),
        Command("show", "profile_commands:show", "Show one profile."),
        Command(
            "check",
            "profile_commands:check",
            "Try a profile: each of its addresses, and each that the brokers there tell clients to use.",
        ),
        Command("delete", "profile_commands:delete", "Forget a profile."),
    ),
)

_DEBUG = Group(
    "debug",
    "Gather what somebody elsewhere needs to understand a cluster.",
    (
        Command(
            "bundle",
            "debug_commands:bundle",
            "Pack what helps somebody elsewhere to understand this cluster: one .tar.gz, to be sent or attached to an "
            "issue.",
        ),
    ),
)

_GENERATE = Group(
    "generate",
    "Monitoring: Prometheus' configuration, alerts, Grafana's dashboards.",
    (
        Command("prometheus", "generate_commands:prometheus", "Prometheus' configuration."),
        Command("alerts", "generate_commands:alerts", "Alerting rules for Prometheus."),
        Command("grafana", "generate_commands:grafana", "Grafana's dashboards, as JSON."),
    ),
)

COMMANDS: tuple[Command | Group, ...] = (
    Command("up", "local_commands:up", "Start a cluster on this machine, and wait until it is ready."),
    Command("down", "local_commands:down", "Stop the brokers of the local cluster, and its Prometheus."),
    Command("status", "local_commands:status", "Show the brokers of the local cluster: processes, addresses, health."),
    Command("kill", "local_commands:kill", "Kill a broker the hard way (kill -9), to see the cluster bear it."),
    Command("start", "local_commands:start", "Start a broker that was killed or died, with its data."),
    Command(
        "restart",
        "rolling_restart:restart",
        "Restart brokers of the local cluster without a client losing anything, as for an upgrade of lograft.",
    ),
    Command("produce", "record_commands:produce", "Send the lines of standard input as records."),
    Command(
        "consume",
        "record_commands:consume",
        "Write records to standard output: those that come from now on, or any part of the log.",
    ),
    _TOPIC,
    _GROUP,
    _CLUSTER,
    Command(
        "top",
        "top_command:top",
        "Watch the cluster live: brokers, throughput, topics, how far groups are behind, what is not whole.",
    ),
    _PARTITION,
    _BROKER,
    _CHECK,
    _BENCH,
    _GENERATE,
    _DEBUG,
    _PROFILE,
    Command(
        "completion",
        "completion_command:completion",
        "Print a script with which a shell completes commands, options, and names of topics, groups and profiles.",
    ),
)
