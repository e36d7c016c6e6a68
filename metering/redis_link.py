"""From the address of a Redis or Valkey, single or cluster, to clients and script links."""

import asyncio
from collections.abc import Sequence
from typing import Final

from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster
from redis.exceptions import NoScriptError, RedisClusterException, RedisError

from metering.redis_pipeline import (
    CALL_TIMEOUT_S,
    RETRY_PAUSE_S,
    Argument,
    Circuit,
    LinkDown,
    PipelineLink,
    Script,
    ScriptLink,
)

CONNECT_TIMEOUT_S: Final = 2.0
MAX_CLUSTER_CALLS: Final = 64
"""Calls of one process under way in a cluster at once; below redis-py's 100 connections to a node."""

UNKNOWN_NODE: Final = ""
_CLUSTER_SCHEMES: Final = {"redis+cluster": "redis", "rediss+cluster": "rediss"}

RedisClient = Redis | RedisCluster


def connect(url: str) -> RedisClient:
    """The client for redis://, rediss://, unix:// or, for a cluster, redis+cluster:// and rediss+cluster:// (any node).

    Nothing is sent yet. Raises ValueError for another scheme.
    """
    scheme, separator, rest = url.partition("://")
    if separator and scheme in _CLUSTER_SCHEMES:
        address = f"{_CLUSTER_SCHEMES[scheme]}://{rest}"
        return RedisCluster.from_url(address, socket_connect_timeout=CONNECT_TIMEOUT_S)
    return Redis.from_url(url, socket_connect_timeout=CONNECT_TIMEOUT_S)


def connect_node(url: str) -> Redis:
    """The client for one server, or for the named node of a cluster, whose bus carries what is published to every node.

    For publish/subscribe, which redis-py's cluster client does not offer. Raises as `connect`.
    """
    scheme, separator, rest = url.partition("://")
    address = f"{_CLUSTER_SCHEMES[scheme]}://{rest}" if separator and scheme in _CLUSTER_SCHEMES else url
    return Redis.from_url(address, socket_connect_timeout=CONNECT_TIMEOUT_S)


def script_link(
    client: RedisClient, *, timeout_s: float = CALL_TIMEOUT_S, pause_s: float = RETRY_PAUSE_S
) -> ScriptLink:
    """The way to run scripts on this client's server or cluster. A process needs one."""
    if isinstance(client, RedisCluster):
        return ClusterLink(client, timeout_s=timeout_s, pause_s=pause_s)
    return PipelineLink(client, timeout_s=timeout_s, pause_s=pause_s)


class ClusterLink:
    """Runs scripts through redis-py's cluster client, which finds the node of a key and follows its moves."""

    def __init__(
        self, client: RedisCluster, *, timeout_s: float = CALL_TIMEOUT_S, pause_s: float = RETRY_PAUSE_S
    ) -> None:
        """`timeout_s` bounds a call from its asking to its answer, finding the cluster's nodes included."""
        self._client = client
        self._timeout_s = timeout_s
        self._pause_s = pause_s
        self._circuits: dict[str, Circuit] = {}
        self._discovery: asyncio.Task[Exception | None] | None = None
        # The client opens a connection for each call under way, and refuses above its bound instead of waiting.
        self._places = asyncio.Semaphore(MAX_CLUSTER_CALLS)

    async def run(self, script: Script, keys: Sequence[bytes], arguments: Sequence[Argument]) -> list[int]:
        """The script's answer; LinkDown when there is none within the timeout."""
        loop = asyncio.get_running_loop()
        node = self._node_of(keys[0])
        circuit = self._circuits.setdefault(node, Circuit(self._pause_s))
        circuit.admit(loop.time())
        try:
            async with asyncio.timeout(self._timeout_s):
                if node == UNKNOWN_NODE:
                    await self._discover()
                async with self._places:
                    answer = await self._evaluate(script, keys, arguments)
        except (RedisError, RedisClusterException, OSError, TimeoutError) as error:
            circuit.fail(loop.time())
            raise LinkDown(f"{type(error).__name__}: {error}") from error
        circuit.succeed()
        return answer

    async def aclose(self) -> None:
        """The client stays its owner's; only an unfinished search for the nodes ends."""
        if self._discovery is not None and not self._discovery.done():
            self._discovery.cancel()
            await asyncio.wait([self._discovery])

    async def _discover(self) -> None:
        """Find the cluster's nodes. It may take longer than one call waits, so it is nobody's to cancel."""
        if self._discovery is None or self._discovery.done():
            self._discovery = asyncio.create_task(self._find_nodes())
        failure = await asyncio.shield(self._discovery)
        if failure is not None:
            raise failure

    async def _find_nodes(self) -> Exception | None:
        try:
            await self._client.initialize()
        except (RedisError, RedisClusterException, OSError) as error:
            return error
        return None

    async def _evaluate(self, script: Script, keys: Sequence[bytes], arguments: Sequence[Argument]) -> list[int]:
        try:
            return await self._client.execute_command("EVALSHA", script.sha, len(keys), *keys, *arguments)
        except NoScriptError:
            # EVAL runs on the node of the keys and leaves the script there.
            return await self._client.execute_command("EVAL", script.source, len(keys), *keys, *arguments)

    def _node_of(self, key: bytes) -> str:
        """The name of the node whose failure this key shares."""
        try:
            node = self._client.get_node_from_key(key.decode(errors="replace"))
        except RedisClusterException:
            return UNKNOWN_NODE
        return node.name if node is not None else UNKNOWN_NODE
