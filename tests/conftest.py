"""What every test shares. The limits below must be in force before torch and the tokenizers are imported."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["HF_HUB_OFFLINE"] = "1"  # a test that would download fails at once

import pytest

from tests import chromium as browser


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of the browser to drive; the test fails, never skips, where there is none."""
    return str(browser.find())
