"""A call that runs through a chain of models: steps side by side where they can, metered one by one under one hold."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import orjson

from gateway.admission import Admitted
from gateway.chain_stream import LastStream
from gateway.errors import ChainStopped
from gateway.metered import within
from gateway.routed import BegunStream, Routed
from gateway.routing import Router
from gateway.rules.chain_meter import Meter, StepRecord
from gateway.rules.chain_plan import Asked, PlannedChain, PlannedStep, Render, asked_of, cut, inner_input
from gateway.rules.truth import End, Seen, verdict
from gateway.views import CallRequest
from kit.errors import Refusal
from kit.json_values import WRITTEN_LEVELS, JsonObject, is_deeper, is_list, is_object
from metering.operations import UsageFacts
from providers.base import ProviderAnswer
from providers.errors import ProviderError, UpstreamGarbage
from providers.over_chat import OTHER_FORMS, TranslatedStream, told_of_chat, translation_to

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Answered:
    """A step's answer, and where it came from."""

    answer: ProviderAnswer
    routed: Routed


@dataclass(slots=True)
class _Scope:
    """One run of one chain: what its steps gave, as templates see it."""

    planned: PlannedChain
    values: JsonObject
    history: Sequence[object]
    meter: Meter
    path: str = ""
    outputs: JsonObject = field(default_factory=dict[str, object])
    answers: dict[str, _Answered] = field(default_factory=dict[str, _Answered])

    def render(self) -> Render:
        values: Mapping[str, object] = {"input": self.values, "steps": self.outputs}
        return lambda template: template.render(values)

    def runs(self, planned: PlannedStep) -> bool:
        when = planned.step.when
        return when is None or when.holds({"input": self.values, "steps": self.outputs})


@dataclass(frozen=True, slots=True)
class _Last:
    """What is left of a chain: one request to a model, or an answer that an earlier step gave already.

    `scopes`: the chains that are over with it, the innermost first.
    """

    scopes: tuple[_Scope, ...]
    planned: PlannedStep | None = None
    asked: Asked | None = None
    answer: _Answered | None = None


async def _nothing() -> None:
    """Nobody writes checkpoints yet."""


