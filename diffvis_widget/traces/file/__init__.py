"""The trace file: writing, reading and validating it."""
