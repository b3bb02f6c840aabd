"""Keys go where Kafka's clients would send them."""

from __future__ import annotations

import pytest
from aiokafka.partitioner import murmur2 as aiokafkas_murmur2
from hypothesis import given
from hypothesis import strategies as st
from lograft.proto.record_batch import murmur2, partition_for_key


@pytest.mark.parametrize(
    ("key", "hashed"),
    [  # from Kafka's own tests
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_murmur2_is_kafkas(key: bytes, hashed: int) -> None:
    assert murmur2(key) == hashed


@given(st.binary(max_size=300))
def test_murmur2_agrees_with_aiokafka(key: bytes) -> None:
    assert murmur2(key) & 0xFFFFFFFF == aiokafkas_murmur2(key) & 0xFFFFFFFF


@given(key=st.binary(max_size=300), partitions=st.integers(1, 1_000))
def test_a_key_goes_to_the_same_partition_again_and_to_one_that_exists(key: bytes, partitions: int) -> None:
    chosen = partition_for_key(key, partitions)
    assert chosen == partition_for_key(key, partitions) == (murmur2(key) & 0x7FFFFFFF) % partitions
    assert 0 <= chosen < partitions
