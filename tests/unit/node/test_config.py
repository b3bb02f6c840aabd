from __future__ import annotations

from pathlib import Path

import pytest
from lograft.node.config import ENVIRONMENT_PREFIX, BrokerConfig, host_and_port, load_config
from lograft.node.groups.rules import GroupsLimits
from lograft.node.node import groups_limits
from lograft.partitions.environment import ReplicaConfig
from lograft.proto.errors import InvalidConfig

CONFIGS = Path(__file__).parents[3] / "cluster-configs"
MINIMAL = ("broker.id=1", "broker.data_directory=d")
SECRET = "sixteen bytes, at least"


def loaded(*sets: str, toml: Path | None = None, **environ: str) -> BrokerConfig:
    return load_config(toml, {ENVIRONMENT_PREFIX + name: value for name, value in environ.items()}, [*MINIMAL, *sets])


def refusal(*sets: str, toml: Path | None = None, **environ: str) -> str:
    with pytest.raises(InvalidConfig) as refused:
        loaded(*sets, toml=toml, **environ)
    line = str(refused.value)
    assert "\n" not in line, "one line"
    return line


def a_file(directory: Path, text: str) -> Path:
    path = directory / "broker.toml"
    path.write_text(text)
    return path


def test_single_broker_example_loads_and_stands_alone() -> None:
    config = load_config(CONFIGS / "single.toml", {})
    assert config.cluster.peers == {0: "127.0.0.1:9601"} and config.is_initial_voter
    assert config.replica == ReplicaConfig()


@pytest.mark.parametrize("broker_id", [0, 1, 2])
def test_three_broker_example_loads_for_each_of_its_brokers(broker_id: int) -> None:
    listen = {"grpc": 0, "peer": 1, "http": 2}
    config = load_config(
        CONFIGS / "local-3.toml",
        {"LOGRAFT_CLUSTER__SECRET": SECRET},
        [f"broker.id={broker_id}", *(f"listen.{name}=127.0.0.1:96{broker_id}{port}" for name, port in listen.items())],
    )
    assert config.cluster.peers == {0: "127.0.0.1:9601", 1: "127.0.0.1:9611", 2: "127.0.0.1:9621"}
    assert config.advertise.peer == config.cluster.peers[broker_id] == config.listen.peer
    assert config.cluster.secret == SECRET and SECRET not in repr(config)


def test_file_gives_way_to_the_environment_and_that_to_the_command_line(tmp_path: Path) -> None:
    toml = a_file(tmp_path, "[limits]\npartitions_max = 1\nfetch_wait_ms_max = 1\nbatch_bytes_max = 1000\n")
    config = loaded("limits.partitions_max=3", toml=toml, LIMITS__PARTITIONS_MAX="2", LIMITS__FETCH_WAIT_MS_MAX="2")
    limits = config.limits
    assert (limits.partitions_max, limits.fetch_wait_ms_max, limits.batch_bytes_max) == (3, 2, 1000)


def test_variables_without_a_section_are_the_command_lines() -> None:
    assert load_config(None, {"LOGRAFT_BROKERS": "a:1", "HOME": "/", "OTHER__KEY": "1"}, MINIMAL).broker.id == 1


