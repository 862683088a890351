"""Trace files: safetensors with a JSON header, written whole or not at all, and read without trust."""
