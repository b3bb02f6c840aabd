from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lograft.node.controller.topic_rules import (
    CONFIG_KEYS,
    INTERNAL_SEGMENT_BYTES_MAX,
    TopicLimits,
    TopicSettings,
    check_config,
    check_name,
    check_partitions,
    check_replication,
    check_topic_id,
    internal_settings,
    settings_of,
)
from lograft.proto.errors import (
    InvalidConfig,
    InvalidPartitions,
    InvalidReplication,
    InvalidRequest,
    InvalidTopic,
    LograftError,
    NotAuthorized,
)

LIMITS = TopicLimits()


@pytest.mark.parametrize("name", ["a", "orders", "Orders-2.eu_west", "con", "a" * 249, "...", "_one", "-"])
def test_a_plain_name_is_taken(name: str) -> None:
    check_name(name)


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "a/b", "a\0", "../../etc/x", "a" * 250, "a b", "a\n", "\x1b[31m", "аpple", "a:b", "*", "١"],
)
def test_a_name_that_could_confuse_a_path_a_terminal_or_an_eye_is_refused(name: str) -> None:
    with pytest.raises(InvalidTopic) as refusal:
        check_name(name)
    assert refusal.value.message.isprintable() and len(refusal.value.message) < 400


def test_internal_names_are_for_the_broker_alone() -> None:
    with pytest.raises(NotAuthorized):
        check_name("__offsets")
    check_name("__offsets", internal=True)


@pytest.mark.parametrize(("name", "existing"), [("a.b", "a_b"), ("a_b", "a.b"), ("x.y_z", "x_y.z")])
def test_a_name_that_metrics_could_not_tell_from_an_existing_one_is_refused(name: str, existing: str) -> None:
    with pytest.raises(InvalidTopic, match=existing):
        check_name(name, ["other", existing])


def test_names_that_differ_in_case_are_two_names() -> None:
    check_name("Orders", ["orders", "Orders"])


@pytest.mark.parametrize("topic_id", ["", "1", "g" * 32, "A" * 32, "0" * 31 + "1", "a" * 33, "../" + "a" * 29])
def test_a_topic_id_that_no_client_draws_is_refused(topic_id: str) -> None:
    with pytest.raises(InvalidRequest):
        check_topic_id(topic_id)


def test_partitions_are_bounded_for_a_topic_and_for_the_cluster() -> None:
    check_partitions("t", 1, 0, LIMITS)
    check_partitions("t", 1000, 9000, LIMITS)
    for partitions in (0, -5, 1001, 10**6):
        with pytest.raises(InvalidPartitions, match="1000"):
            check_partitions("t", partitions, 0, LIMITS)
    with pytest.raises(InvalidPartitions, match="10000"):
        check_partitions("t", 2, 9999, LIMITS)


def test_replication_is_at_most_the_number_of_brokers_and_three_by_default() -> None:
    assert check_replication("t", 0, 5, LIMITS) == 3
    assert check_replication("t", 0, 1, LIMITS) == 1
    assert check_replication("t", 5, 5, LIMITS) == 5
    for replication in (-1, 6, 10**6):
        with pytest.raises(InvalidReplication, match="5"):
            check_replication("t", replication, 5, LIMITS)


def test_config_is_kept_in_one_spelling() -> None:
    kept = check_config({"segment.bytes.max": "+01048576", "durability": "fsync"}, LIMITS)
    assert kept == {"durability": "fsync", "segment.bytes.max": "1048576"}
    assert list(kept) == sorted(kept)


def test_an_unknown_setting_is_refused_with_the_nearest_one_that_exists() -> None:
    for name, nearest in [
        ("segment.bytes", "segment.bytes.max"),
        ("durabilty", "durability"),
        ("max.batch.bytes", "batch.bytes.max"),
    ]:
        with pytest.raises(InvalidConfig) as refusal:
            check_config({name: "1"}, LIMITS)
        assert refusal.value.facts["nearest"] == nearest


def test_copies_count_once_they_are_written_only_where_just_that_is_asked_for() -> None:
    assert check_config({"durability": "memory"}, LIMITS) == {"durability": "memory"}
    assert settings_of({"durability": "memory"}, LIMITS).durability == "memory"
    for unread in ({}, {"durability": "fsync"}, {"durability": "of a later version"}):
        assert settings_of(unread, LIMITS).durability == "fsync"
    with pytest.raises(InvalidConfig, match="it must be one of: fsync; memory"):
        check_config({"durability": "ram"}, LIMITS)


def test_internal_topics_are_on_disk_before_they_count_whatever_was_set() -> None:
    assert internal_settings(settings_of({"durability": "memory"}, LIMITS)).durability == "fsync"


