"""Removes the topics and groups of an application: what a benchmark leaves on a cluster."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from confluent_kafka import KafkaException

from streamapp.transport.kafka.clients import Clients
from streamapp.transport.kafka.failures import CALL_S, failure
from streamapp.transport.kafka.options import parse_options

if TYPE_CHECKING:
    from concurrent.futures import Future


def remove(url: str, name: str) -> list[str]:
    """Delete all topics and groups that have the name in theirs; return the topics.

    Args:
        url: The cluster's, ``kafka://``.
        name: Long enough to be nobody else's.

    Raises:
        BrokerError: The cluster refuses; some may be deleted.
    """
    clients = Clients(parse_options(urlsplit(url), os.environ))
    admin = clients.admin()
    try:
        topics = [topic for topic in admin.list_topics(timeout=CALL_S).topics if name in topic]
        found = admin.list_consumer_groups().result(CALL_S).valid or ()
        groups = [group.group_id for group in found if name in group.group_id]
        doomed: dict[str, Future[None]] = admin.delete_topics(topics) if topics else {}
        for future in doomed.values():
            future.result(CALL_S)
        for future in (admin.delete_consumer_groups(groups) if groups else {}).values():
            # One whose worker was killed has members for some seconds more; it goes with its
            # positions when those are gone.
            with suppress(KafkaException):
                future.result(CALL_S)
    except (KafkaException, TimeoutError) as exc:
        raise failure(exc, f"removing the topics of {name}", clients.trouble) from exc
    return topics
