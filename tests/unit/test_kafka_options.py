"""URLs of Kafka clusters, and what librdkafka's errors become."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from confluent_kafka import KafkaError, KafkaException
from hypothesis import given
from hypothesis import strategies as st

from streamapp.core.batch import TP
from streamapp.errors import (
    BrokerError,
    BrokerUnavailableError,
    ConfigError,
    DeniedError,
    FencedError,
    UnknownTopicError,
)
from streamapp.transport.kafka import KafkaOptions, parse_options
from streamapp.transport.kafka.assignment import generation_of
from streamapp.transport.kafka.failures import Trouble, failure, is_passing
from streamapp.transport.kafka.names import Names
from streamapp.transport.kafka.positions import read_note, write_note


def parse(url: str, **environ: str) -> KafkaOptions:
    return parse_options(urlsplit(url), environ)


def test_servers_alone_have_defaults() -> None:
    assert parse("kafka://a:1,b:2") == KafkaOptions("a:1,b:2")


def test_port_is_kafkas_own_if_none_is_named() -> None:
    """Errors of a connection name it: a server of the URL would look like one of the cluster's."""
    assert parse("kafka://localhost,b:2,[::1]").servers == "localhost:9092,b:2,[::1]:9092"


def test_every_option_of_ours_is_read() -> None:
    url = (
        "kafka://a:1?session_timeout=8s&rebalance_timeout=1m&instance_id=w1&protocol=consumer"
        "&replication=3&prefix=shop.&rdkafka.linger.ms=7"
    )
    expected = KafkaOptions("a:1", 8_000, 60_000, "w1", "consumer", 3, "shop.", {"linger.ms": "7"})
    assert parse(url) == expected


@pytest.mark.parametrize(
    ("query", "protocol", "mechanism"),
    [
        ("tls=true", "SSL", None),
        ("user=me", "SASL_SSL", "PLAIN"),
        ("user=me&tls=false", "SASL_PLAINTEXT", "PLAIN"),
        ("user=me&sasl=scram-sha-512", "SASL_SSL", "SCRAM-SHA-512"),
        ("token=m:f", "SASL_SSL", "OAUTHBEARER"),
        ("sasl=OAUTHBEARER&rdkafka.sasl.oauthbearer.method=oidc", "SASL_SSL", "OAUTHBEARER"),
        ("sasl=GSSAPI&tls=false", "SASL_PLAINTEXT", "GSSAPI"),
    ],
)
def test_security_follows_from_what_is_given(
    query: str, protocol: str, mechanism: str | None
) -> None:
    options = parse(f"kafka://a:1?{query}", STREAMAPP_KAFKA_PASSWORD="hidden")  # noqa: S106 - none
    settings = options.security.settings
    assert settings["security.protocol"] == protocol
    assert settings.get("sasl.mechanisms") == mechanism
    is_checked = settings.get("ssl.endpoint.identification.algorithm") == "https"
    assert is_checked == protocol.endswith("SSL")
    password = options.security.secrets.get("sasl.password")
    assert password == ("hidden" if "user" in query else None)
    assert "hidden" not in repr(options)


def test_secrets_come_from_the_environment_and_other_variables_do_not() -> None:
    environ = {
        "STREAMAPP_KAFKA_SSL_KEY_PASSWORD": "hidden",
        "STREAMAPP_KAFKA_SSL_KEY_PEM": "hidden too",
        "STREAMAPP_KAFKA_PORT": "tcp://10.0.0.1:9092",  # of an orchestrator
    }
    options = parse("kafka://a:1?tls=true", **environ)
    assert options.security.secrets == {
        "ssl.key.password": "hidden",
        "ssl.key.pem": "hidden too",
    }
    assert "hidden" not in repr(options)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("kafka://", "no servers"),
        ("kafka://a:1/topic", "more than servers"),
        ("kafka://a:1,b:99999", "names port 99999; ports end at 65535"),
        ("kafka://a:kafka", "'a:kafka', which is no host:port"),
        ("kafka://me:secret@a:1", "more than servers"),
        ("kafka://a:1?sesion_timeout=5s", "sesion_timeout"),
        ("kafka://a:1?session_timeout=0s", "longer than nothing"),
        ("kafka://a:1?session_timeout=soon", "soon"),
        ("kafka://a:1?protocol=eager", "classic, consumer"),
        ("kafka://a:1?replication=many", "many"),
        ("kafka://a:1?rdkafka.isolation.level=read_uncommitted", "guarantees"),
        ("kafka://a:1?rdkafka.sasl.password=x", "environment"),
        ("kafka://a:1?rdkafka.ssl.key.pem=x", "environment"),
        ("kafka://a:1?user=me", "STREAMAPP_KAFKA_PASSWORD is not set"),
        ("kafka://a:1?sasl=SCRAM-SHA-512", "needs user=NAME"),
        ("kafka://a:1?sasl=SCRAM", "'SCRAM': it is one of PLAIN, SCRAM-SHA-256"),
        ("kafka://a:1?sasl=OAUTHBEARER", "token=MODULE:FUNCTION"),
        ("kafka://a:1?sasl=PLAIN&user=me&token=m:f", "no use for a token"),
        ("kafka://a:1?tls=perhaps", "true or false"),
    ],
)
def test_what_is_wrong_is_named_and_no_secret_is(url: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why) as caught:
        parse(url)
    assert "secret" not in caught.value.message.replace("holds a secret", "")


