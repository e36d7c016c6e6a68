"""Runs the GraphQL over HTTP audit suite (graphql-http's serverAudits, 61 audits) against a gateway; needs Node and npm.

Without an address a gateway of its own is started on a free port with data in a temporary directory.
"""

import argparse
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PATIENCE_S = 60


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def gateway(directory: Path) -> Iterator[tuple[str, str]]:
    """A gateway of our own: its GraphQL address and the demo's API key."""
    port = free_port()
    env = {name: value for name, value in os.environ.items() if not name.startswith("TOLLGATE_")}
    env |= {"TOLLGATE_DATA_DIR": str(directory / "data"), "TOLLGATE_LOG_LEVEL": "warning"}
    log = directory / "gateway.log"
    with log.open("w") as out:
        command = [sys.executable, "-m", "app", "run", "--port", str(port)]
        process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=out, stderr=out)
    try:
        give_up_at = time.monotonic() + PATIENCE_S
        while (key := re.search(r"tg_\w+", log.read_text())) is None:
            if process.poll() is not None or time.monotonic() > give_up_at:
                sys.exit(f"the gateway did not start:\n{log.read_text()}")
            time.sleep(0.1)
        urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5).close()
        yield f"http://127.0.0.1:{port}/graphql", key[0]
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=PATIENCE_S)


def audit(directory: Path, url: str, key: str) -> int:
    """Install the suite at its pinned version beside nothing of ours, and run it."""
    if shutil.which("npm") is None:
        sys.exit("make audit needs Node and npm; the same requirements run without them in tests/graphql")
    suite = directory / "suite"
    shutil.copytree(HERE, suite)
    install = ["npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--silent"]
    subprocess.run(install, cwd=suite, check=True)
    return subprocess.run(
        ["node", "audit.mjs", url], cwd=suite, env={**os.environ, "TOLLGATE_API_KEY": key}, check=False
    ).returncode


def main() -> int:
    """The audit's exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", nargs="?", help="the GraphQL address of a running gateway; its key in TOLLGATE_API_KEY")
    url = parser.parse_args().url
    with tempfile.TemporaryDirectory(prefix="tollgate-audit-") as name:
        directory = Path(name)
        if url is not None:
            return audit(directory, url, os.environ.get("TOLLGATE_API_KEY", ""))
        with gateway(directory) as (own_url, key):
            return audit(directory, own_url, key)


if __name__ == "__main__":
    sys.exit(main())
