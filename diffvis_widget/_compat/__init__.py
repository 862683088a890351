"""Workarounds for other libraries, each with a link to the issue that it works around."""
