"""What a chain's steps cost, counted as they end: a budget that no step may pass, and the sum under one call."""

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from gateway.errors import ChainStopped
from gateway.rules.chain_plan import Asked, added
from gateway.terms import CallTerms, Payee
from metering.operations import UsageFacts
from metering.rules.uses import USES, PublishedUse, uses_json


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One finished step: its place in the chain, what it used and what that costs."""

    name: str
    model: str
    usage: UsageFacts
    cost_micro: int
    payee: Payee | None
    route: Mapping[str, object] | None = None
    """See gateway.routed.Routed.told."""

    def told(self) -> dict[str, object]:
        """As the usage event lists it."""
        usage = self.usage
        return {
            "step": self.name,
            "model": self.model,
            "provider": usage.provider,
            "input_tokens": usage.input_tokens,
            "output_tokens": usage.output_tokens,
            "images": usage.images,
            "cost_micro": self.cost_micro,
            "estimated": usage.estimated,
            **(self.route or {}),
        }


@dataclass(frozen=True, slots=True)
class _Fee:
    """A chain's own prices for one run of it."""

    cost_micro: int
    usage: UsageFacts
    payee: Payee | None


class Meter:
    """Counts one run of one chain, and what runs within it counts for all around it too."""

    def __init__(self, terms: CallTerms, most_micro: int | None, outer: "Meter | None" = None) -> None:
        """`most_micro`: what the run may cost in all, its own prices included; None for no limit of its own."""
        self.terms = terms
        self.most_micro = most_micro
        self.outer = outer
        self.records: list[StepRecord] = []
        self.fees: list[_Fee] = []
        self.running: list[Asked] = []

    @contextmanager
    def reserved(self, asked: Asked, step: str) -> Generator[None]:
        """Room for a step while it runs; ChainStopped where the budget has no more, here or around."""
        meters = list(self._around())
        if any(meter.most_micro is not None and meter.highest_micro(asked) > meter.most_micro for meter in meters):
            raise ChainStopped(step, "it could cost more than is left of the chain's max_cost")
        for meter in meters:
            meter.running.append(asked)
        try:
            yield
        finally:
            for meter in meters:
                meter.running.remove(asked)

    def add(self, record: StepRecord) -> None:
        """A step has ended."""
        for meter in self._around():
            meter.records.append(record)

    def finish(self) -> None:
        """The run has its answer: its own prices are due."""
        fee = self.fee(self.records)
        for meter in self._around():
            meter.fees.append(fee)

    def fee(self, records: Sequence[StepRecord]) -> _Fee:
        """The chain's own prices for a run of these steps."""
        usage = replace(_sum(records), requests=1)
        return _Fee(self.terms.price_list.ordinary.cost_micro(usage), usage, self.terms.payee)

    def highest_micro(self, asked: Asked) -> int:
        """The most that the run can have cost when this step and those that run have ended, its own prices included."""
        usage = _sum(self.records)
        for each in (*self.running, asked):
            usage = added(usage, each.bound)
        spent = sum(record.cost_micro for record in self.records) + sum(fee.cost_micro for fee in self.fees)
        bounds = sum(each.bound_micro for each in self.running) + asked.bound_micro
        return spent + bounds + self.terms.price_list.ordinary.highest_micro(replace(usage, requests=1))

    def total(self, last: "tuple[StepRecord, tuple[Meter, ...]] | None") -> tuple[UsageFacts, int]:
        """Usage and cost of all that has ended, and of the step that `last` tells, with which those runs are over."""
        records, fees = list(self.records), list(self.fees)
        if last is not None:
            records.append(last[0])
            fees += [meter.fee([*meter.records, last[0]]) for meter in last[1]]
        usage = _sum(records)
        uses: list[PublishedUse] = [
            record.payee.use(record.cost_micro, record.usage) for record in records if record.payee is not None
        ]
        uses += [fee.payee.use(fee.cost_micro, fee.usage) for fee in fees if fee.payee is not None]
        details: dict[str, object] = {"steps": [record.told() for record in records], USES: uses_json(uses)}
        cost = sum(record.cost_micro for record in records) + sum(fee.cost_micro for fee in fees)
        return replace(usage, details=details), cost

    def _around(self) -> "Iterator[Meter]":
        meter: Meter | None = self
        while meter is not None:
            yield meter
            meter = meter.outer


def _sum(records: Sequence[StepRecord]) -> UsageFacts:
    usage = UsageFacts(provider=records[-1].usage.provider if records else "")
    for record in records:
        usage = added(usage, record.usage)
    return usage
