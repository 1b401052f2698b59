"""From librdkafka's errors to ours: whose fault, what, where, and what to do next."""

from __future__ import annotations

import logging
import re
import time
from typing import TYPE_CHECKING, TypeVar

from confluent_kafka import KafkaError, KafkaException

from streamapp.errors import (
    BrokerError,
    BrokerUnavailableError,
    ConfigError,
    DeniedError,
    FencedError,
    RefusedError,
    TooLargeError,
    UnknownTopicError,
)
from streamapp.transport.kafka.diagnosis import HOST, diagnose

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from streamapp.errors import StreamappError

log = logging.getLogger(__name__)
_T = TypeVar("_T")

#: Seconds that a call to the cluster may take before it counts as unreachable.
CALL_S = 15.0
#: Seconds between two tries of a call.
_LOOK_S = 0.02

#: The group or the transaction coordinator went on without this member.
FENCES = frozenset(
    {
        KafkaError.UNKNOWN_MEMBER_ID,
        KafkaError.ILLEGAL_GENERATION,
        KafkaError.FENCED_INSTANCE_ID,
        KafkaError.FENCED_MEMBER_EPOCH,
        KafkaError.STALE_MEMBER_EPOCH,
        KafkaError.PRODUCER_FENCED,
        KafkaError.INVALID_PRODUCER_EPOCH,
        KafkaError.INVALID_PRODUCER_ID_MAPPING,
        KafkaError.TRANSACTION_COORDINATOR_FENCED,
        KafkaError._FENCED,  # noqa: SLF001 - its public name
    }
)

_CREDENTIALS = "Check the user, the password (STREAMAPP_KAFKA_PASSWORD), sasl= and tls="
_ACL = "Give the principal of this worker the rights of docs/kafka.md, or another principal"
_VERSION = "Kafka 2.5 or newer is needed: transactions are fenced by the group since then"
_LARGE = "Raise max.message.bytes of the topic (and rdkafka.message.max.bytes), or send less"
_REFUSED = "Has it a key (compacted topics want one), and a time that the topic takes?"
_GROUP = (
    "Another program reads in this group, or workers with another protocol=: give the application "
    "a name of its own, or end those"
)
_DOWN = "Does a broker listen there, and may this host reach it?"

#: What an error is to the user, by librdkafka's code.
_KINDS: dict[int, tuple[type[StreamappError], str]] = {
    KafkaError._AUTHENTICATION: (BrokerUnavailableError, _CREDENTIALS),  # noqa: SLF001
    KafkaError.SASL_AUTHENTICATION_FAILED: (BrokerUnavailableError, _CREDENTIALS),
    KafkaError.UNSUPPORTED_SASL_MECHANISM: (BrokerUnavailableError, _CREDENTIALS),
    KafkaError._SSL: (  # noqa: SLF001
        BrokerUnavailableError,
        "Check the certificates (rdkafka.ssl.ca.location=FILE) and the host name in the URL",
    ),
    KafkaError.TOPIC_AUTHORIZATION_FAILED: (DeniedError, _ACL),
    KafkaError.GROUP_AUTHORIZATION_FAILED: (DeniedError, _ACL),
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: (DeniedError, _ACL),
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: (DeniedError, _ACL),
    KafkaError.UNSUPPORTED_VERSION: (BrokerError, _VERSION),
    KafkaError._UNSUPPORTED_FEATURE: (BrokerError, _VERSION),  # noqa: SLF001
    KafkaError.MSG_SIZE_TOO_LARGE: (TooLargeError, _LARGE),
    KafkaError.RECORD_LIST_TOO_LARGE: (TooLargeError, _LARGE),
    KafkaError.INCONSISTENT_GROUP_PROTOCOL: (BrokerError, _GROUP),
    KafkaError.INVALID_RECORD: (RefusedError, _REFUSED),
    KafkaError.INVALID_TIMESTAMP: (RefusedError, _REFUSED),
    KafkaError.UNKNOWN_TOPIC_OR_PART: (UnknownTopicError, "Create the topic first"),
    KafkaError._UNKNOWN_TOPIC: (UnknownTopicError, "Create the topic first"),  # noqa: SLF001
    KafkaError._UNKNOWN_PARTITION: (UnknownTopicError, "Create the topic first"),  # noqa: SLF001
    KafkaError._INVALID_ARG: (ConfigError, "Look at the options of the broker's URL"),  # noqa: SLF001
    KafkaError.INVALID_REPLICATION_FACTOR: (ConfigError, "Set replication= in the broker's URL"),
    KafkaError.INVALID_SESSION_TIMEOUT: (
        ConfigError,
        "Set session_timeout= within the broker's group.min/max.session.timeout.ms",
    ),
    KafkaError._TRANSPORT: (BrokerUnavailableError, _DOWN),  # noqa: SLF001
    KafkaError._ALL_BROKERS_DOWN: (BrokerUnavailableError, _DOWN),  # noqa: SLF001
    KafkaError._TIMED_OUT: (BrokerUnavailableError, _DOWN),  # noqa: SLF001
    KafkaError._RESOLVE: (BrokerUnavailableError, "The host name is unknown: look at the URL"),  # noqa: SLF001
}
#: What passes by itself in seconds: leaders and coordinators move.
_MOVING = frozenset(
    {
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.OFFSET_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.UNSTABLE_OFFSET_COMMIT,
        KafkaError._TRANSPORT,  # noqa: SLF001 - its public name
        KafkaError._NOENT,  # noqa: SLF001 - "No leaders found", right after a broker has come back
        KafkaError._DESTROY_BROKER,  # noqa: SLF001 - a connection of before the first answer is gone
    }
)
#: Said of a cluster whose brokers are all late with their heartbeats, by an error that has other
#: and lasting reasons too.
_FENCED = "brokers are currently fenced"
#: Said when the one broker of several that was to be asked has died; the next time it is another.
_UNREACHED = "waiting for controller"
_FENCE_HINT = "Drop the state of those partitions; the member joins again"
#: Reasons that say more than those that follow from them.
_ROOT_CAUSES = frozenset(
    {KafkaError._AUTHENTICATION, KafkaError._SSL, KafkaError._RESOLVE}  # noqa: SLF001
)
_FINAL = _ROOT_CAUSES - {KafkaError._RESOLVE}  # noqa: SLF001 - its public name
#: What librdkafka adds about itself: ``(after 3ms in state CONNECT, 4 identical error(s) ...)``.
_ASIDE = re.compile(r" \(after \d+ms in state (?:[^()]|\(s\))*\)")