@given(st.sampled_from(["", "p.", "__"]), st.sampled_from(["t", "__x", "p.t", ""]))
def test_names_come_back_as_they_went(prefix: str, name: str) -> None:
    names = Names(prefix)
    theirs = names.theirs(name)
    assert names.ours(theirs) == (None if theirs.startswith("__") else name)
    assert names.tp(names.place(TP(name, 3))) == TP(name, 3)


@given(st.sampled_from(["", "w"]), st.sampled_from(["", "x", "a\nb", "\n"]))
def test_notes_carry_their_owner(owner: str, note: str) -> None:
    assert read_note(write_note(owner, note)) == (owner, note)


def test_note_of_another_tool_has_no_owner() -> None:
    assert read_note("theirs") == ("", "theirs")
    assert read_note(None) == ("", "")


def test_generation_is_read_from_the_metadata_or_refused() -> None:
    assert generation_of(b"CGMDv2:\x07\x01\x00\x00g\x00") == 263
    for unknown in (b"", b"CGMDv3:\x01\x00\x00\x00", b"CGMDv2:\x01", None):
        with pytest.raises(BrokerError, match="metadata"):
            generation_of(unknown)


@pytest.mark.parametrize(
    ("code", "kind", "hint"),
    [
        (KafkaError.UNKNOWN_MEMBER_ID, FencedError, "joins again"),
        (KafkaError.INVALID_PRODUCER_EPOCH, FencedError, "joins again"),
        (KafkaError.UNKNOWN_TOPIC_OR_PART, UnknownTopicError, "Create"),
        (KafkaError._AUTHENTICATION, BrokerUnavailableError, "STREAMAPP_KAFKA_PASSWORD"),
        (KafkaError.GROUP_AUTHORIZATION_FAILED, DeniedError, "rights"),
        (KafkaError.UNSUPPORTED_VERSION, BrokerError, "newer"),
        (KafkaError.POLICY_VIOLATION, BrokerError, ""),
    ],
)
def test_errors_say_whose_fault_they_are(code: int, kind: type, hint: str) -> None:
    raised = failure(KafkaException(KafkaError(code)), "a thing")
    assert type(raised) is kind
    assert "a thing" in raised.message
    assert hint in raised.hint


@pytest.mark.parametrize(
    ("seen", "hint"),
    [
        ([(KafkaError._TRANSPORT, "a:1/bootstrap: Connect failed")], "Does a broker listen"),
        ([(KafkaError._TRANSPORT, "inner:9/1: Connect failed")], "advertised.listeners"),
        ([(KafkaError._RESOLVE, "inner:9/1: Failed to resolve")], "advertised.listeners"),
        ([(KafkaError._RESOLVE, "a:1/bootstrap: Failed to resolve")], "host name"),
        (
            [
                (KafkaError._AUTHENTICATION, "sasl_ssl://a:1/bootstrap: refused"),
                (KafkaError._TRANSPORT, "a:1/bootstrap: Disconnected"),
                (KafkaError._ALL_BROKERS_DOWN, "1/1 brokers are down"),
            ],
            "STREAMAPP_KAFKA_PASSWORD",
        ),
    ],
)
def test_time_out_is_explained_by_what_came_before(seen: list[tuple[int, str]], hint: str) -> None:
    trouble = Trouble("a:1")
    for code, text in seen:
        trouble.note(KafkaError(code, text))
    raised = failure(KafkaError(KafkaError._TIMED_OUT), "asking", trouble)
    assert isinstance(raised, BrokerUnavailableError)
    assert hint in raised.hint


def test_what_passes_by_itself_is_asked_for_again() -> None:
    code = KafkaError.INVALID_REPLICATION_FACTOR
    late = "Unable to replicate the partition 1 time(s): All brokers are currently fenced."
    assert is_passing(KafkaException(KafkaError(code, late)))
    assert not is_passing(KafkaException(KafkaError(code, "larger than available brokers: 1")))
    assert is_passing(KafkaException(KafkaError(KafkaError.COORDINATOR_LOAD_IN_PROGRESS)))


def test_reason_of_a_silence_is_the_last_one_if_it_is_recent() -> None:
    trouble = Trouble("a:1")
    assert not trouble.of_last(60)
    trouble.note(KafkaError(KafkaError._TRANSPORT, "a:1: refused (after 3ms in state CONNECT)"))
    assert trouble.of_last(60) == "a:1: refused"
    assert not trouble.of_last(0)


def test_foreign_program_in_the_group_is_named() -> None:
    error = KafkaError(KafkaError.INCONSISTENT_GROUP_PROTOCOL, "JoinGroup failed")
    assert "Another program" in failure(error, "reading").hint
