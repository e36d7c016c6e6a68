"""The parts of an input: what was read from a cache, what was written to one, and what of that for the longer life."""


def parts_within(input_tokens: int, cached: int, written: int, written_long: int) -> tuple[int, int, int]:
    """The three parts cut to what they are part of, no token counted twice; `written_long` is at most `written`.

    What is too much is taken from the dearest: of the written before the cached, of the long life before the short.
    """
    cached = min(cached, input_tokens)
    short = written - written_long
    written = min(written, input_tokens - cached)
    return cached, written, max(0, written - short)
