"""A real Kafka that wants to know who asks: TLS, SASL and an authorizer, for tests of security.

Each listener is another way in. Whoever comes by ``PLAINTEXT`` (Kafka itself, and the test's own
hands) may do everything; everybody else may do what the test allows. Its certificates are made by
the ``openssl`` command, which comes with the Java that Kafka needs.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    NewTopic,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from support import kafka

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

USER, PASSWORD = "alice", "pass/word+of alice"
#: The principal of the client's certificate.
CERTIFIED = "CN=worker"
#: Listener -> how one talks to it. ``MTLS`` wants a certificate of the client, the certificate of
#: ``MISNAMED`` is of another host, and ``ASTRAY`` tells clients to go where nobody is.
LISTENERS = {
    "TLS": "SSL",
    "MTLS": "SSL",
    "MISNAMED": "SSL",
    "SASL": "SASL_PLAINTEXT",
    "SASLTLS": "SASL_SSL",
    "ASTRAY": "PLAINTEXT",
}
_LOGIN = "org.apache.kafka.common.security"
_ANY = "*"


class Certificates:
    """A certificate authority and what it signed, as PEM files in a folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self._make("ca", "CN=authority")
        self._make("stranger", "CN=another authority")
        self._make("server", "CN=broker", "IP:127.0.0.1,DNS:localhost")
        self._make("misnamed", "CN=broker", "DNS:kafka.example")
        self._make("client", CERTIFIED, "DNS:worker")

    def path(self, name: str) -> Path:
        return self.folder / f"{name}.pem"

    def key(self, name: str) -> Path:
        return self.folder / f"{name}.key"

    def _make(self, name: str, subject: str, names: str = "") -> None:
        signed: tuple[str, ...] = ()
        if names:
            signed = (
                *("-CA", str(self.path("ca")), "-CAkey", str(self.key("ca"))),
                *("-addext", f"subjectAltName={names}"),
                *("-addext", "basicConstraints=critical,CA:FALSE"),
            )
        command = [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-noenc", "-days", "2", "-subj", f"/{subject}"),
            *signed,
            *("-keyout", str(self.key(name)), "-out", str(self.path(name))),
        ]
        subprocess.run(command, check=True, capture_output=True)
        if names:
            both = self.folder / f"{name}.both"
            both.write_bytes(self.key(name).read_bytes() + self.path(name).read_bytes())


