"""Who we are to a cluster, and how we know that it is the right one: TLS and SASL.

A secret comes from the environment and from nowhere else, and is kept apart from settings that may
be shown.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

from streamapp.errors import BrokerUnavailableError, ConfigError

log = logging.getLogger(__name__)

_ENVIRONMENT = "STREAMAPP_KAFKA_"
_PASSWORD = f"{_ENVIRONMENT}PASSWORD"
#: How librdkafka's settings end that nobody may see; ``ssl.key.pem`` is the private key itself.
SECRETS = ("password", "secret", "key.pem")
_TOKENS = "OAUTHBEARER"
_WITH_PASSWORD = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
_MECHANISMS = (*_WITH_PASSWORD, _TOKENS, "GSSAPI")
_WORDS = {"true": True, "1": True, "yes": True, "": True, "false": False, "0": False, "no": False}
#: librdkafka's own way to get tokens (OpenID Connect); then nobody else need bring them.
_METHOD = "sasl.oauthbearer.method"
_TOKEN_HINT = "It returns (token, when it ends in seconds since 1970); does its service answer?"  # noqa: S105 - none
#: Characters of a reason: exceptions may hold whole answers of a service.
_REASON_CHARS = 300

#: Brings a token: takes the text of ``sasl.oauthbearer.config``, returns the token and when it
#: ends, in seconds since 1970; see ``confluent_kafka`` for more that it may return.
Token = Callable[[str], tuple[object, ...]]


@dataclass(frozen=True, slots=True)
class Security:
    """Settings of librdkafka, those of them that are secret, and where tokens come from."""

    settings: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    token: str = ""

    @property
    def principal(self) -> str:
        """Return who we are, as far as we know, for errors."""
        user = self.settings.get("sasl.username")
        return f"User:{user}" if user else "the principal of this worker"


def take_security(
    given: dict[str, str], settings: Mapping[str, str], environ: Mapping[str, str]
) -> Security:
    """Take ``tls``, ``sasl``, ``user`` and ``token`` out of a URL's options.

    ``user`` and ``token`` mean SASL; with it TLS is on unless ``tls=false``.

    Args:
        given: The options; what is taken is gone.
        settings: librdkafka's, as the URL has them; where they are used they win.
        environ: The environment of the process; it has the secrets.

    Raises:
        ValueError: An option is wrong, or does not go with another.
    """
    user, token = given.pop("user", ""), given.pop("token", "")
    default = (_TOKENS if token else "PLAIN") if user or token else ""
    mechanism = given.pop("sasl", default).upper()
    tls = given.pop("tls", str(bool(mechanism))).lower()
    if tls not in _WORDS:
        msg = f"tls={tls!r}: it is true or false"
        raise ValueError(msg)
    secrets = _secrets(environ)
    found: dict[str, str] = {}
    if mechanism or _WORDS[tls]:
        layers = (["SASL"] if mechanism else []) + (["SSL"] if _WORDS[tls] else ["PLAINTEXT"])
        found["security.protocol"] = "_".join(layers)
    if _WORDS[tls]:
        found["ssl.endpoint.identification.algorithm"] = "https"
    if mechanism:
        found["sasl.mechanisms"] = mechanism
        _check_login(mechanism, user, token or settings.get(_METHOD, ""))
    if mechanism in _WITH_PASSWORD:
        found["sasl.username"] = user
        secrets["sasl.password"] = _password(user, environ)
    return Security(found, secrets, token)


def _check_login(mechanism: str, user: str, token: str) -> None:
    if mechanism not in _MECHANISMS:
        msg = f"sasl={mechanism!r}: it is one of {', '.join(_MECHANISMS)}"
        raise ValueError(msg)
    if mechanism in _WITH_PASSWORD and not user:
        msg = f"sasl={mechanism} needs user=NAME"
        raise ValueError(msg)
    if mechanism == _TOKENS and not token:
        msg = f"sasl={mechanism} needs token=MODULE:FUNCTION, which brings tokens"
        raise ValueError(msg)
    if mechanism != _TOKENS and token:
        msg = f"sasl={mechanism} has no use for a token"
        raise ValueError(msg)


def _password(user: str, environ: Mapping[str, str]) -> str:
    if not environ.get(_PASSWORD):
        msg = f"user={user!r} needs a password: {_PASSWORD} is not set"
        raise ValueError(msg)
    return environ[_PASSWORD]


def _secrets(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the settings of librdkafka that the environment has.

    Others are left alone: for a service of that name an orchestrator sets ``STREAMAPP_KAFKA_PORT``.
    """
    names = {
        name: name.removeprefix(_ENVIRONMENT).lower().replace("_", ".")
        for name in environ
        if name.startswith(_ENVIRONMENT) and name != _PASSWORD
    }
    return {short: environ[name] for name, short in names.items() if short.endswith(SECRETS)}


