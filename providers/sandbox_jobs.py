"""The sandbox's predictions inside the process: what its server does, without a socket and without webhooks."""

import asyncio

from kit.clock import now
from providers.base import JsonObject
from providers.errors import ProviderError
from providers.nothing_of_its_own import NothingOfItsOwn
from providers.openai_errors import error_of_status
from providers.prediction_answers import prediction_of
from providers.predictions import Prediction, PredictionRequest, PredictionUnknown
from providers.sandbox_predictions import TERMS, Refused, SandboxPredictions


class SandboxJobs(NothingOfItsOwn):
    """Serves PredictionProvider."""

    def __init__(self, name: str, predictions: SandboxPredictions | None = None) -> None:
        """`name` in the catalog."""
        self.name = name
        self.remembers = True
        self.repeatable = True
        self.poll_pauses_s = (TERMS.first_poll_s, TERMS.longest_poll_s)
        self._predictions = predictions or SandboxPredictions(now_ms)

    async def create(self, request: PredictionRequest) -> Prediction:
        """See PredictionProvider."""
        body: JsonObject = {"model": request.upstream_model, "input": request.body}
        try:
            prediction_id, behaviour, _ = self._predictions.create(body, request.key)
        except Refused as refused:
            raise error_of_status(refused.status, {"message": refused.message}, None) from refused
        await asyncio.sleep(behaviour.create_delay_ms / 1000)
        return prediction_of(TERMS, {"id": prediction_id, "status": "starting"}, "")

    async def read(self, prediction_id: str) -> Prediction:
        """See PredictionProvider."""
        try:
            return prediction_of(TERMS, self._predictions.read(prediction_id, ""), prediction_id)
        except Refused as refused:
            raise _unknown(refused) from refused

    async def cancel(self, prediction_id: str) -> bool:
        """See PredictionProvider."""
        try:
            self._predictions.cancel(prediction_id)
        except Refused:
            return True
        return True


def now_ms() -> int:
    """Unix milliseconds."""
    return int(now().timestamp() * 1000)


def _unknown(refused: Refused) -> ProviderError:
    return PredictionUnknown() if refused.status == 404 else error_of_status(refused.status, None, None)