class SecureCluster(kafka.Cluster):
    """One node with all of these listeners; ``ports`` has where they are."""

    def __init__(self, folder: Path) -> None:
        self.certificates = Certificates(folder / "certificates")
        self.ports = dict(zip(LISTENERS, kafka.free_ports(len(LISTENERS)), strict=True))
        super().__init__(folder / "nodes")
        self.admin = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})
        for mechanism in (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512):
            info = ScramCredentialInfo(mechanism, 4_096)
            made = UserScramCredentialUpsertion(USER, info, PASSWORD.encode())
            _wait(self.admin.alter_user_scram_credentials([made]).values())

    def _format(self, node: kafka.Node, cluster_id: str) -> None:
        super()._format(node, cluster_id)
        with node.properties.open("a") as properties:
            for name, value in self._secured(node).items():
                properties.write(f"{name}={value}\n")

    def _secured(self, node: kafka.Node) -> dict[str, object]:
        (nowhere,) = kafka.free_ports(1)
        own = {"PLAINTEXT": node.port}
        listeners = {**own, **self.ports, "CONTROLLER": node.controller_port}
        advertised = {**own, **self.ports, "ASTRAY": nowhere}
        protocols = {"CONTROLLER": "PLAINTEXT", "PLAINTEXT": "PLAINTEXT", **LISTENERS}
        settings: dict[str, object] = {
            "listeners": ",".join(f"{n}://127.0.0.1:{port}" for n, port in listeners.items()),
            "advertised.listeners": ",".join(
                f"{name}://127.0.0.1:{port}" for name, port in advertised.items()
            ),
            "listener.security.protocol.map": ",".join(f"{n}:{p}" for n, p in protocols.items()),
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
            "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER",
            "connections.max.reauth.ms": 3_600_000,
        }
        for name, protocol in LISTENERS.items():
            prefix = f"listener.name.{name.lower()}"
            if protocol.endswith("SSL"):
                settings |= self._tls(prefix, "misnamed" if name == "MISNAMED" else "server")
            if protocol.startswith("SASL"):
                settings |= _logins(prefix)
        settings["listener.name.mtls.ssl.client.auth"] = "required"
        settings["listener.name.sasl.sasl.enabled.mechanisms"] = "PLAIN,SCRAM-SHA-512,OAUTHBEARER"
        return settings

    def _tls(self, prefix: str, name: str) -> dict[str, object]:
        return {
            f"{prefix}.ssl.keystore.type": "PEM",
            f"{prefix}.ssl.keystore.location": self.certificates.folder / f"{name}.both",
            f"{prefix}.ssl.truststore.type": "PEM",
            f"{prefix}.ssl.truststore.location": self.certificates.path("ca"),
        }

    def url(self, listener: str, query: str = "") -> str:
        """Return the URL of a listener; TLS trusts the test's authority."""
        parts = [query] if query else []
        if LISTENERS[listener].endswith("SSL"):
            parts.append(f"rdkafka.ssl.ca.location={self.certificates.path('ca')}")
        return f"kafka://127.0.0.1:{self.ports[listener]}?{'&'.join(parts)}"

    def topic(self, name: str, partitions: int, values: Sequence[bytes] = ()) -> None:
        """Make a topic, with records."""
        _wait(self.admin.create_topics([NewTopic(name, partitions, 1)]).values())
        self.write(name, values)

    def write(self, name: str, values: Sequence[bytes]) -> None:
        """Write records, each with its value for a key."""
        producer = Producer({"bootstrap.servers": self.bootstrap, "linger.ms": 1})
        for value in values:
            producer.produce(name, value, value)
        producer.flush()
        producer.close()

    def values(self, name: str, count: int) -> list[bytes]:
        """Return the values of a topic's first records; fails if there are fewer."""
        settings = {"bootstrap.servers": self.bootstrap, "group.id": "hands"}
        with closing(Consumer(settings)) as consumer:
            places = self.admin.list_topics(name, timeout=10).topics[name].partitions
            consumer.assign([TopicPartition(name, part, 0) for part in places])
            found = consumer.consume(count, 20)
        assert len(found) == count, f"{len(found)} of {count}"
        return [message.value() or b"" for message in found]

    def allow(self, principal: str, rights: Iterable[Right]) -> None:
        """Allow these operations, and no others; what stays allowed is so all the time."""
        everything = AclBindingFilter(
            ResourceType.ANY, None, ResourcePatternType.ANY, f"User:{principal}", None,
            AclOperation.ANY, AclPermissionType.ANY,
        )  # fmt: skip
        held = {*self.admin.describe_acls(everything).result(30)}
        wanted = {
            AclBinding(
                kind, name.removesuffix(_ANY),
                ResourcePatternType.PREFIXED if name.endswith(_ANY) and name != _ANY
                else ResourcePatternType.LITERAL,
                f"User:{principal}", "*", operation, AclPermissionType.ALLOW,
            )
            for kind, name, operations in rights
            for operation in operations
        }  # fmt: skip
        if wanted - held:
            _wait(self.admin.create_acls([*(wanted - held)]).values())
        gone = [
            AclBindingFilter(
                acl.restype, acl.name, acl.resource_pattern_type, acl.principal, acl.host,
                acl.operation, acl.permission_type,
            )
            for acl in held - wanted
        ]  # fmt: skip
        if gone:
            _wait(self.admin.delete_acls(gone).values())


def start(folder: Path) -> SecureCluster:
    """Start one; where something for it is missing skip the test, and fail it if ``CI=true``."""
    missing = "" if shutil.which("openssl") else "A Kafka with TLS needs openssl: install it"
    try:
        if not missing:
            return SecureCluster(folder)
    except kafka.MissingError as exc:
        missing = str(exc)
    if os.environ.get("CI") == "true":
        pytest.fail(missing)
    pytest.skip(missing)


#: Resource, its name (with ``*``: a prefix), operations.
Right = tuple[ResourceType, str, tuple[AclOperation, ...]]


def _logins(prefix: str) -> dict[str, object]:
    users = f'user_{USER}="{PASSWORD}"'
    return {
        f"{prefix}.plain.sasl.jaas.config": f"{_LOGIN}.plain.PlainLoginModule required {users};",
        **{
            f"{prefix}.{name}.sasl.jaas.config": f"{_LOGIN}.scram.ScramLoginModule required;"
            for name in ("scram-sha-256", "scram-sha-512")
        },
        f"{prefix}.oauthbearer.sasl.jaas.config": f"{_LOGIN}.oauthbearer.OAuthBearerLoginModule"
        ' required unsecuredLoginStringClaim_sub="kafka";',
    }


def token(user: str, expires_at: float) -> str:
    """Return a token that nobody signed, which Kafka takes unless it is told not to."""
    now = time.time()
    parts: list[object] = [{"alg": "none"}, {"sub": user, "iat": now, "exp": expires_at}]
    encoded = (base64.urlsafe_b64encode(json.dumps(part).encode()) for part in parts)
    return b".".join(part.rstrip(b"=") for part in encoded).decode() + "."


def alices_token(_config: str) -> tuple[str, float]:
    """Bring a token of the user's, as an application's function does."""
    ends_at = time.time() + 600
    return token(USER, ends_at), ends_at


def _wait(futures: Iterable[object]) -> None:
    for future in futures:
        future.result(30)  # type: ignore[attr-defined]
