"""Every name of Faust that we rely on and that its makers may change without notice."""

from __future__ import annotations

import inspect
from importlib import import_module

import pytest

#: module -> dotted attributes; private ones, and public ones that no document promises.
NAMES = {
    "faust.transport.base": ["Transport.Consumer", "Transport.Producer"],
    "faust.transport.consumer": [
        "Consumer._is_changelog_tp",
        "Consumer._getmany",
        "Consumer._to_message",
        "Consumer._commit",
        "Consumer._seek",
        "Consumer._new_topicpartition",
        "Consumer.on_buffer_drop",
        "Consumer.on_partitions_assigned",
        "Consumer.on_partitions_revoked",
        "Consumer.resume_partitions",
        "Consumer.commit",
    ],
    "faust.transport.producer": [
        "Producer.send",
        "ProducerBuffer._send_pending",
        "ProducerBuffer._handle_pending",
        "ProducerBuffer.__post_init__",
    ],
    "faust.assignor.partition_assignor": [
        "PartitionAssignor.on_assignment",
        "PartitionAssignor.version",
        "PartitionAssignor._decompress",
    ],
    "faust.assignor.client_assignment": ["ClientAssignment", "ClientMetadata"],
    "faust.app.base": [
        "App.client_only",
        "App.on_rebalance_start",
        "App.rebalancing",
        "App._on_partitions_revoked",
        "App._on_partitions_assigned",
    ],
    "faust.streams": ["_current_event", "current_event"],
    "faust.app.router": ["Router._route_req"],
    "faust.types.enums": ["ProcessingGuarantee.EXACTLY_ONCE"],
    "faust.exceptions": ["ProducerSendError"],
    "faust.types.tuples": ["ConsumerMessage", "FutureMessage", "RecordMetadata", "TP"],
    "aiokafka.coordinator.protocol": ["ConsumerProtocolMemberAssignment"],
    "mode.utils.times": ["want_seconds"],
}


@pytest.mark.parametrize(
    ("module", "name"), [(module, name) for module, names in NAMES.items() for name in names]
)
def test_name_exists(module: str, name: str) -> None:
    found: object = import_module(module)
    for part in name.split("."):
        found = getattr(found, part)


#: function -> the parameters that we pass or take over, in their order.
SIGNATURES = {
    "faust.transport.consumer:Consumer._getmany": ["self", "active_partitions", "timeout"],
    "faust.transport.consumer:Consumer._to_message": ["self", "tp", "record"],
    "faust.transport.consumer:Consumer._commit": ["self", "offsets"],
    "faust.transport.consumer:Consumer._seek": ["self", "partition", "offset"],
    "faust.transport.consumer:Consumer.on_partitions_assigned": [
        "self",
        "assigned",
        "generation_id",
    ],
    "faust.transport.producer:ProducerBuffer._send_pending": ["self", "fut"],
    "faust.transport.producer:Producer.send": [
        "self",
        "topic",
        "key",
        "value",
        "partition",
        "timestamp",
        "headers",
        "transactional_id",
    ],
}


@pytest.mark.parametrize(("function", "parameters"), SIGNATURES.items())
def test_signature_is_what_we_override(function: str, parameters: list[str]) -> None:
    module, _, name = function.partition(":")
    found: object = import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    assert callable(found)
    assert list(inspect.signature(found).parameters) == parameters


def test_producer_keeps_its_buffer_where_we_replace_it() -> None:
    source = inspect.getsource(import_module("faust.transport.producer").Producer.__init__)
    assert "self.buffer = ProducerBuffer(" in source
    assert "self.buffer.app = self.app" in source


@pytest.mark.parametrize("attribute", ["message_sent", "pending"])
def test_buffer_has_the_queue_that_we_drain(attribute: str) -> None:
    producer = import_module("faust.transport.producer")
    assert hasattr(producer.ProducerBuffer(), attribute)


@pytest.mark.parametrize("attribute", ["_read_offset", "_acked", "_committed_offset"])
def test_consumer_keeps_its_books_where_we_look(attribute: str) -> None:
    assert attribute in import_module("faust.transport.consumer").Consumer.__annotations__
