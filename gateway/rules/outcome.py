"""What a finished call is charged for: from the provider's usage where it is believable, else from what was counted.

| what happened | charged | estimated |
| --- | --- | --- |
| answered, usage reported | the reported usage | no |
| answered, no usage, or one that contradicts itself | bytes in and out, 4 to a token, within the call's bound | yes |
| failed before any output | nothing | – |
| failed, or the client left, after output was produced | input and the output forwarded so far, likewise | yes |
"""

from typing import Final

from gateway.rules.requests import RequestShape
from metering.operations import UsageFacts
from providers.base import Usage

ESTIMATED_BYTES_PER_TOKEN: Final = 4
"""The usual length of a token of English text; the ground for usage that no provider reported."""


def usage_facts(
    reported: Usage | None, shape: RequestShape, bound: UsageFacts, content_bytes: int, provider: str
) -> UsageFacts:
    """The usage of a call that produced output; `bound` caps what is estimated, never what is reported."""
    if reported is not None:
        return UsageFacts(
            input_tokens=reported.input_tokens,
            cached_input_tokens=reported.cached_input_tokens,
            output_tokens=reported.output_tokens,
            reasoning_tokens=reported.reasoning_tokens,
            requests=reported.requests,
            images=reported.images,
            seconds=reported.seconds,
            characters=reported.characters,
            estimated=not reported.reported,
            provider=provider,
        )
    return UsageFacts(
        input_tokens=min(-(-shape.input_bytes // ESTIMATED_BYTES_PER_TOKEN), bound.input_tokens),
        output_tokens=min(-(-content_bytes // ESTIMATED_BYTES_PER_TOKEN), bound.output_tokens),
        requests=1,
        images=bound.images,
        seconds=bound.seconds,
        characters=bound.characters,
        estimated=True,
        provider=provider,
    )
