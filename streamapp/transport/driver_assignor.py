"""Tells Faust's assignor who owns what, as if it had assigned it itself.

Recovery asks it for the changelog partitions, the router for the worker of a key. It must never
decide anything: the group has.
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from typing import TYPE_CHECKING, cast

from aiokafka.coordinator.protocol import (  # type: ignore[import-untyped]
    ConsumerProtocolMemberAssignment,
)
from faust.assignor.client_assignment import ClientAssignment, ClientMetadata

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping

    from faust.assignor.partition_assignor import PartitionAssignor
    from faust.types import AppT

    from streamapp.transport.driver_buffers import Partition


def tell_assignor(
    app: AppT, owned: Iterable[Partition], by_url: Mapping[str, Iterable[Partition]]
) -> None:
    """Hand over this worker's partitions and those of the whole group by web address."""
    url = str(app.conf.canonical_url)
    everyone = {**by_url, url: owned}
    changelogs = app.tables.changelog_topics
    actives = _by_topic(owned)
    others = {topic for tps in everyone.values() for topic in _by_topic(tps)} - set(changelogs)
    metadata = ClientMetadata(
        assignment=ClientAssignment(actives=actives, standbys={}),
        url=url,
        changelog_distribution=_distribution(everyone, changelogs),
        external_topic_distribution=_distribution(everyone, others),
        topic_groups=dict.fromkeys(actives, 0),
    )
    assignor = cast("PartitionAssignor", app.assignor)
    assignor.on_assignment(
        ConsumerProtocolMemberAssignment(
            version=assignor.version,
            assignment=list(actives.items()),
            user_data=zlib.compress(metadata.dumps()),
        )
    )


def _distribution(
    by_url: Mapping[str, Iterable[Partition]], topics: Container[str]
) -> dict[str, dict[str, list[int]]]:
    return {url: _by_topic(tp for tp in tps if tp[0] in topics) for url, tps in by_url.items()}


def _by_topic(tps: Iterable[Partition]) -> dict[str, list[int]]:
    partitions: dict[str, list[int]] = defaultdict(list)
    for topic, partition in sorted(tps):
        partitions[topic].append(partition)
    return dict(partitions)