class ChainRun:
    """Serves gateway.terms.ChainedCall, once. `after_step` is awaited after each finished step but the last."""

    def __init__(
        self,
        admitted: Admitted,
        planned: PlannedChain,
        values: JsonObject,
        history: Sequence[object],
        router: Router,
    ) -> None:
        """`admitted`: the whole call, on whose caller's behalf its steps are; `values`, `history`: as its bound was made."""
        self._admitted = admitted
        self._router = router
        self._scope = _Scope(planned, values, history, Meter(planned.terms, admitted.bound_micro))
        self._streamed: tuple[_Last, Routed] | None = None
        self.after_step: Callable[[], Awaitable[None]] = _nothing

    async def answer(self, routed: Routed) -> ProviderAnswer:
        """See ChainedCall."""
        last = await self._prepared()
        answered = await self._complete(last)
        routed.tries[:] = answered.routed.tries[-1:]
        answer, (total, _) = answered.answer, self._scope.meter.total(None)
        whole = replace(answer, body=told(answer.body, self._admitted.model.slug, total), raw=None)
        request = self._admitted.request
        return told_of_chat(request.operation, request.body, whole) if request.operation in OTHER_FORMS else whole

    async def stream(self, routed: Routed) -> BegunStream:
        """See ChainedCall."""
        begun, request = await self._chat(routed), self._admitted.request
        if request.operation not in OTHER_FORMS:
            return begun
        translation = translation_to(request.operation, request.body)
        try:
            head = [event for chunk in begun.head for event in translation.translate(chunk)]
        except BaseException as error:
            await begun.rest.aclose()
            if isinstance(error, orjson.JSONEncodeError):
                raise UpstreamGarbage("an event of the provider's stream is nested too deeply") from error
            raise
        return BegunStream(head, TranslatedStream(begun.rest, translation))

    async def _chat(self, routed: Routed) -> BegunStream:
        last = await self._prepared()
        slug = self._admitted.model.slug
        if last.answer is not None:
            self._close(last)
            routed.tries[:] = last.answer.routed.tries[-1:]
            whole = LastStream.of_answer(last.answer.answer, slug, self._scope.meter.total(None)[0])
            return BegunStream([await anext(whole)], whole)
        assert last.planned is not None, "a request or an answer"
        assert last.asked is not None, "likewise"
        scope, step = last.scopes[0], Routed([])
        with scope.meter.reserved(last.asked, _named(scope, last.planned)):
            # No step runs beside the last: its stream is the call's own, its trace too.
            begun = await self._asking(scope, last.planned, self._router.stream(self._call(last), step))
        self._streamed = (last, step)
        routed.tries[:] = step.tries[-1:]
        stream = LastStream(begun.rest, slug, lambda usage: self.so_far(End.FINISHED, Seen(usage))[0])
        return BegunStream([stream.told(chunk) for chunk in begun.head], stream)

    def so_far(self, end: End, seen: Seen) -> tuple[UsageFacts, int]:
        """See ChainedCall."""
        if self._streamed is None:
            return self._scope.meter.total(None)
        last, routed = self._streamed
        record = self._record(last, routed, end, seen)
        if record is None:
            return self._scope.meter.total(None)
        return self._scope.meter.total((record, tuple(scope.meter for scope in last.scopes)))

    async def _prepared(self) -> _Last:
        try:
            return await self._before_last(self._scope)
        except Refusal as refusal:  # a text that outputs made too long, for one
            raise ChainStopped("input", refusal.message) from refusal

    async def _before_last(self, scope: _Scope) -> _Last:
        """Run everything but the step that answers; ChainStopped where a step fails or none is left to answer."""
        await self._all_but(scope.planned.last, scope)
        for name in scope.planned.chain.outputs:
            if name in scope.answers:
                return _Last((scope,), answer=scope.answers[name])
            planned = scope.planned.steps[name]
            if name in scope.planned.last and scope.runs(planned):
                if planned.inner is None:
                    return _Last((scope,), planned, self._asked(scope, planned))
                inside = await self._before_last(self._inner(scope, planned, planned.inner))
                return replace(inside, scopes=(*inside.scopes, scope))
        raise ChainStopped(scope.path or "output", "none of the steps that could answer was to run")

    async def _all_but(self, last: frozenset[str], scope: _Scope) -> None:
        waiting = [step for name, step in scope.planned.steps.items() if name not in last]
        running: dict[asyncio.Task[None], str] = {}
        failed: BaseException | None = None
        try:
            while True:
                waiting = [] if failed is not None else self._begin(waiting, running, scope)
                if not running:
                    break
                done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    del running[task]
                    failed = failed or task.exception()
        except BaseException:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            raise
        if failed is not None:
            raise failed

    def _begin(
        self, waiting: list[PlannedStep], running: dict[asyncio.Task[None], str], scope: _Scope
    ) -> list[PlannedStep]:
        """Begin or skip each step whose needs are done; those that still wait."""
        still = waiting
        while ready := [planned for planned in still if planned.step.needs <= scope.outputs.keys()]:
            for planned in ready:
                name = planned.step.name
                if scope.runs(planned):
                    running[asyncio.create_task(self._step(scope, planned))] = name
                else:
                    scope.outputs[name] = {"content": "", "json": None}
            still = [planned for planned in still if planned not in ready]
        return still

    async def _step(self, scope: _Scope, planned: PlannedStep) -> None:
        if planned.inner is None:
            answered = await self._ask(_Last((scope,), planned, self._asked(scope, planned)))
        else:
            inside = await self._before_last(self._inner(scope, planned, planned.inner))
            answered = await self._complete(inside)
        content = cut(_content(answered.answer.body), planned.handed_on_bytes)
        scope.outputs[planned.step.name] = {"content": content, "json": _parsed(content)}
        scope.answers[planned.step.name] = answered
        await self.after_step()

    async def _complete(self, last: _Last) -> _Answered:
        """The answer of what is left, with which its chains are over."""
        answered = last.answer if last.answer is not None else await self._ask(last)
        self._close(last)
        return answered

    async def _ask(self, last: _Last) -> _Answered:
        assert last.planned is not None, "a request, not an answer"
        assert last.asked is not None, "likewise"
        scope, routed = last.scopes[0], Routed([])
        call = replace(self._call(last), trace=self._admitted.trace.beside())
        try:
            with scope.meter.reserved(last.asked, _named(scope, last.planned)):
                answer = await self._asking(scope, last.planned, self._router.answer(call, routed))
                record = self._record(last, routed, End.FINISHED, Seen(answer.usage, answer.content_bytes))
                assert record is not None, "a step that finished is charged"
                scope.meter.add(record)
        finally:
            call.trace.answered(None)
        return _Answered(answer, routed)

    async def _asking(self, scope: _Scope, planned: PlannedStep, asking: Awaitable[T]) -> T:
        try:
            return await asking
        except ChainStopped:
            raise
        except ProviderError as error:
            raise ChainStopped(_named(scope, planned), error.message) from error

    def _asked(self, scope: _Scope, planned: PlannedStep) -> Asked:
        try:
            return asked_of(planned, scope.render(), scope.history)
        except Refusal as refusal:
            raise ChainStopped(_named(scope, planned), refusal.message) from refusal

    def _call(self, last: _Last) -> Admitted:
        """The step as a call of its own, for the router."""
        assert last.planned is not None, "a request, not an answer"
        assert last.asked is not None, "likewise"
        model, asked = last.planned.terms.model, last.asked
        request = CallRequest(model.slug, asked.operation, asked.body)
        return replace(
            self._admitted, request=request, model=model, shape=asked.shape, bound=asked.bound, chain=None, payee=None
        )

    def _record(self, last: _Last, routed: Routed, end: End, seen: Seen) -> StepRecord | None:
        """What a step used, by the truth table; None where nothing of it is charged."""
        assert last.planned is not None, "a request, not an answer"
        assert last.asked is not None, "likewise"
        terms = last.planned.terms
        usage = verdict(end, seen, last.asked.shape, last.asked.bound, routed.provider).usage
        if usage is None:
            return None
        if terms.payee is not None:
            usage = within(usage, last.asked.bound)
        cost = last.asked.rates.cost_micro(usage, terms.discount_percent)
        name = _named(last.scopes[0], last.planned)
        return StepRecord(name, terms.model.slug, usage, cost, terms.payee, routed.told())

    def _inner(self, scope: _Scope, planned: PlannedStep, inner: PlannedChain) -> _Scope:
        return _Scope(
            inner,
            inner_input(planned.step, scope.render()),
            scope.history if planned.step.history else (),
            Meter(inner.terms, inner.chain.max_cost_micro, scope.meter),
            _named(scope, planned),
        )

    def _close(self, last: _Last) -> None:
        """Each chain that is over costs its own prices, on top of its steps."""
        for scope in last.scopes:
            scope.meter.finish()


def told(body: JsonObject, slug: str, total: UsageFacts) -> JsonObject:
    """An answer as the chain's: its name, and the usage of all its steps."""
    usage = body.get("usage")
    return {
        **body,
        "model": slug,
        "usage": {
            **(usage if is_object(usage) else {}),
            "prompt_tokens": total.input_tokens,
            "completion_tokens": total.output_tokens,
            "total_tokens": total.input_tokens + total.output_tokens,
        },
    }


def _named(scope: _Scope, planned: PlannedStep) -> str:
    return f"{scope.path}.{planned.step.name}" if scope.path else planned.step.name


def _content(body: JsonObject) -> str:
    choices = body.get("choices")
    first = choices[0] if is_list(choices) and choices else None
    message = first.get("message") if is_object(first) else None
    content = message.get("content") if is_object(message) else None
    return content if isinstance(content, str) else ""


def _parsed(content: str) -> object:
    """What a text says as JSON, for `steps.NAME.json`; None where it is none, or too deep to be written into a prompt."""
    try:
        parsed: object = orjson.loads(content)
    except orjson.JSONDecodeError:
        return None
    return None if is_deeper(parsed, content.encode(), WRITTEN_LEVELS) else parsed
