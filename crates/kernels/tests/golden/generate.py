"""Makes bitsandbytes.safetensors: what bitsandbytes' CPU build quantises, dequantises and steps.

    pip install torch==2.15.0 bitsandbytes==0.50.2 safetensors==0.8.0
    python generate.py

values.<shape>; <type>.<single|double>.<shape>.codes and .values of four-bit blocks of 64, and with double quantisation the
scales' codes, their own scales and the offset; map.signed, map.unsigned; adamw.* of three steps with 8-bit moments, and with
32 bits.
"""
import pathlib
import torch
import bitsandbytes as bnb
import bitsandbytes.functional as F
from safetensors.torch import save_file

SEED = 20260
# The last has rows that are no whole blocks, of a width that keeps the library off its AVX-512 loop, which takes scales row
# by row there; and a last block that is not whole.
SHAPES = [(24, 128), (65, 256), (7, 50)]


def main():
    torch.manual_seed(SEED)
    store = {}
    for shape in SHAPES:
        name = "x".join(map(str, shape))
        values = torch.randn(shape) * torch.rand(shape[0], 1)
        values[1, :4] = torch.tensor([0.0, -0.0, 1.0, -1.0])
        values.flatten()[: 64] = 0.0 if shape == (24, 128) else values.flatten()[: 64]
        store[f"values.{name}"] = values
        for kind in ("nf4", "fp4"):
            for double in (False, True):
                codes, state = F.quantize_4bit(values, blocksize=64, quant_type=kind, compress_statistics=double)
                key = f"{kind}.{'double' if double else 'single'}.{name}"
                store[f"{key}.codes"] = codes.flatten()
                if shape != SHAPES[1] or double:
                    store[f"{key}.values"] = F.dequantize_4bit(codes, state)
                store[f"{key}.scales"] = state.absmax
                if double:
                    store[f"{key}.nested_scales"] = state.state2.absmax
                    store[f"{key}.offset"] = state.offset.reshape(1)
    store["map.signed"] = F.create_dynamic_map(True)
    store["map.unsigned"] = F.create_dynamic_map(False)

    start = torch.randn(64, 64)
    gradients = [torch.randn(64, 64) * torch.rand(64, 1) ** 2 for _ in range(3)]
    store["adamw.start"] = start.clone()
    store |= {f"adamw.gradient.{step}": gradient.clone() for step, gradient in enumerate(gradients)}
    for bits in (8, 32):
        parameter = torch.nn.Parameter(start.clone())
        optimizer = bnb.optim.AdamW([parameter], lr=1e-2, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1, optim_bits=bits)
        for step, gradient in enumerate(gradients):
            parameter.grad = gradient.clone()
            optimizer.step()
            store[f"adamw.{bits}.{step}"] = parameter.detach().clone()
    here = pathlib.Path(__file__).parent
    save_file({key: value.contiguous() for key, value in store.items()}, here / "bitsandbytes.safetensors")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
