"""``streamapp worker``: finds a port, says where to look, becomes Faust's worker or runs some."""

import errno
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from typer import Option

from streamapp.cli.application import AppName, find_application
from streamapp.cli.options import BrokerUrl, Datadir
from streamapp.cli.supervisor import Supervisor, end_with
from streamapp.errors import ConfigError

if TYPE_CHECKING:
    import faust

#: How many ports after the usual one are tried: more workers than that on one machine are rare.
_PORTS_TRIED = 100
_PORT_VARIABLES = ("STREAMAPP_WEB_PORT", "PORT")

WebPort = Annotated[
    int | None,
    Option(
        help="Port of the web views.",
        show_default="setting: 6066, or the next free one",
        min=1,
        max=65_535,
    ),
]
Level = Annotated[
    Literal["debug", "info", "warning", "error"] | None,
    Option("-l", "--loglevel", help="Least severity that is logged.", show_default="setting: info"),
]
Processes = Annotated[
    int, Option("--processes", help="Processes that share the partitions.", min=1, max=64)
]
Pipe = Annotated[int | None, Option("--supervisor", hidden=True)]

#: What a process of several runs: the command that this module is part of.
_COMMAND = (sys.executable, "-c", "from streamapp.cli.main import main; main()", "worker")


def worker(
    app: AppName = "app",
    *,
    processes: Processes = 1,
    web_port: WebPort = None,
    loglevel: Level = None,
    broker: BrokerUrl = None,
    datadir: Datadir = None,
    supervisor: Pipe = None,
) -> None:
    """Run the application until Ctrl-C.

    With several processes the first one has the web address. Each shows the rows of its own
    partitions and names the process that has the others.
    """
    from streamapp.settings import load_settings  # noqa: PLC0415 - --help must not wait for it

    flags = {"broker": broker, "datadir": datadir, "web_port": web_port, "log_level": loglevel}
    settings = load_settings(**flags)
    host = settings.web_host
    # A port from the command line or the platform is meant as it is.
    is_fixed = web_port is not None or not os.environ.keys().isdisjoint(_PORT_VARIABLES)
    # An application made from the settings reads them by itself: flags reach it like this.
    os.environ |= {f"STREAMAPP_{n.upper()}": str(v) for n, v in flags.items() if v is not None}
    # Before an address is told: what is wrong with the application is all that there is to say.
    application = find_application(app)
    _check_reached(app, application, broker, datadir)
    _check_shared(application, processes)
    # Workers of one machine share the files: a port in one is where the search begins.
    given = getattr(application, "given_web_port", None)  # stock Faust's has none
    first = settings.web_port if is_fixed else given or settings.web_port
    port = _free_port(host, first, 1 if is_fixed else _PORTS_TRIED)
    os.environ["STREAMAPP_WEB_PORT"] = str(port)
    if supervisor is None:
        what = "the worker" if processes == 1 else f"all {processes} processes"
        print(f"Look at http://{_reachable(host)}:{port}/  (Ctrl-C ends {what})", flush=True)
    else:
        end_with(supervisor)
    if processes > 1:
        sys.exit(_supervise(app, processes, host, port))
    # Without --web-bind Faust listens on all interfaces.
    web = ["--web-port", str(port), "--web-bind", host, "--web-host", _reachable(host)]
    level = settings.log_level.replace("warning", "warn")  # Faust's word for it
    _run(["-A", app, "worker", "--loglevel", level, *web])


def _check_reached(
    name: str, application: "faust.App", broker: str | None, datadir: Path | None
) -> None:
    """Check that the application took the flags: it does if it is made from the settings.

    Raises:
        ConfigError: It has one of its own; the flag would change nothing.
    """
    conf = application.conf
    wrong = [
        *(["broker"] if broker is not None and conf.broker != _urls(broker) else []),
        *(["datadir"] if datadir is not None and conf.datadir != datadir.expanduser() else []),
    ]
    for option in wrong:
        message = f"--{option} has no effect: {name} makes its App with a {option} of its own"
        hint = (
            f"Write App(..., {option}=settings.{option}) with settings = load_settings(), "
            "or leave the flag out"
        )
        raise ConfigError(message, hint=hint)


def _check_shared(application: "faust.App", processes: int) -> None:
    """Check that several processes have one broker, and each a place of its own in the group.

    Raises:
        ConfigError: Each would have a broker of its own, or all of them one name.
    """
    urls = application.conf.broker if processes > 1 else ()
    if any(url.scheme == "memory" for url in urls):
        message = f"--processes {processes} with memory://: each process would have its own records"
        raise ConfigError(message, hint="Use sqlite://, which the processes of a machine share")
    if any("instance_id" in url.query for url in urls):
        message = f"--processes {processes} with instance_id: all processes would have that name"
        raise ConfigError(message, hint="Leave instance_id out, or start each worker by itself")


def _urls(text: str) -> object:
    """Return URLs as the configuration of an application has them; ``None`` if there is none."""
    from faust.utils.urls import urllist  # noqa: PLC0415 - half a second

    try:
        return urllist(text)
    except ValueError:
        return None


def _supervise(app: str, processes: int, host: str, port: int) -> int:
    """Run workers until they are told to end; the first one has ``port``, the others later ones."""
    ends, writes = os.pipe()
    ports = {1: port}

    def start(number: int) -> subprocess.Popen[bytes]:
        if number not in ports:
            ports[number] = _free_port(host, max(ports.values()) + 1, _PORTS_TRIED)
        words = ["-A", app, "--web-port", str(ports[number]), "--supervisor", str(ends)]
        # In a group of its own, so that Ctrl-C reaches the supervisor alone.
        return subprocess.Popen([*_COMMAND, *words], pass_fds=(ends,), process_group=0)  # noqa: S603 - this command

    try:
        return Supervisor(processes, start).run()
    finally:
        os.close(ends)
        os.close(writes)


def _free_port(host: str, first: int, tries: int) -> int:
    """Return the first port that can be listened on.

    Raises:
        ConfigError: None of them can; or the address is none of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for port in range(first, min(first + tries, 65_536)):
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    continue
                message = f"Cannot listen on {host}:{port}: {error.strerror}"
                raise ConfigError(message, hint="Choose another web_host or --web-port") from error
            return port
    message = f"Port {first} of {host} is in use"
    raise ConfigError(message, hint="Choose another one with --web-port, or end who has it")


def _reachable(host: str) -> str:
    """Return the name under which others find a server that listens on ``host``."""
    if host in {"0.0.0.0", "::"}:  # noqa: S104 - compared, not bound
        return socket.gethostname()
    return f"[{host}]" if ":" in host else host


def _run(arguments: list[str]) -> None:
    """Become Faust's command; its exit status is ours, and Ctrl-C is a good end."""
    from faust.cli.faust import cli  # noqa: PLC0415 - half a second

    try:
        cli(args=arguments, prog_name="faust")
    except KeyboardInterrupt:
        sys.exit(0)
