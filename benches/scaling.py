#!/usr/bin/env python3
"""A MODEL of the time of an optimizer step on 1 to 64 H100s. Nothing here was measured on a GPU.

    python3 benches/scaling.py             # the table of benches/README.md
    python3 benches/scaling.py --pairs 128 # pairs of a step (default 64)
    python3 benches/scaling.py --network ethernet
    python3 benches/scaling.py --after     # as if nothing overlapped
    python3 benches/scaling.py --sharded   # with sharded weights whose gathers are hidden

What it rests on:

* Computation: the share of the peak (989.5 TFLOP/s dense bfloat16, NVIDIA's H100 SXM data sheet) that a roofline of this
  program's own launches gives on one GPU, for LoRA r 128 and pairs of 1,024 prompt and 2 x 1,023 completion tokens, by model
  and pairs in a pack. Attention's and the products' efficiencies in it come from the compiled kernels, not from runs.
  Training all weights is taken to reach the same share, with half as much work again (gradients of the weights).
* Communication: bytes over the bus bandwidth that nccl-tests report, and a latency for each call.
  On one machine 476 GB/s for an all-reduce with NVLink SHARP, "in the expected range for H100", and 46 to 48 GB/s for each
  400 Gb/s InfiniBand adapter, eight in a machine: https://github.com/NVIDIA/nccl-tests/issues/290 (NVIDIA's answer).
  Reductions to one rank and broadcasts have no SHARP: 80 % of NVLink 4's 450 GB/s a direction is assumed for them.
  Ethernet: one adapter of 100 Gb/s a machine at 90 %.
* The program as it is: float32 gradients are summed in buckets of up to 2^23 values behind the backward pass of a rank's last
  pack, taken as two thirds of the pack's time; the embedding's come at its end. With all weights `zero_stage = 1`, so gradients
  are reduced to owners and 16-bit weights are broadcast after the update, beside nothing. Packs are dealt whole, of at most
  eight pairs. That NCCL's kernels slow down those beside them is not in it. `--after` is the exchange after the backward pass instead.
* Memory: 80 GB a GPU; 16-bit weights, float32 gradients, moments and master copies, 8 GB for the rest. A model that does not
  fit is shown as `-`: `zero_stage = 3` is not modelled as it is. `--sharded` is what it could give: all of a model's state
  divided by the GPUs, each block's weights gathered in both passes over every pack, while the block before is computed.
"""

import argparse

PEAK = 989.5e12
MEMORY, REST = 80e9, 8e9
PROMPT, COMPLETION, RANK = 1024, 1023, 128
PAIR = PROMPT + 2 * COMPLETION

NVLINK_SUM, NVLINK_OTHER = 476e9, 0.8 * 450e9
NETWORK = {"infiniband": 8 * 47e9, "ethernet": 0.9 * 100e9 / 8}
# A call of NCCL on one machine and on several, and two exchanges of log-probs a step with the objective between them.
CALL, CALL_FAR, EXCHANGES = 20e-6, 60e-6, 0.7e-3
MACHINE = 8
BUCKET, FEWEST_BUCKETS = 2**23, 16
SPREADS = 64  # calls that send weights
PACK = 8  # pairs of a pack at most
BACKWARD = 2 / 3  # of a pack's time

# name: hidden, inner, blocks, heads, heads of keys, width of a head, vocabulary, tied head;
# share of the peak with 1, 2, 4 and 8 pairs in a pack
MODELS = {
    "1.5 B": ((1536, 8960, 28, 12, 2, 128, 151936, True), (0.249, 0.306, 0.354, 0.393)),
    "7 B": ((3584, 18944, 28, 28, 4, 128, 152064, False), (0.427, 0.474, 0.511, 0.522)),
    "14 B": ((5120, 13824, 48, 40, 8, 128, 152064, False), (0.468, 0.507, 0.525, 0.529)),
    "32 B": ((5120, 27648, 64, 40, 8, 128, 152064, False), (0.530, 0.564, 0.579, 0.581)),
    "70 B": ((8192, 28672, 80, 64, 8, 128, 128256, False), (0.578, 0.611, 0.614, 0.622)),
}


def sizes(shape):
    """Parameters, those that a token passes through, and those of the adapters."""
    hidden, inner, blocks, heads, kv, width, vocabulary, tied = shape
    queries, keys = heads * width, kv * width
    block = hidden * (2 * queries + 2 * keys) + 3 * hidden * inner
    adapter = RANK * (2 * (hidden + queries) + 2 * (hidden + keys) + 3 * (hidden + inner))
    embeddings = vocabulary * hidden * (1 if tied else 2)
    return blocks * block + embeddings, blocks * block, blocks * adapter


