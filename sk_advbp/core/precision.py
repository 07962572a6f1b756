"""Where bfloat16 is worth its rounding: a sign needs few bits."""

from __future__ import annotations

import torch

__all__ = ["pays_in_bfloat16"]

# Rows of a batch times parameters, the multiplications of one forward pass, from which on the
# first pass is faster in bfloat16, the weights' conversion included. Measured for batches of
# 32 to 512 and two hidden layers of 100 to 1,200 units (benchmarks/speed/precision.py).
LARGE_PASS = 4e7


def has_bfloat16_products(device: str | torch.device) -> bool:
    """Return whether matrix products in bfloat16 are native on `device`.

    On processors that takes AMX or AVX512-BF16, on CUDA compute capability 8.0.
    """
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type != "cpu":
        return False
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def pays_in_bfloat16(device: str | torch.device, multiplications: int) -> bool:
    """Return whether a forward pass of so many multiplications is faster in bfloat16."""
    return multiplications >= LARGE_PASS and has_bfloat16_products(device)
