"""A provider that repeats what it was asked: in answers, in streams and in its refusals."""

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import orjson
from aiohttp import web


@dataclass
class Echo:
    url: str = ""
    headers: list[dict[str, str]] = field(default_factory=list)


def _prompt(body: dict) -> str:
    messages = body.get("messages")
    return messages[-1]["content"] if messages else str(body.get("input") or body.get("prompt"))


def _response(text: str) -> dict:
    part = {"type": "output_text", "text": text, "annotations": []}
    item = {"type": "message", "id": "m", "role": "assistant", "status": "completed", "content": [part]}
    usage = {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7}
    return {
        "id": "resp_r",
        "object": "response",
        "status": "completed",
        "error": None,
        "output": [item],
        "usage": usage,
    }


async def _stream_response(request: web.Request, body: dict, prompt: str) -> web.StreamResponse:
    answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await answer.prepare(request)
    text, spot = f"you said {prompt}", {"item_id": "m", "output_index": 0, "content_index": 0}
    events = [
        {"type": "response.created", "response": {**_response(""), "output": [], "usage": None}},
        {"type": "response.output_text.delta", "delta": text, **spot},
        {"type": "response.completed", "response": _response(text)},
    ]
    if (body.get("metadata") or {}).get("breaks"):
        events[2] = {"type": "error", "code": "invalid_prompt", "message": f"lost at {prompt}"}
    for event in events:
        await answer.write(b"data: " + orjson.dumps(event) + b"\n\n")
    return answer


async def _failure(body: dict, prompt: str) -> web.Response | None:
    metadata = body.get("metadata") or {}
    if status := int(metadata.get("status", 0)):
        error = {"message": f"cannot do {prompt}", "type": prompt, "code": prompt, "param": prompt}
        return web.json_response({"error": error}, status=status, headers={"X-Request-Id": "up-1"})
    if metadata.get("garbage"):
        return web.Response(text=f"<html>{prompt}</html>", content_type="text/html")
    if metadata.get("error_in_answer"):
        return web.json_response({"error": {"message": prompt, "code": int(metadata["error_in_answer"])}})
    if metadata.get("wait"):
        await asyncio.sleep(float(metadata["wait"]))
    return None


async def _stream(request: web.Request, body: dict, prompt: str) -> web.StreamResponse:
    metadata = body.get("metadata") or {}
    answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await answer.prepare(request)

    async def event(value: object) -> None:
        await answer.write(b"data: " + orjson.dumps(value) + b"\n\n")

    for word in (f"you said {prompt}", " again"):
        await event({"id": "c", "choices": [{"index": 0, "delta": {"content": word}, "finish_reason": None}]})
        if metadata.get("slow"):
            await asyncio.sleep(5)  # cancelled when the caller leaves
    if metadata.get("breaks"):
        await event({"error": {"message": f"lost at {prompt}", "code": 400}})
        return answer
    await event({"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    await event({"id": "c", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}})
    await answer.write(b"data: [DONE]\n\n")
    return answer


async def _events(request: web.Request, *events: dict) -> web.StreamResponse:
    answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await answer.prepare(request)
    for event in events:
        await answer.write(b"data: " + orjson.dumps(event) + b"\n\n")
    return answer


Give = Callable[[web.Request, dict, str], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def echo_provider() -> AsyncIterator[Echo]:
    echo = Echo()

    def asked(give: Give) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """What is given where its prompt asks for no failure."""

        async def handler(request: web.Request) -> web.StreamResponse:
            echo.headers.append(dict(request.headers))
            body = await request.json()
            prompt = _prompt(body)
            failure = await _failure(body, prompt)
            return await give(request, body, prompt) if failure is None else failure

        return handler

    async def chat(request: web.Request, body: dict, prompt: str) -> web.StreamResponse:
        if body.get("stream"):
            return await _stream(request, body, prompt)
        message = {"role": "assistant", "content": f"you said {prompt}"}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
        if (body.get("metadata") or {}).get("caches"):
            usage["prompt_tokens_details"] = {"cached_tokens": 1, "cache_write_tokens": 2}
        return web.json_response({"id": "c", "object": "chat.completion", "choices": choices, "usage": usage})

    async def responses(request: web.Request, body: dict, prompt: str) -> web.StreamResponse:
        if body.get("stream"):
            return await _stream_response(request, body, prompt)
        return web.json_response(_response(f"you said {prompt}"))

    async def listed(request: web.Request, body: dict, prompt: str) -> web.StreamResponse:
        if request.path.endswith("embeddings"):
            data = [{"object": "embedding", "index": 0, "embedding": [0.5, 0.25]}]
            return web.json_response({"data": data, "echo": prompt, "usage": {"prompt_tokens": 3, "total_tokens": 3}})
        return web.json_response({"created": 1, "data": [{"url": f"https://x/{prompt}", "revised_prompt": prompt}]})

    async def spoken(request: web.Request, body: dict, prompt: str) -> web.StreamResponse:
        if body.get("stream_format") == "sse":
            sound = base64.b64encode(prompt.encode()).decode()
            return await _events(request, {"type": "speech.audio.delta", "audio": sound}, {"type": "speech.audio.done"})
        answer = web.StreamResponse(headers={"Content-Type": "audio/mpeg"})
        await answer.prepare(request)
        await answer.write(prompt.encode())
        if (body.get("metadata") or {}).get("slow"):
            await asyncio.sleep(5)
        return answer

    async def heard(request: web.Request) -> web.StreamResponse:
        form = await request.post()
        text = f"{form['prompt']} {form['file'].file.read().decode()}"
        if "stream" not in form:
            return web.json_response({"text": text})
        delta = {"type": "transcript.text.delta", "delta": text}
        return await _events(request, delta, {"type": "transcript.text.done", "text": text})

    app = web.Application(client_max_size=16 * 1024 * 1024)
    app.router.add_post("/v1/chat/completions", asked(chat))
    app.router.add_post("/v1/responses", asked(responses))
    app.router.add_post("/v1/audio/speech", asked(spoken))
    app.router.add_post("/v1/audio/transcriptions", heard)
    app.router.add_post("/v1/embeddings", asked(listed))
    app.router.add_post("/v1/images/generations", asked(listed))
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    echo.url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}/v1"
    try:
        yield echo
    finally:
        await runner.cleanup()
