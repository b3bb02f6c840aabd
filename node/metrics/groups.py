"""Consumer groups. Only the broker that coordinates a group tells of it.

Invariants
    lag is worked out in the background, for all groups at once, never in a scrape
    the series of a group end when it is deleted, or when another broker coordinates it
"""

from __future__ import annotations

from .families import Catalogue


class GroupMeasures:
    """One a broker."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.groups = catalogue.reading("groups", "Groups that this broker coordinates, by state.", "state")
        self.members = catalogue.reading("group_members", "Members of a group. Its coordinator tells.", "group")
        self.rebalances = catalogue.reading(
            "group_rebalances_total", "Times that a group's partitions were shared out anew.", "group"
        )
        self.offset_stores = catalogue.reading(
            "group_offset_stores_total", "Offsets that a group stored, or was refused to.", "group", "result"
        )
        self.lag_records = catalogue.reading(
            "group_lag_records",
            "Records between what a group stored and what is committed, over the topic's partitions. Partitions of "
            "which it stored nothing are left out.",
            "group",
            "topic",
        )
        self.lag_max_records = catalogue.reading(
            "group_lag_max_records", "The same of the partition in which it is most.", "group", "topic"
        )
        self.lag_seconds = catalogue.reading(
            "group_lag_seconds",
            "How old the next unread record is, in the partition where it is oldest, by its leader's clock; 0 if "
            "nothing is unread.",
            "group",
            "topic",
        )
        self.expired_records = catalogue.reading(
            "group_expired_records",
            "Records that were dropped (by retention or a trim) before the group had stored an offset past them.",
            "group",
            "topic",
        )
        self.lag_age = catalogue.reading(
            "group_lag_age_seconds", "Since the lag of the groups coordinated here was last worked out."
        )
