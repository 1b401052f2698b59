"""Why a cluster could not be reached, where librdkafka does not say: looks for itself, once.

Sends nothing but a TLS greeting, and no secret.
"""

from __future__ import annotations

import re
import socket
import ssl
from pathlib import Path
from typing import TYPE_CHECKING

from confluent_kafka import KafkaError

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Seconds of one look.
_LOOK_S = 3.0
#: How librdkafka writes a host in its reasons: ``sasl_ssl://host:port/bootstrap: Connect ...``.
HOST = re.compile(r"(?:\w+://)?([\w.\-\[\]:]+:\d+)/(?:bootstrap|\d+)")
_NAMES = "Use a name of the certificate in the URL and in the cluster's advertised.listeners"
_AUTHORITY = "Name the authority that signed it: rdkafka.ssl.ca.location=FILE in the URL"
_OURS = "Name it and its key: rdkafka.ssl.certificate.location and rdkafka.ssl.key.location"
_TLS = "Add tls=true to the URL"
_NO_TLS = "If that is meant, add tls=false to the URL: then all can be read on its way"
_SASL = "It may want SASL: say who you are, with user=NAME, sasl=MECHANISM or token="


def diagnose(
    error: KafkaError, servers: str, settings: Mapping[str, object]
) -> tuple[str, str] | None:
    """Return why there is no connection, and what to do; ``None`` if ``error`` says as much.

    Args:
        error: The last that librdkafka told.
        servers: As in the URL.
        settings: librdkafka's.
    """
    text = error.str()
    found = HOST.search(text)
    address = servers.partition(",")[0] if found is None else found[1]
    is_tls = str(settings.get("security.protocol", "")).endswith("SSL")
    if "certificate verify failed" in text:
        return _certificate_fault(address, settings)
    if "alert bad certificate" in text or "alert certificate required" in text:
        return f"{address} wants a certificate of ours", _OURS
    if "connecting to a PLAINTEXT" in text:
        return f"{address} does not speak TLS, and we do", _NO_TLS
    if error.code() == KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001 - its public name
        # It has closed connections, which librdkafka takes for a matter of course.
        return _closed_door(address, is_tls=is_tls)
    return None


def _certificate_fault(address: str, settings: Mapping[str, object]) -> tuple[str, str] | None:
    try:
        context = _context(settings)
        context.check_hostname = settings.get("ssl.endpoint.identification.algorithm") != "none"
        _greet(address, context)
    except ssl.SSLCertVerificationError as exc:
        hint = _NAMES if "mismatch" in exc.verify_message else _AUTHORITY
        return f"the certificate of {address} is refused: {exc.verify_message.rstrip('.')}", hint
    except (OSError, ValueError):
        return None
    return None


def _closed_door(address: str, *, is_tls: bool) -> tuple[str, str] | None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # asks whether it is TLS, and says nothing to it
    try:
        _greet(address, context)
    except ssl.SSLError:
        speaks_tls = False
    except OSError:
        return None
    else:
        speaks_tls = True
    if speaks_tls and not is_tls:
        return f"{address} speaks TLS, and we do not", _TLS
    return f"{address} takes connections and closes them without an answer", _SASL


def _context(settings: Mapping[str, object]) -> ssl.SSLContext:
    location = str(settings.get("ssl.ca.location", ""))
    pem = str(settings.get("ssl.ca.pem", ""))
    if location in {"", "probe"}:
        return ssl.create_default_context(cadata=pem or None)
    if Path(location).is_dir():
        return ssl.create_default_context(capath=location)
    return ssl.create_default_context(cafile=location)


def _greet(address: str, context: ssl.SSLContext) -> None:
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    with socket.create_connection((host, int(port)), _LOOK_S) as connection:
        context.wrap_socket(connection, server_hostname=host).close()