@pytest.mark.parametrize(
    ("setting", "line"),
    [
        ("broker.idd=1", "--set: unknown key broker.idd; did you mean broker.id?"),
        ("limts.partitions_max=1", "--set: unknown key limts.partitions_max; did you mean limits.partitions_max?"),
        ("data_directory=x", "--set: unknown key data_directory; did you mean broker.data_directory?"),
        ("zzz.qqq=x", "--set: unknown key zzz.qqq; sections are broker, listen, advertise, cluster, replica"),
        ("broker=1", "--set: broker is a section; name a key in it: id, data_directory, rack"),
        ("broker.id.x=1", "--set: broker.id.x: broker.id is one value, not a table"),
        ("broker.id", "--set broker.id: expected section.key=value"),
        ("broker.id=one", "--set: broker.id = 'one': expected int, got str"),
        ("broker.id=-1", "--set: broker.id = '-1': expected int >= 0"),
        ("broker.data_directory=", "--set: broker.data_directory = '': expected str of length >= 1"),
        ("log.level=loud", "--set: log.level = 'loud': invalid enum value 'loud'"),
        ("listen.grpc=9600", "--set: listen.grpc = '9600': expected host:port"),
        ("listen.grpc=a:0", "--set: listen.grpc = 'a:0': the port must be from 1 to 65535"),
        ("listen.grpc=::1:9600", "--set: listen.grpc = '::1:9600': write an IPv6 address as [address]:port"),
        ("listen.http=127.0.0.1:9600", "--set: listen.http = '127.0.0.1:9600': listen.grpc is the same"),
        ("listen.kafka=127.0.0.1:9600", "--set: listen.kafka = '127.0.0.1:9600': listen.grpc is the same"),
        ("advertise.kafka=a:1", "--set: advertise.kafka = 'a:1': listen.kafka is not set, so nobody would answer"),
        ("kafka.auto_create_partitions=0", "--set: kafka.auto_create_partitions = '0': expected int >= 1"),
        (
            "advertise.grpc=0.0.0.0:1",
            "--set: advertise.grpc = '0.0.0.0:1': others cannot connect to a wildcard address",
        ),
        ("cluster.peers.x=a:1", "--set: cluster.peers.x = 'x': a peer is named by its broker id, a number"),
        ("cluster.peers.2=a", "--set: cluster.peers.2 = 'a': expected host:port"),
        ("cluster.peers=1=a:9601,2=a:9601", "--set: cluster.peers.2 = 'a:9601': broker 1 has this address"),
        ("cluster.peers=1=a:9601,2=b:9601", "cluster.secret is not set, and cluster.peers names other brokers"),
        ("cluster.peers=1=a:1", "cluster.peers.1 says a:1; set advertise.peer too"),
        ("cluster.secret=short", "--set: cluster.secret = ...: a secret has at least 16 bytes, this one 5"),
        ("cluster.secret_file=/no/such", "--set: cluster.secret_file = '/no/such': no such file or directory"),
        ("replica.mark_interval_ms=0", "--set: replica.mark_interval_ms = 0: must be above zero"),
        ("replica.memory_flush_ms=501", "must not be above 500, for replica.election_timeout_ms"),
        ("replica.memory_flush_bytes=67108865", "must not be above 67108864, for replica.memory_unsynced_bytes_max"),
        ("replica.election_timeout_ms=150", "two of them must be shorter than replica.election_timeout_ms (150)"),
        ("limits.batch_bytes_max=16777216", "--set: limits.batch_bytes_max = 16777216: must not be above"),
        ("disk.produce_stop_free_bytes=1", "must be below disk.produce_stop_free_bytes (1): produce stops first"),
        ("peer.reconnect_ms_min=2000", "must not be above 1000, for peer.reconnect_ms_max"),
    ],
)
def test_wrong_setting_is_one_line_with_source_key_value_and_reason(setting: str, line: str) -> None:
    assert line in refusal(setting)


def test_file_and_variable_are_named_when_they_are_wrong(tmp_path: Path) -> None:
    toml = a_file(tmp_path, "[limits]\npartitions_max = '7'\n")
    assert refusal(toml=toml) == f"{toml}: limits.partitions_max = '7': expected int, got str"
    assert refusal(DISK__PRODUCE_STOP_FREE_BYTE="1") == (
        "LOGRAFT_DISK__PRODUCE_STOP_FREE_BYTE: unknown key disk.produce_stop_free_byte; "
        "did you mean disk.produce_stop_free_bytes?"
    )
    assert refusal(LIMITS__PARTITIONS_MAX="many").startswith("LOGRAFT_LIMITS__PARTITIONS_MAX: limits.partitions_max")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[broker\n", "no valid TOML"),
        ("[brokr]\nid = 1\n", "unknown key brokr.id; did you mean broker.id?"),
        ("[brokr]\n", "unknown key brokr; did you mean broker?"),
        ("broker = 1\n", "expected a section, [broker]"),
        ("id = 1\n", "unknown key id; did you mean broker.id?"),
        ("[broker.id]\nx = 1\n", "expected int, got object"),
        ("[cluster]\npeers = [1]\n", "expected a table of broker id to host:port"),
        ("[cluster.peers]\n1 = 9601\n", "expected str, got int"),
        ("[cluster.peers.1]\nx = 1\n", "expected str, got object"),
    ],
)
def test_wrong_file_is_one_line_that_names_it(tmp_path: Path, text: str, reason: str) -> None:
    toml = a_file(tmp_path, text)
    line = refusal(toml=toml)
    assert line.startswith(f"{toml}: ") and reason in line


def test_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    assert refusal(toml=tmp_path / "absent.toml").endswith("absent.toml: no such file or directory")
    assert refusal(toml=tmp_path).endswith("is a directory")
    (tmp_path / "latin.toml").write_bytes(b"[broker]\nrack = '\xff'\n")
    assert refusal(toml=tmp_path / "latin.toml").endswith("not UTF-8 text")


