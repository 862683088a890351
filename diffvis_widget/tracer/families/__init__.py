"""The model families: where each keeps its text tokens, and what is special about it."""
