"""Products in full float32, whatever precision the process has chosen, without switching it."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch

from diffvis_widget._compat import float32_matmul
from diffvis_widget._compat.float32_matmul import matmul_float32, rounds_float32


def factors(shape: tuple[int, ...] = (3,)) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    return 3 * torch.randn(*shape, 40, 64, generator=random), torch.randn(*shape, 64, 77, generator=random)


def rounded_to_tf32(values: torch.Tensor) -> torch.Tensor:
    """Keep the 10 leading bits of the mantissa, as the hardware does."""
    return (values.view(torch.int32) & -(2**13)).view(torch.float32)


def test_the_product_is_exact_where_the_hardware_rounds_factors(monkeypatch: pytest.MonkeyPatch) -> None:
    left, right = factors()
    exact = left.double() @ right.double()
    size = left.double().abs() @ right.double().abs()
    multiply = torch.matmul
    roundings: list[Any] = [rounded_to_tf32, lambda values: values.bfloat16().float()]
    for rounding in roundings:
        plain = multiply(rounding(left), rounding(right))
        assert ((plain - exact).abs() / size).max() > 1e-4
        with monkeypatch.context() as patch:
            patch.setattr(float32_matmul, "rounds_float32", lambda device: True)
            patch.setattr(torch, "matmul", lambda a, b, r=rounding: multiply(r(a), r(b)))
            split = matmul_float32(left, right, 0.5)
        assert ((2 * split - exact).abs() / size).max() < 1e-6


@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_elsewhere_it_is_one_product(shape: tuple[int, ...]) -> None:
    left, right = factors(shape)
    assert torch.equal(matmul_float32(left, right), left @ right)
    torch.testing.assert_close(matmul_float32(left, right, 0.25), 0.25 * (left @ right))


def run(code: str) -> str:
    """Run code in a process of its own: the setting is process-wide."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


# in an order that no interface refuses: the older one raises after the newer one was used
SETTINGS = {
    "pass": False,
    "torch.backends.cuda.matmul.allow_tf32 = True": True,
    "torch.set_float32_matmul_precision('highest')": False,
    "torch.set_float32_matmul_precision('high')": True,
    "torch.backends.cuda.matmul.fp32_precision = 'ieee'": False,
    "torch.backends.cuda.matmul.fp32_precision = 'tf32'": True,
    "torch.backends.cuda.matmul.fp32_precision = 'none'": False,
    "torch.backends.fp32_precision = 'tf32'": True,
}


@pytest.mark.skipif(not hasattr(torch.backends.cuda.matmul, "fp32_precision"), reason="needs torch 2.9")
def test_the_setting_is_read_whichever_interface_made_it() -> None:
    lines = ["import torch", "from diffvis_widget._compat.float32_matmul import rounds_float32"]
    for setting in SETTINGS:
        lines += [setting, "print(rounds_float32(torch.device('cuda')))"]
    assert run("\n".join(lines)).split() == [str(expected) for expected in SETTINGS.values()]


@pytest.mark.skipif(not hasattr(torch.backends.cuda.matmul, "fp32_precision"), reason="needs torch 2.9")
def test_reading_the_older_interface_still_raises() -> None:
    """When this fails, `rounds_float32` may read `allow_tf32` again."""
    code = (
        "import torch; torch.backends.cuda.matmul.fp32_precision = 'tf32'\n"
        "try: print(torch.backends.cuda.matmul.allow_tf32)\n"
        "except RuntimeError: print('raises')"
    )
    assert run(code) == "raises"


def test_before_torch_2_9_there_is_only_the_older_interface(monkeypatch: pytest.MonkeyPatch) -> None:
    class Matmul:
        allow_tf32 = True

    monkeypatch.setattr(torch.backends.cuda, "matmul", Matmul())
    assert rounds_float32(torch.device("cuda"))


def test_a_device_without_such_products() -> None:
    assert not rounds_float32(torch.device("meta"))
