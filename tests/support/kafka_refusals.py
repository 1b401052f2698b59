"""Ways into a Kafka that must fail, and what is said then; see ``kafka_secure`` for listeners."""

from __future__ import annotations

from typing import TYPE_CHECKING

from support import kafka
from support.kafka_secure import PASSWORD, USER

if TYPE_CHECKING:
    from support.kafka_secure import SecureCluster

#: Listener (or a port where nobody is), options of the URL, password, exit status, what is said.
REFUSALS = {
    "wrong password": (
        "SASL", f"user={USER}&tls=false", "not his", 3,
        r"Authentication failed: Invalid username or password\. Check the user, the password \(STR",
    ),
    "wrong password, SCRAM": (
        "SASLTLS", f"user={USER}&sasl=SCRAM-SHA-512", "not his", 3,
        r"invalid credentials with SASL mechanism SCRAM-SHA-512\. Check the user",
    ),
    "no password": (
        "SASL", f"user={USER}&tls=false", "", 2,
        f"user='{USER}' needs a password: STREAMAPP_KAFKA_PASSWORD is not set",
    ),
    "wrong mechanism": (
        "SASL", f"user={USER}&sasl=SCRAM-SHA-256&tls=false", PASSWORD, 3,
        r"SCRAM-SHA-256 .*supported mechanisms: .*SCRAM-SHA-512.* Check the user",
    ),
    "wrong name": (
        "MISNAMED", "tls=true", "", 3,
        r"of 127.0.0.1:\d+ is refused: IP address mismatch.*not valid for '127.0.0.1'\. Use a name",
    ),
    "unknown authority": (
        "TLS", "tls=true&stranger", "", 3,
        r"certificate of 127.0.0.1:\d+ is refused: unable to get local issuer certificate\. Name",
    ),
    "no certificate of ours": (
        "MTLS", "tls=true", "", 3, r"127.0.0.1:\d+ wants a certificate of ours\. Name it and",
    ),
    "no TLS where it is wanted": (
        "TLS", "", "", 3, r"127.0.0.1:\d+ speaks TLS, and we do not\. Add tls=true to the URL",
    ),
    "TLS where there is none": (
        "SASL", f"user={USER}", PASSWORD, 3, r"127.0.0.1:\d+ does not speak TLS, and we do\. If",
    ),
    "nobody where somebody is wanted": (
        "SASL", "", "", 3, r"connections and closes them without an answer\. It may want SASL",
    ),
    "nothing listens": ("", "", "", 3, r"Connection refused.*\. Does a broker listen there"),
    "advertised nowhere": (
        "ASTRAY", "", "", 3,
        r"127.0.0.1:\d+/1: Connect .*refused.*\. The cluster names this address itself: its advert",
    ),
    "no token": (
        "SASL", "token=tokens:none&tls=false", "", 3,
        "tokens:none brought no token: TypeError: its answer is of the type str, not",
    ),
    "refused token": (
        "SASL", "token=tokens:old&tls=false", "", 3, "invalid_token.*Check the user",
    ),
    "no such function": (
        "SASL", "token=tokens:other&tls=false", "", 2, "There is no function other in a module tok",
    ),
}  # fmt: skip
TOKENS = """
import time
from support.kafka_secure import token
def none(config): return "SECRET token"
def old(config): return token("alice", time.time() - 60), time.time() + 60
"""


def url_of(cluster: SecureCluster, listener: str, query: str) -> str:
    """Return the URL of a listener, or of a port where nobody is."""
    if not listener:
        (port,) = kafka.free_ports(1)
        return f"kafka://127.0.0.1:{port}"
    if query.endswith("&stranger"):
        stranger = cluster.certificates.path("stranger")
        port = cluster.ports[listener]
        return f"kafka://127.0.0.1:{port}?tls=true&rdkafka.ssl.ca.location={stranger}"
    return cluster.url(listener, query)
