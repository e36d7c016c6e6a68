"""Inputs of model calls."""

import strawberry

from gateway.payloads import (
    CallPayload,
    ChatMessage,
    ChatPayload,
    ContentPart,
    CustomPayload,
    EmbeddingPayload,
    ImagePayload,
    SpeechPayload,
    VideoPayload,
)
from resolvers.calls import CallAsk
from schema.enums import ChatRole
from schema.inputs.values import as_tuple, given
from schema.scalars import Credits, Json


@strawberry.input(description="A part of a message: a text, a picture, a sound")
class ContentPartInput:
    """The contract's ContentPartInput."""

    type: str = strawberry.field(description="Its type in OpenAI's form: text, image_url, input_audio …")
    text: str | None = strawberry.field(default=strawberry.UNSET, description="The text")
    image_url: str | None = strawberry.field(
        default=strawberry.UNSET, description="The picture's address, or data: with it"
    )
    audio_url: str | None = strawberry.field(
        default=strawberry.UNSET, description="The sound's address, or data: with it"
    )
    extra: Json | None = strawberry.field(
        default=strawberry.UNSET, description="Further fields of the part, as an object"
    )

    def part(self) -> ContentPart:
        """As the gateway takes it."""
        return ContentPart(self.type, given(self.text), given(self.image_url), given(self.audio_url), given(self.extra))


@strawberry.input(description="A message of a chat")
class ChatMessageInput:
    """The contract's ChatMessageInput."""

    role: ChatRole = strawberry.field(description="Who says it")
    content: str | None = strawberry.field(default=strawberry.UNSET, description="What is said; give this or `parts`")
    parts: list[ContentPartInput] | None = strawberry.field(
        default=strawberry.UNSET, description="What is said, in parts; give this or `content`"
    )
    name: str | None = strawberry.field(default=strawberry.UNSET, description="The speaker's name")
    tool_calls: Json | None = strawberry.field(
        default=strawberry.UNSET, description="The tools that the assistant called, in OpenAI's form"
    )
    tool_call_id: str | None = strawberry.field(default=strawberry.UNSET, description="Which tool call this answers")

    def message(self) -> ChatMessage:
        """As the gateway takes it."""
        parts = as_tuple(self.parts)
        return ChatMessage(
            role=self.role,
            content=given(self.content),
            parts=None if parts is None else tuple(part.part() for part in parts),
            name=given(self.name),
            tool_calls=given(self.tool_calls),
            tool_call_id=given(self.tool_call_id),
        )


@strawberry.input(description="What a chat model is asked")
class ChatInput:
    """The contract's ChatInput."""

    messages: list[ChatMessageInput] = strawberry.field(description="The chat so far")
    max_output_tokens: int | None = strawberry.field(
        default=strawberry.UNSET, description="The most tokens to make; bounds what is held"
    )
    temperature: float | None = strawberry.field(default=strawberry.UNSET, description="How much chance: 0 for none")
    top_p: float | None = strawberry.field(
        default=strawberry.UNSET, description="Choose among the likeliest tokens only"
    )
    stop: list[str] | None = strawberry.field(default=strawberry.UNSET, description="Texts at which to stop")
    tools: Json | None = strawberry.field(default=strawberry.UNSET, description="Tools it may call, in OpenAI's form")
    response_format: Json | None = strawberry.field(
        default=strawberry.UNSET, description="The form of the answer, in OpenAI's form"
    )

    def payload(self) -> ChatPayload:
        """As the gateway takes it."""
        return ChatPayload(
            messages=tuple(message.message() for message in self.messages),
            max_output_tokens=given(self.max_output_tokens),
            temperature=given(self.temperature),
            top_p=given(self.top_p),
            stop=as_tuple(self.stop),
            tools=given(self.tools),
            response_format=given(self.response_format),
        )


@strawberry.input(description="What an embedding model is asked")
class EmbeddingInput:
    """The contract's EmbeddingInput."""

    texts: list[str] = strawberry.field(description="The texts to embed")
    dimensions: int | None = strawberry.field(default=strawberry.UNSET, description="The length of each vector")


@strawberry.input(description="What an image model is asked")
class ImageInput:
    """The contract's ImageInput."""

    prompt: str = strawberry.field(description="What to show")
    count: int | None = strawberry.field(default=1, description="How many pictures")
    size: str | None = strawberry.field(default="1024x1024", description="Width x height")


@strawberry.input(description="What a video model is asked")
class VideoInput:
    """The contract's VideoInput."""

    prompt: str = strawberry.field(description="What to show")
    seconds: int = strawberry.field(default=5, description="How long")
    size: str | None = strawberry.field(default=strawberry.UNSET, description="Width x height")


@strawberry.input(description="What a speech model is asked")
class AudioInput:
    """The contract's AudioInput."""

    text: str = strawberry.field(description="What to say")
    voice: str | None = strawberry.field(default=strawberry.UNSET, description="In which voice")
    format: str | None = strawberry.field(default="mp3", description="In which file format")


@strawberry.input(description="What the model is asked: exactly one of these", one_of=True)
class CallPayloadInput:
    """The contract's CallPayloadInput."""

    chat: ChatInput | None = strawberry.field(default=strawberry.UNSET, description="For a TEXT model")
    embedding: EmbeddingInput | None = strawberry.field(default=strawberry.UNSET, description="For an EMBEDDING model")
    image: ImageInput | None = strawberry.field(default=strawberry.UNSET, description="For an IMAGE model")
    video: VideoInput | None = strawberry.field(default=strawberry.UNSET, description="For a VIDEO model")
    audio: AudioInput | None = strawberry.field(default=strawberry.UNSET, description="For an AUDIO model")
    custom: Json | None = strawberry.field(
        default=strawberry.UNSET, description="The body of OpenAI's REST form, for what the others cannot say"
    )

    def payload(self) -> CallPayload:
        """As the gateway takes it."""
        if (chat := given(self.chat)) is not None:
            return chat.payload()
        if (embedding := given(self.embedding)) is not None:
            return EmbeddingPayload(tuple(embedding.texts), given(embedding.dimensions))
        if (image := given(self.image)) is not None:
            return ImagePayload(image.prompt, given(image.count), given(image.size))
        if (video := given(self.video)) is not None:
            return VideoPayload(video.prompt, video.seconds, given(video.size))
        if (audio := given(self.audio)) is not None:
            return SpeechPayload(audio.text, given(audio.voice), given(audio.format))
        return CustomPayload(given(self.custom))


@strawberry.input(description="A model call")
class ModelCallInput:
    """The contract's ModelCallInput."""

    workspace_id: strawberry.ID | None = strawberry.field(
        default=strawberry.UNSET, description="May be left out with an API key: a key belongs to one workspace"
    )
    model: str = strawberry.field(description="The model's slug")
    payload: CallPayloadInput = strawberry.field(description="What it is asked")
    idempotency_key: str | None = strawberry.field(
        default=strawberry.UNSET, description="The same key and input give the first answer again, charged once"
    )
    max_credits: Credits | None = strawberry.field(
        default=strawberry.UNSET, description="Refuse the call if it could cost more"
    )
    cache: bool | None = strawberry.field(
        default=strawberry.UNSET,
        description="`callModel`: whether the answer of an equal call of the workspace will do; null: as the API key says",
    )

    def ask(self) -> CallAsk:
        """As resolvers take it."""
        return CallAsk(
            model=self.model,
            payload=self.payload.payload(),
            workspace_id=given(self.workspace_id),
            idempotency_key=given(self.idempotency_key),
            max_credits_micro=given(self.max_credits),
            cache=given(self.cache),
        )