@pytest.mark.parametrize("value", ["", "1", "-5", "1e6", "0x100000", "1_000_000", "9" * 5000, "١٠٤٨٥٧٦", "inf"])
def test_a_size_that_is_no_number_or_out_of_bounds_is_refused(value: str) -> None:
    with pytest.raises(InvalidConfig, match=r"segment\.bytes\.max"):
        check_config({"segment.bytes.max": value}, LIMITS)


def test_a_topic_cannot_take_larger_batches_than_its_brokers_or_its_segments() -> None:
    with pytest.raises(InvalidConfig, match=r"limits\.batch_bytes_max"):
        check_config({"batch.bytes.max": str(2 << 20)}, LIMITS)
    with pytest.raises(InvalidConfig, match="would not fit"):
        check_config({"segment.bytes.max": str(64 << 10)}, LIMITS)
    check_config({"segment.bytes.max": str(64 << 10), "batch.bytes.max": str(64 << 10)}, LIMITS)


def test_settings_are_the_brokers_own_where_the_topic_sets_nothing_and_never_larger_batches() -> None:
    assert settings_of({}, LIMITS) == TopicSettings(
        "fsync", 1 << 20, 128 << 20, 604_800_000, -1, -1, 1 << 30, "delete", 86_400_000
    )
    smaller = TopicLimits(batch_bytes_max=1 << 16)
    kept = {"batch.bytes.max": "200000", "segment.bytes.max": "1048576", "of.later": "1"}
    assert settings_of(kept, smaller)[:3] == ("fsync", 1 << 16, 1 << 20)


def test_a_topic_keeps_what_its_brokers_keep_unless_it_says_otherwise() -> None:
    forgetful = TopicLimits(retention_ms=5_000, retention_bytes=1 << 20)
    assert settings_of({}, forgetful)[4:6] == (5_000, 1 << 20)
    assert settings_of({"retention.ms": "-1", "retention.bytes": "7"}, forgetful)[4:6] == (-1, 7)


@pytest.mark.parametrize("name", ["retention.ms", "retention.bytes"])
def test_a_limit_of_retention_is_a_number_above_zero_or_left_open(name: str) -> None:
    for value in ("1", str(2**63 - 1), "-1", "86400000"):
        assert check_config({name: value}, LIMITS) == {name: value}
    for value in ("0", "-2", str(2**63), "9" * 5000, "", "7d", "1.5", "None"):
        with pytest.raises(InvalidConfig, match=r"from 1 to 9223372036854775807, or -1 for no limit"):
            check_config({name: value}, LIMITS)


@pytest.mark.parametrize(
    ("written", "kept", "compacted", "forgets"),
    [
        ("delete", "delete", False, True),
        ("compact", "compact", True, False),
        ("compact,delete", "compact,delete", True, True),
        ("delete, compact", "compact,delete", True, True),
    ],
)
def test_what_becomes_of_old_records_is_said_in_kafkas_words(
    written: str, kept: str, compacted: bool, forgets: bool
) -> None:
    config = check_config({"cleanup.policy": written}, LIMITS)
    assert config == {"cleanup.policy": kept}
    settings = settings_of(config, LIMITS)
    assert (settings.is_compacted, settings.forgets_segments) == (compacted, forgets)


@pytest.mark.parametrize("value", ["", "compacted", "compact,", "delete,delete,x", "COMPACT", "none"])
def test_another_cleanup_policy_is_refused_with_those_there_are(value: str) -> None:
    with pytest.raises(InvalidConfig, match="delete; compact; compact,delete"):
        check_config({"cleanup.policy": value}, LIMITS)
    assert settings_of({"cleanup.policy": value}, LIMITS).cleanup_policy == "delete"


def test_internal_topics_are_compacted_in_small_segments_whatever_was_set() -> None:
    settings = internal_settings(settings_of({"cleanup.policy": "delete"}, LIMITS))
    assert settings.cleanup_policy == "compact" and settings.segment_bytes_max == INTERNAL_SEGMENT_BYTES_MAX
    assert internal_settings(settings_of({"segment.bytes.max": "65536"}, LIMITS)).segment_bytes_max == 65536


def test_a_segment_is_closed_after_a_second_at_the_earliest() -> None:
    assert check_config({"segment.ms": "1000", "retention.follower.bytes": "0"}, LIMITS)
    for config in ({"segment.ms": "999"}, {"segment.ms": "-1"}, {"retention.follower.bytes": "-1"}):
        with pytest.raises(InvalidConfig, match="whole number of"):
            check_config(config, LIMITS)


@given(st.dictionaries(st.sampled_from([*CONFIG_KEYS, "x"]) | st.text(), st.text() | st.integers().map(str)))
def test_any_config_is_either_kept_and_obeyed_or_refused(config: dict[str, str]) -> None:
    try:
        kept = check_config(config, LIMITS)
    except LograftError as refusal:
        assert len(refusal.message) < 1000
    else:
        assert check_config(kept, LIMITS) == kept
        settings_of(kept, LIMITS)
    settings_of(config, LIMITS)