def check_files(settings: Mapping[str, object]) -> None:
    """Refuse names of files that are not there: librdkafka does not say which.

    Raises:
        ConfigError: One is not.
    """
    for name, value in settings.items():
        if name.startswith("ssl.") and name.endswith(".location") and value != "probe":
            path = Path(str(value))
            if not path.exists():
                message = f"rdkafka.{name}={value}: there is no such file"
                raise ConfigError(message, hint="Correct the broker's URL")


class Tokens:
    """What ``token=`` names, asked as seldom as may be: all clients of a process share its tokens.

    Called by threads of librdkafka, which tells nobody why it has no token: ``note`` does.
    """

    def __init__(self, name: str, note: Callable[[str], None]) -> None:
        """Look the function up.

        Raises:
            ConfigError: It is not there, or is none.
        """
        self.name = name
        self._ask = _find(name)
        self._note = note
        self._lock = threading.Lock()
        self._last: tuple[object, ...] = ()
        #: Until then (seconds since 1970) clients get the token that others have.
        self._fresh_until = 0.0

    def __call__(self, config: str) -> tuple[object, ...]:
        """Return a token and when it ends; see ``Token``."""
        with self._lock:
            now = time.time()
            if now >= self._fresh_until:
                try:
                    self._last = self._checked(self._ask(config), now)
                except Exception as exc:
                    self._note(self._reason(exc))
                    log.debug("No token was brought", exc_info=exc)
                    raise
            return self._last

    def check(self, config: str) -> None:
        """Ask for a token now.

        Raises:
            BrokerUnavailableError: There is none.
        """
        try:
            self(config)
        except Exception as exc:
            message = f"Kafka: {self._reason(exc)}"
            raise BrokerUnavailableError(message, hint=_TOKEN_HINT) from exc

    def _reason(self, exc: Exception) -> str:
        return f"{self.name} brought no token: {type(exc).__name__}: {exc}"[:_REASON_CHARS]

    def _checked(self, answer: tuple[object, ...], now: float) -> tuple[object, ...]:
        match answer:
            case (str(), float() | int() as ends_at, *_):
                if ends_at <= now:
                    msg = f"it ended {now - ends_at:.0f} s ago; its end is in seconds since 1970"
                    raise ValueError(msg)
            case _:
                # The answer may hold a token: it is not shown.
                msg = f"its answer is of the type {type(answer).__name__}, not (token, end)"
                raise TypeError(msg)
        # librdkafka asks again after four fifths of what is left: by then there is a new one.
        self._fresh_until = now + (ends_at - now) / 2
        return answer


def _find(name: str) -> Token:
    module, _, attribute = name.partition(":")
    folder = str(Path.cwd())
    if folder not in sys.path:  # commands that know of no application begin without it
        sys.path.insert(0, folder)
    try:
        found = getattr(import_module(module), attribute, None) if module else None
    except ModuleNotFoundError as exc:
        if exc.name is None or not f"{module}.".startswith(f"{exc.name}."):
            raise
        found = None
    if not callable(found):
        message = f"There is no function {attribute or '?'} in a module {module or '?'}"
        raise ConfigError(message, hint="token=MODULE:FUNCTION names what brings tokens")
    return found
