"""A provider that answers at once, spoken to as one of predictions: its answer is a prediction that has ended."""

from typing import Final

from providers.base import Operation, Provider, ProviderRequest
from providers.errors import ProviderNotConfigured
from providers.nothing_of_its_own import NothingOfItsOwn
from providers.prediction_answers import outputs_of
from providers.predictions import Prediction, PredictionRequest, PredictionState, PredictionUnknown

_COUNTED: Final = ("input_tokens", "cached_input_tokens", "output_tokens", "reasoning_tokens", "images")


class AtOnce(NothingOfItsOwn):
    """Serves PredictionProvider over a Provider. A creation whose outcome is unknown is not tried again."""

    def __init__(self, provider: Provider) -> None:
        """`provider` is closed by its owner."""
        self.name = provider.name
        self.remembers = False
        self.repeatable = False
        self.poll_pauses_s = (1, 15)
        self._provider = provider

    async def create(self, request: PredictionRequest) -> Prediction:
        """The whole answer, ended."""
        if request.operation is not Operation.IMAGE:
            raise ProviderNotConfigured("this provider makes no videos")
        answer = await self._provider.complete(
            ProviderRequest(
                request.operation,
                request.upstream_model,
                request.body,
                request.request_id,
                timeouts=request.timeouts,
                trace=request.trace,
            )
        )
        usage = answer.usage
        return Prediction(
            id=request.key,
            state=PredictionState.SUCCEEDED,
            outputs=outputs_of(answer.body.get("data")),
            reported={} if usage is None else {name: getattr(usage, name) for name in _COUNTED},
        )

    async def read(self, prediction_id: str) -> Prediction:
        """There is never anything to look at again."""
        del prediction_id
        raise PredictionUnknown

    async def cancel(self, prediction_id: str) -> bool:
        """It cannot."""
        del prediction_id
        return False
