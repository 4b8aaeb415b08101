"""``dashboard``: the pages, the API and the metrics, served."""

import socket
from typing import Annotated

import typer

from windlass.app import Windlass
from windlass.cli import output
from windlass.cli.command import command
from windlass.errors import ConfigurationError

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def add(cli: typer.Typer) -> None:
    """Add the command."""
    command(cli, "dashboard", panel="Look")(dashboard)


def dashboard(
    app: Windlass,
    *,
    host: Annotated[str, typer.Option("--host", help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="The port; 0 = any.")] = 8510,
    password: Annotated[
        str | None,
        typer.Option("--password", envvar="WINDLASS_DASHBOARD_PASSWORD", help="Of the user admin.", show_envvar=True),
    ] = None,
    token: Annotated[
        list[str] | None,
        typer.Option(
            "--token", envvar="WINDLASS_DASHBOARD_TOKEN", metavar="TOKEN[=ROLE]", show_envvar=True,
            help="Of a program; its role is read, operate or admin, read by default. Repeatable.",
        ),
    ] = None,
    redact: Annotated[
        list[str] | None, typer.Option("--redact", metavar="NAME", help="Hide payload keys with this name too. Repeatable.")
    ] = None,
    root_path: Annotated[str, typer.Option("--root-path", help="Where a proxy in front shows it, as in /jobs.")] = "",
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Let everybody on this machine do everything; only on loopback.")
    ] = False,
) -> None:  # fmt: skip
    """Serve the dashboard: pages, a JSON API under /api, and Prometheus metrics under /metrics.

    Example: windlass dashboard shop:app --password "$DASHBOARD_PASSWORD"
    """
    from windlass.dashboard import Dashboard

    if insecure and host not in LOOPBACK:
        raise ConfigurationError(f"--insecure is for this machine alone; it does not go with --host {host}")
    if not (password or token or insecure):
        raise ConfigurationError(
            "the dashboard is closed by default: give --password, --token, or --insecure on your own machine"
        )
    site = Dashboard(
        app, password=password, tokens=dict(map(_token, token or ())), redact=redact or (), insecure=insecure
    )
    app.driver  # noqa: B018 - a store that cannot be reached is said here, not on every page
    if insecure:
        output.line("Everybody on this machine may do everything: --insecure.", at_once=True)
    _serve(site, host=host, port=port, root_path=root_path)


def _listener(host: str, port: int) -> socket.socket:
    """Open the port. The protocol is named, else asyncio leaves the kernel to wait 40 ms for more before it sends."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        raise ConfigurationError(f"cannot listen on {host} port {port}: {error}") from error
    return listener


def _token(text: str) -> tuple[str, str]:
    token, _, role = text.rpartition("=")
    return (token, role) if token else (role, "read")


def _serve(site: object, *, host: str, port: int, root_path: str) -> None:
    try:
        import uvicorn
    except ImportError as missing:
        raise ConfigurationError(f"it cannot be served ({missing}): pip install 'windlass[dashboard]'") from missing

    config = uvicorn.Config(
        site,  # type: ignore[arg-type]  # any ASGI application
        host=host, port=port, root_path=root_path, log_level="warning", timeout_graceful_shutdown=3,
        server_header=False, proxy_headers=True,
    )  # fmt: skip
    server = uvicorn.Server(config)
    listener = _listener(host, port)
    where = f"[{host}]" if ":" in host else host
    output.line(f"Dashboard: http://{where}:{listener.getsockname()[1]}{root_path}/  (Ctrl-C ends it)", at_once=True)
    server.run(sockets=[listener])