def test_nothing_of_the_secret_is_shown_when_it_is_wrong(tmp_path: Path) -> None:
    for line in (
        refusal("cluster.secret=hunter2"),
        refusal(CLUSTER__SECRET="hunter2"),
        refusal(toml=a_file(tmp_path, "[cluster]\nsecret = ['hunter2']\n")),
    ):
        assert "hunter2" not in line


def test_what_is_needed_is_said_in_every_way_to_give_it() -> None:
    with pytest.raises(InvalidConfig) as refused:
        load_config(None, {}, [])
    assert str(refused.value) == (
        "broker.id is not set; set it in the file, as LOGRAFT_BROKER__ID or with --set broker.id=..."
    )


def test_secret_is_read_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text(f"{SECRET}\n")
    assert loaded(f"cluster.secret_file={path}").cluster.secret == SECRET
    assert "keep one of them" in refusal(f"cluster.secret_file={path}", f"cluster.secret={SECRET}")


def test_advertised_addresses_follow_from_what_is_listened_on() -> None:
    config = loaded("listen.grpc=0.0.0.0:7000", "listen.http=10.0.0.1:7002", "advertise.peer=outside:1")
    host, port = host_and_port(config.advertise.grpc)
    assert host not in ("0.0.0.0", "") and port == 7000
    assert (config.advertise.http, config.advertise.peer) == ("10.0.0.1:7002", "outside:1")


def test_there_is_a_door_for_kafka_clients_only_if_it_is_asked_for() -> None:
    assert (loaded().listen.kafka, loaded().advertise.kafka) == ("", "")
    assert loaded("listen.kafka=10.0.0.1:9092").advertise.kafka == "10.0.0.1:9092"
    assert loaded("listen.kafka=0.0.0.0:9092", "advertise.kafka=out:1").advertise.kafka == "out:1"


def test_broker_not_among_the_initial_voters_joins_them() -> None:
    config = loaded("broker.id=7", "cluster.peers=1=a:1,2=b:1", f"cluster.secret={SECRET}")
    assert not config.is_initial_voter and config.cluster.peers == {1: "a:1", 2: "b:1"}


def test_one_peer_can_be_changed_alone(tmp_path: Path) -> None:
    toml = a_file(tmp_path, f"[cluster]\nsecret = '{SECRET}'\n[cluster.peers]\n1 = '127.0.0.1:9601'\n2 = 'b:1'\n")
    assert loaded(toml=toml, CLUSTER__PEERS__2="c:1").cluster.peers == {1: "127.0.0.1:9601", 2: "c:1"}
    assert loaded("cluster.peers=3=d:1", toml=toml).cluster.peers == {3: "d:1"}


def test_ipv6_addresses_have_brackets() -> None:
    assert host_and_port("[::1]:9600") == ("::1", 9600)


def test_groups_are_configured_as_coordinators_take_it() -> None:
    config = loaded("groups.members_max=5", GROUPS__SESSION_MS_MAX="60000")
    limits = groups_limits(config.groups)
    assert (limits.members_max, limits.session_ms_max) == (5, 60_000)
    assert groups_limits(loaded().groups) == GroupsLimits(), "both say the same where nothing is set"


@pytest.mark.parametrize(
    "wrong",
    [
        "groups.offsets_partitions=0",
        "groups.offsets_partitions=65",
        "groups.session_ms_min=2000000",
        "groups.metadata_bytes_max=100000",
        "groups.settle_ms=-1",
    ],
)
def test_what_groups_cannot_have_is_named(wrong: str) -> None:
    assert wrong.partition("=")[0] in refusal(wrong)


@pytest.mark.parametrize(("given", "kept"), [("true", "yes"), ("false", "no"), ('"yes"', "yes"), ('"auto"', "auto")])
def test_a_switch_of_the_console_is_also_true_or_false(tmp_path: Path, given: str, kept: str) -> None:
    toml = a_file(tmp_path, f"[console]\nenabled = {given}\nread_only = {given}\n")
    console = loaded(toml=toml).console
    assert (console.enabled, console.read_only) == (kept, kept)
    bare = given.strip('"')
    assert loaded(f"console.enabled={bare}").console.enabled == kept
    assert loaded(CONSOLE__ENABLED=bare).console.enabled == kept


def test_a_switch_of_the_console_is_nothing_else(tmp_path: Path) -> None:
    for wrong in ('"maybe"', "1", '"True or so"'):
        assert "console.enabled" in refusal(toml=a_file(tmp_path, f"[console]\nenabled = {wrong}\n"))
    assert "console.enabled" in refusal("console.enabled=1")
