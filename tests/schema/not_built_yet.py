"""What of the contract is not built yet. The list only shrinks, and is empty in the end."""

NOT_BUILT_YET: frozenset[str] = frozenset()