class Trouble:
    """Remembers why brokers cannot be reached: time-outs alone do not tell.

    Called by librdkafka for every client, from the threads that use them.
    """

    def __init__(self, servers: str) -> None:
        self._servers = frozenset(servers.split(","))
        self._last: KafkaError | None = None
        self._noted_at = 0.0

    def of_last(self, seconds: float) -> str:
        """Return the reason, if there was a failure so recently; empty if there was none."""
        is_recent = time.monotonic() - self._noted_at < seconds
        return _ASIDE.sub("", self._last.str()) if self._last is not None and is_recent else ""

    @property
    def is_known(self) -> bool:
        """Whether any broker has given a reason."""
        return self._last is not None

    @property
    def is_final(self) -> bool:
        """Whether the reason is one that no waiting removes."""
        return self._last is not None and self._last.code() in _FINAL

    def note(self, error: KafkaError) -> None:
        """Remember an error of a connection, the cause rather than what follows from it."""
        log.debug("librdkafka: %s", error.str())
        self._noted_at = time.monotonic()
        last = self._last
        is_cause = error.code() in _ROOT_CAUSES
        is_news = error.code() != KafkaError._ALL_BROKERS_DOWN  # noqa: SLF001 - its public name
        if last is None or is_cause or (is_news and last.code() not in _ROOT_CAUSES):
            self._last = error

    def note_token(self, reason: str) -> None:
        """Remember why there is no token."""
        self._last = KafkaError(KafkaError._AUTHENTICATION, reason)  # noqa: SLF001 - its public name

    def explain(self, error: KafkaError) -> tuple[KafkaError, str]:
        """Return the cause behind a failure, and a hint if addresses are to blame."""
        code = error.code()
        if self._last is None or _KINDS.get(code, (BrokerError, ""))[1] is not _DOWN:
            return error, ""
        host = HOST.search(self._last.str())
        is_foreign = host is not None and host[1] not in self._servers
        if is_foreign and self._last.code() not in _FINAL:
            return self._last, (
                "The cluster names this address itself: its advertised.listeners must name one "
                "that this host can reach"
            )
        return self._last, ""

    def look_into(
        self, failed: BrokerUnavailableError, settings: Mapping[str, object]
    ) -> BrokerUnavailableError:
        """Return the failure of a first connection, better explained where that is possible."""
        found = self._last and diagnose(self._last, ",".join(self._servers), settings)
        if not found:
            return failed
        return BrokerUnavailableError(f"Kafka: {found[0]}", hint=found[1])


def failure(
    problem: KafkaError | KafkaException | Exception, doing: str, trouble: Trouble | None = None
) -> StreamappError:
    """Return what to raise when ``doing`` failed."""
    error = error_of(problem)
    if error is None:
        return BrokerError(f"Kafka: {doing} failed: {problem}")
    cause, hint = (error, "") if trouble is None else trouble.explain(error)
    if error.code() in FENCES:
        return FencedError(f"Kafka: {doing} was refused: {cause.str()}", hint=_FENCE_HINT)
    kind, kinds_hint = _KINDS.get(cause.code(), (BrokerError, ""))
    reason = _ASIDE.sub("", cause.str())
    return kind(f"Kafka: {doing} failed: {reason}", hint=hint or kinds_hint)


def is_passing(problem: object) -> bool:
    """Tell whether the same question may be answered in a moment."""
    error = error_of(problem)
    if error is None:
        return False
    return error.code() in _MOVING or any(text in error.str() for text in (_FENCED, _UNREACHED))


def patiently(ask: Callable[[], _T], doing: str, trouble: Trouble) -> _T:
    """Ask the cluster, again while leaders and coordinators move.

    Raises:
        BrokerError: It refused, cannot be reached, or is still moving after 15 s.
    """
    deadline = time.monotonic() + CALL_S
    while True:
        try:
            return ask()
        except (KafkaException, TimeoutError) as exc:
            if not is_passing(exc) or time.monotonic() > deadline:
                raise failure(exc, doing, trouble) from exc
            time.sleep(_LOOK_S)


def error_of(problem: object) -> KafkaError | None:
    """Return librdkafka's error in an exception of its binding, or of waiting for an answer."""
    if isinstance(problem, KafkaException) and problem.args:
        problem = problem.args[0]
    elif isinstance(problem, TimeoutError):
        return KafkaError(KafkaError._TIMED_OUT)  # noqa: SLF001 - its public name
    return problem if isinstance(problem, KafkaError) else None