def work(shape, lora):
    """Operations of a pair: forward, backward, and gradients of what is trained; the head reads completions alone."""
    hidden, _, blocks, heads, _, width, vocabulary, _ = shape
    _, body, adapters = sizes(shape)
    visible = PROMPT**2 / 2 + 2 * (COMPLETION**2 / 2 + COMPLETION * PROMPT)
    attention = 12 * visible * heads * width * blocks
    head = (4 if lora else 6) * 2 * COMPLETION * hidden * vocabulary
    linear = 4 * body + 6 * adapters if lora else 6 * body
    return PAIR * linear + attention + head


def share(shares, pairs):
    """Share of the peak with so many pairs in each pack, at most eight."""
    known = [(1, shares[0]), (2, shares[1]), (4, shares[2]), (8, shares[3])]
    return max(value for at, value in known if at <= max(1, pairs))


def exchange(shape, gpus, lora, network):
    """Seconds of summing gradients, the share of them that the backward pass finishes last, and seconds of all that follows."""
    if gpus == 1:
        return 0.0, 0.0, 0.0
    parameters, _, adapters = sizes(shape)
    far = gpus > MACHINE
    ring = (gpus - 1) / gpus
    sums, others = (min(NVLINK_SUM, network), min(NVLINK_OTHER, network)) if far else (NVLINK_SUM, NVLINK_OTHER)
    trained = adapters if lora else parameters
    buckets = max(FEWEST_BUCKETS, trained / BUCKET)
    latency = (CALL_FAR if far else CALL) * buckets
    if lora:
        return 2 * ring * 4 * adapters / sums + latency, 1 / buckets, EXCHANGES
    embedding = shape[0] * shape[6] / parameters
    spread = ring * 2 * parameters / others + (CALL_FAR if far else CALL) * SPREADS
    return ring * 4 * parameters / others + latency, embedding, spread + EXCHANGES


def exposed(total, last, window):
    """Seconds of sums that a backward pass of `window` seconds does not hide."""
    return total * last + max(0.0, total * (1 - last) - window)


def gathers(shape, gpus, packs, network):
    """Seconds of gathering 16-bit weights, block by block, in the two passes over each pack."""
    bandwidth = min(NVLINK_OTHER, network) if gpus > MACHINE else NVLINK_OTHER
    return packs * 2 * (gpus - 1) / gpus * 2 * sizes(shape)[0] / bandwidth


def fits(shape, gpus, lora, sharded):
    parameters, _, adapters = sizes(shape)
    trained = adapters if lora else parameters
    if sharded:
        # Two blocks are whole at a time.
        return (2 * parameters + 16 * trained) / gpus + 4 * parameters / shape[2] + REST <= MEMORY
    # LoRA's moments are on every rank; masters and moments of all weights are dealt.
    owners = 1 if lora else gpus
    return 2 * parameters + 4 * trained + 12 * trained / owners + REST <= MEMORY


def step(name, gpus, lora, pairs, network, sharded, after):
    """Seconds of a step; None where it does not fit."""
    shape, shares = MODELS[name]
    if not fits(shape, gpus, lora, sharded):
        return None
    parameters, _, adapters = sizes(shape)
    most = -(-pairs // gpus)  # of the rank that has the most
    compute = most * work(shape, lora) / (PEAK * share(shares, most))
    packs = -(-most // PACK)
    if sharded and gpus > 1:
        compute = max(compute, gathers(shape, gpus, packs, network))
    trained = adapters if lora else parameters / gpus
    update = trained * 28 / 3e12 + 1e-3
    total, last, rest = exchange(shape, gpus, lora, network)
    # Gathers and sums would share the network.
    window = 0.0 if after or sharded else BACKWARD * compute / packs
    return compute + update + exposed(total, last, window) + rest


def main():
    parser = argparse.ArgumentParser(description="A model of steps on 1 to 64 H100s; see the top of the file.")
    parser.add_argument("--pairs", type=int, default=64, help="pairs of a step (default 64)")
    parser.add_argument("--network", choices=NETWORK, default="infiniband", help="between machines of eight GPUs")
    parser.add_argument("--after", action="store_true", help="as if gradients were summed after the backward pass")
    parser.add_argument("--sharded", action="store_true", help="with sharded weights whose gathers are hidden, which the program does not do yet")
    arguments = parser.parse_args()
    counts = [1, 2, 4, 8, 16, 32, 64]
    print("| model | " + " | ".join(f"{count} GPU" for count in counts) + " |")
    print("|---|" + "---|" * len(counts))
    for lora in (True, False):
        for name in MODELS:
            cells = []
            first = None
            for count in counts:
                network = NETWORK[arguments.network]
                seconds = step(name, count, lora, arguments.pairs, network, arguments.sharded, arguments.after)
                if seconds is None:
                    cells.append("-")
                    continue
                first = first or (seconds, count)
                speedup = first[0] * first[1] / seconds / count
                cells.append(f"{seconds:.2f} s ({100 * speedup:.0f} %)")
            print(f"| {name}, {'LoRA r 128' if lora else 'all weights'} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
