"""The sandbox as a stand-alone OpenAI-compatible HTTP server: `python -m providers.sandbox_server`."""

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace

import uvloop

from providers.sandbox_behaviour import FAULTS, SandboxBehaviour
from providers.sandbox_jobs_http import SandboxJobServer
from providers.sandbox_predictions import DEFAULT_DELAY_MS, JobBehaviour
from providers.sandbox_protocol import AuditLog, SandboxProtocol, SandboxSettings


async def serve(host: str, port: int, settings: SandboxSettings) -> None:
    """Serve until SIGTERM or Ctrl-C; prints the address when ready."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    open_connections: set[SandboxProtocol] = set()
    server = await loop.create_server(
        lambda: SandboxProtocol(loop, settings, open_connections), host, port, reuse_address=True, backlog=1024
    )
    bound_port = server.sockets[0].getsockname()[1]
    name = f"[{host}]" if ":" in host else host
    sys.stdout.write(f"sandbox provider on http://{name}:{bound_port}/v1\n")
    sys.stdout.flush()
    await stop.wait()
    server.close()
    for connection in list(open_connections):
        connection.close()
    await asyncio.sleep(0)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m providers.sandbox_server", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--delay-ms", type=int, default=0, help="wait so long before each answer")
    parser.add_argument("--chunk-delay-ms", type=int, default=0, help="wait so long between the words of a stream")
    parser.add_argument("--failure", default="none", help=f"fail each call: a status, or one of {', '.join(FAULTS)}")
    parser.add_argument("--api-key", default=None, help="refuse calls without this bearer key")
    parser.add_argument("--log", default=None, metavar="FILE", help="append what was served as JSON lines")
    parser.add_argument("--job-ms", type=int, default=DEFAULT_DELAY_MS, help="how long predictions take")
    parser.add_argument("--webhook-secret", default=None, help="sign webhooks of predictions with it")
    options = parser.parse_args(arguments)
    behaviour = SandboxBehaviour(delay_ms=max(0, options.delay_ms), chunk_delay_ms=max(0, options.chunk_delay_ms))
    if options.failure in FAULTS:
        behaviour = replace(behaviour, fault=FAULTS[options.failure])
    elif options.failure.isascii() and options.failure.isdigit() and 400 <= int(options.failure) < 600:
        behaviour = replace(behaviour, status=int(options.failure))
    else:
        parser.error(f"--failure {options.failure!r}: expected a status from 400 to 599 or one of {', '.join(FAULTS)}")
    log = None
    if options.log is not None:
        log = AuditLog(os.open(options.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
    key = options.api_key
    secret = options.webhook_secret
    jobs = SandboxJobServer(
        log.write if log is not None else lambda _: None,
        secret.encode() if secret else None,
        JobBehaviour(delay_ms=max(0, options.job_ms)),
    )
    settings = SandboxSettings(behaviour, f"Bearer {key}".encode() if key else None, log, jobs)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(options.host, options.port, settings))


if __name__ == "__main__":
    main()
