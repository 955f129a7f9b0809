#!/usr/bin/env python3
"""A model, not a measurement, of one optimizer step and of one step of sampling on an H200: what the code launches, and what
that should take.

    python benches/roofline.py            the tables of benches/README.md
    python benches/roofline.py --parts    and each configuration by its parts

The workload is Qwen2.5-1.5B with LoRA of rank 128 on all linear layers, without dropout, in bfloat16, eight pairs of a prompt of 1,024 tokens and
two completions of 1,024. Launches, FLOPs and bytes follow the source, operation by operation. Times come from a peak, a bandwidth
and rates that such kernels reach on Hopper GPUs; those of attention from instructions counted in its machine code. Nothing here was
measured on this code: the order of the parts is worth more than the numbers.
"""

import argparse
import heapq
import math
from dataclasses import dataclass, field, replace

# An H200.
MULTIPROCESSORS, CLOCK = 132, 1.75e9
PEAK = 989.5e12  # bfloat16, dense
REACHED = 790e12  # by cuBLAS' largest products
BANDWIDTH, PEAK_BANDWIDTH = 4.3e12, 4.8e12
L2_BYTES, L2_BANDWIDTH = 50e6, 4.2e12
GAP = 2.2e-6  # between dependent kernels of a stream
HOST = 8.0e-6  # of the host a launch
DRAIN = 0.75e-3  # of a pack: copies to the host that wait for the GPU

# Qwen2.5-1.5B and the adapters.
HIDDEN, INNER, LAYERS, HEADS, KV_HEADS, WIDTH, VOCABULARY, RANK = 1536, 8960, 28, 12, 2, 128, 151936, 128
KV = KV_HEADS * WIDTH
# Inputs, outputs, bias.
LINEARS = {
    "q": (HIDDEN, HIDDEN, True), "k": (HIDDEN, KV, True), "v": (HIDDEN, KV, True), "o": (HIDDEN, HIDDEN, False),
    "gate": (HIDDEN, INNER, False), "up": (HIDDEN, INNER, False), "down": (INNER, HIDDEN, False),
}
ADAPTERS = LAYERS * sum(RANK * (inputs + outputs) for inputs, outputs, _ in LINEARS.values())
PROMPT = COMPLETION = 1024
PAIRS = 8


@dataclass(frozen=True)
class Code:
    """What differs between versions of the source."""

    feed_forward_rows: int = 8192  # of a part, where blocks are recomputed
    copies_base: bool = False  # before an adapter's second product is added
    cuts_groups: bool = True  # of query heads that share keys, in the gradients of keys
    frozen_head: bool = True  # whose gradient comes on the way forth
    launches_per_parameter: int = 0  # of the optimizer
    launches_of_optimizer: int = 3
    rotary: float = 0.75  # of the bandwidth
    biases: float = 0.75
    # Cycles of a step of attention's blocks: one block alone on a multiprocessor, `blocks` of them together, and these. 64
    # keys of the forward pass take 192 loads of matrices from shared memory, 768 cycles, where 16 rows a warp took 288.
    forward: tuple = (2400, 4680, 4)
    queries: tuple = (1450, 3360, 3)
    keys: tuple = (1900, 3370, 2)
    stacks_a: bool = True  # one product for the A of queries, keys and values, one for those of gate and up
    adds_biases: bool = True  # as the product's epilogue, not before it


NOW = Code()
ROWS_16 = (2150, 4880, 3)  # attention's forward pass with 16 rows a warp
FIRST_ROUND = Code(512, True, False, False, 2, 0, 0.4, 0.35, (2300, 5200, 3), (2100, 4000, 3), (2600, 4000, 2), False, False)


@dataclass
class Part:
    launches: int = 0
    bytes: float = 0
    flops: float = 0
    seconds: float = 0


@dataclass
class Work:
    """Launches of one pack."""

    code: Code
    parts: dict = field(default_factory=dict)

    def add(self, name, seconds, size=0, flops=0, launches=1):
        part = self.parts.setdefault(name, Part())
        part.launches += launches
        part.bytes += size
        part.flops += flops
        part.seconds += seconds + launches * GAP

    def multiply(self, name, rows, columns, inner, out=2, accumulate=False):
        """rows × inner by inner × columns."""
        best = math.inf
        tiles = [(128, 256, 1.0), (256, 128, 1.0), (128, 128, 0.86), (64, 256, 0.8), (128, 64, 0.62), (64, 128, 0.62), (64, 64, 0.42)]
        for height, width, efficiency in tiles:
            for split in (1, 2, 4, 8, 16):
                if split > 1 and inner / split < 256:
                    continue
                waves = math.ceil(math.ceil(rows / height) * math.ceil(columns / width) * split / MULTIPROCESSORS)
                tile = 2 * height * width * inner / split / (REACHED / MULTIPROCESSORS * efficiency) + 1.8e-6
                sums = rows * columns * 4 * (split + 1) / BANDWIDTH * 0.7 + 1.5e-6 if split > 1 else 0
                best = min(best, waves * tile + sums)
        size = 2 * (rows * inner + columns * inner) + rows * columns * out * (2 if accumulate else 1)
        memory = size / (BANDWIDTH * 0.85 if size > L2_BYTES else L2_BANDWIDTH)
        self.add(name, max(best, memory), size, 2 * rows * columns * inner)

    def sweep(self, name, size, efficiency, launches=1):
        """Kernels that read and write memory."""
        bandwidth = BANDWIDTH if size > L2_BYTES else 1.4 * BANDWIDTH
        self.add(name, launches * (size / (bandwidth * efficiency) + 1.0e-6), launches * size, 0, launches)

    # Linear layers.

    def linears(self, names, rows):
        """Layers with the same input."""
        if self.code.stacks_a:
            inputs = LINEARS[names[0]][0]
            self.sweep("adapters", 4 * RANK * inputs, 0.4, len(names))  # copies of A
            self.multiply("adapters", rows, len(names) * RANK, inputs)
        for name in names:
            self.linear(name, rows, a=not self.code.stacks_a)

    def linear(self, name, rows, computed=True, a=True):
        inputs, outputs, bias = LINEARS[name]
        if a:
            self.multiply("adapters", rows, RANK, inputs)
        if not computed and not self.code.copies_base:
            return
        filled = bias and not self.code.adds_biases
        if filled:
            self.sweep("biases", 2 * rows * outputs, self.code.biases)
        if computed:
            self.multiply("base products", rows, outputs, inputs, accumulate=filled or not self.code.copies_base)
        if self.code.copies_base:
            self.sweep("copies of the base", 4 * rows * outputs, 0.5)
        self.multiply("adapters", rows, outputs, RANK, accumulate=filled or self.code.copies_base)

    def linears_back(self, names, rows, input_grad=True, accumulate=False):
        """Layers with the same input, whose gradient is the sum of theirs."""
        for index, name in enumerate(names):
            self.linear_back(name, rows, input_grad, accumulate or index > 0, a=not self.code.stacks_a)
        if self.code.stacks_a:
            inputs = LINEARS[names[0]][0]
            self.a_back(rows, inputs, len(names) * RANK, input_grad)
            self.sweep("adapters", 12 * RANK * inputs, 0.6, len(names))  # sums to the gradients of A

    def linear_back(self, name, rows, input_grad=True, accumulate=False, a=True):
        inputs, outputs, _ = LINEARS[name]
        self.multiply("adapters", rows, RANK, outputs)
        self.multiply("adapters", outputs, RANK, rows, out=4, accumulate=True)
        if input_grad:
            self.multiply("base products", rows, inputs, outputs, accumulate=accumulate)
        if a:
            self.a_back(rows, inputs, RANK, input_grad)

    def a_back(self, rows, inputs, ranks, input_grad):
        if input_grad:
            self.multiply("adapters", rows, inputs, ranks, accumulate=True)
        self.multiply("adapters", ranks, inputs, rows, out=4, accumulate=True)

    # Attention.

    def attention(self, spans):
        size = 2 * spans.tokens * (2 * HIDDEN + 2 * KV)
        self.add("attention", schedule(spans.steps("query", 1), self.code.forward), size, 4 * spans.visible * HEADS * WIDTH)

    def attention_back(self, spans):
        tokens, flops = spans.tokens, spans.visible * HEADS * WIDTH
        self.sweep("attention, queries' gradients", 4 * tokens * HIDDEN, 0.6)
        size = 2 * tokens * (3 * HIDDEN + 2 * KV)
        self.add("attention, queries' gradients", schedule(spans.steps("query", 2), self.code.queries), size, 6 * flops)
        group, blocks = HEADS // KV_HEADS, len(spans.tiles) * KV_HEADS
        cuts = [cut for cut in range(1, group + 1) if group % cut == 0 and blocks * cut >= 1024]
        cut = (cuts or [group])[0] if self.code.cuts_groups else 1
        jobs = [steps * (group // cut) for steps in spans.steps("key", 2, KV_HEADS * cut)]
        size = 2 * tokens * (2 * HIDDEN + 4 * KV)
        self.add("attention, keys' gradients", schedule(jobs, self.code.keys), size, 8 * flops)
        if cut > 1:
            self.sweep("attention, keys' gradients", 2 * tokens * KV * (4 * cut + 2), 0.8)

    # Blocks of the decoder. `rows` are those that go on after attention.

    def feed_forward(self, rows, computed=True, in_parts=False):
        for part in self.cut(rows, in_parts):
            if in_parts:
                self.sweep("sums of parts", 6 * part * HIDDEN, 0.8)
            self.sweep("norms", (4 if in_parts else 8) * part * HIDDEN, 0.8)
            self.linears(["gate", "up"], part)
            self.sweep("SwiGLU", 6 * part * INNER, 0.8)
            self.linear("down", part, computed)
        if in_parts:
            self.sweep("sums of parts", 4 * rows * HIDDEN, 0.8)

    def cut(self, rows, in_parts):
        most = self.code.feed_forward_rows if in_parts else rows
        return [min(most, rows - first) for first in range(0, rows, most)]

    def mixer(self, spans, rows):
        tokens = spans.tokens
        self.sweep("norms", 4 * tokens * HIDDEN, 0.8)
        self.linears("qkv", tokens)
        self.sweep("rotary", 4 * tokens * (HIDDEN + KV) / 2, self.code.rotary, 2)
        self.attention(spans)
        if rows < tokens:
            self.sweep("rows gathered", 4 * rows * HIDDEN, 0.6, 2)
        self.linear("o", rows)

    def block(self, spans, rows, in_parts=False):
        self.mixer(spans, rows)
        self.feed_forward(rows, in_parts=in_parts)

    def block_back(self, spans, rows, is_first, recomputed=False):
        tokens = spans.tokens
        if recomputed:
            self.mixer(spans, rows)
            self.sweep("sums of parts", 6 * tokens * HIDDEN, 0.8)
        for part in self.cut(rows, recomputed):
            if recomputed:
                self.feed_forward(part, computed=False)
            self.linear_back("down", part)
            self.sweep("SwiGLU", 10 * part * INNER, 0.8)
            self.linears_back(["up", "gate"], part)
            self.sweep("norms", 10 * part * HIDDEN, 0.8)
        self.linear_back("o", rows)
        if rows < tokens:
            self.sweep("rows gathered", 8 * tokens * HIDDEN / 6, 0.5, 6)
        self.attention_back(spans)
        self.sweep("rotary", 4 * tokens * (HIDDEN + KV) / 2, self.code.rotary, 2)
        self.linears_back("vkq", tokens, input_grad=not is_first)
        for name in "vkq":
            self.sweep("biases", 2 * tokens * LINEARS[name][1], 0.6, 2)
        if not is_first:
            self.sweep("norms", 10 * tokens * HIDDEN, 0.8)

    # The head, tile by tile.

    def head(self, rows):
        for count, columns in self.head_tiles(rows):
            self.multiply("head", count, columns, HIDDEN, out=4)
            self.sweep("head", 4 * count * columns, 0.75)
            if self.code.frozen_head:
                self.sweep("head", 6 * count * columns, 0.6)
                self.sweep("head", 4 * count, 0.5)
                self.multiply("head", count, HIDDEN, columns, out=4, accumulate=True)
        if self.code.frozen_head:
            self.sweep("head", 8 * rows * HIDDEN, 0.5)

    def head_back(self, rows):
        if self.code.frozen_head:
            self.sweep("head", 4 * rows * HIDDEN, 0.5)
            return
        for count, columns in self.head_tiles(rows):
            self.multiply("head", count, columns, HIDDEN, out=4)
            self.sweep("head", 6 * count * columns, 0.6)
            self.multiply("head", count, HIDDEN, columns, out=4, accumulate=True)
        self.sweep("head", 6 * rows * HIDDEN, 0.5)

    def head_tiles(self, rows):
        height = min(2048, rows)
        width = 2**25 // height // 128 * 128
        for first in range(0, rows, height):
            for column in range(0, VOCABULARY, width):
                yield min(height, rows - first), min(width, VOCABULARY - column)


def schedule(jobs, cycles):
    """Seconds of blocks that take so many steps each, the longest first."""
    alone, full, resident = cycles
    per = len(jobs) / MULTIPROCESSORS
    load = min(resident, max(1, per))
    step = (alone + (full - alone) * (load - 1) / (resident - 1)) / CLOCK
    places = MULTIPROCESSORS * min(resident, math.ceil(per)) if per >= 1 else max(1, len(jobs))
    ends = [0.0] * places
    for job in sorted(jobs, reverse=True):
        heapq.heappush(ends, heapq.heappop(ends) + job * step)
    return max(ends)


class Spans:
    """Prompts with two completions each, side by side."""

    def __init__(self, pairs):
        self.spans, at = [], 0
        for _ in range(pairs):
            prompt = (at, at + PROMPT)
            self.spans.append((at, at + PROMPT, None))
            at += PROMPT
            for _ in range(2):
                self.spans.append((at, at + COMPLETION - 1, prompt))
                at += COMPLETION - 1
        self.tokens, self.scored = at, 2 * COMPLETION * pairs
        self.visible = sum((e - s) * (e - s + 1) // 2 + (e - s) * (p[1] - p[0] if p else 0) for s, e, p in self.spans)
        self.tiles = [(first, min(e, first + 64), s, p) for s, e, p in self.spans for first in range(s, e, 64)]
        self.pairs = []
        for query, (_, end, start, prompt) in enumerate(self.tiles):
            for key, (first, last, own, _) in enumerate(self.tiles):
                in_prompt = prompt and first < prompt[1] and last > prompt[0]
                if in_prompt or (own == start and first < end):
                    self.pairs.append((query, key))

    def steps(self, owner, per_pair, heads=HEADS):
        """Steps of the blocks that own the tiles of queries or keys."""
        counts = {}
        for query, key in self.pairs:
            tile = query if owner == "query" else key
            counts[tile] = counts.get(tile, 0) + per_pair
        return [count for count in counts.values() for _ in range(heads)]


def model_flops(spans):
    """FLOPs that the model needs for a pack, without what is recomputed."""
    total = 12 * LAYERS * spans.visible * HEADS * WIDTH + 4 * spans.scored * HIDDEN * VOCABULARY
    for layer in range(LAYERS):
        for name, (inputs, outputs, _) in LINEARS.items():
            rows = spans.scored if layer == LAYERS - 1 and name not in "qkv" else spans.tokens
            total += 2 * rows * (2 * inputs * outputs + 3 * RANK * (inputs + outputs))
            if layer == 0 and name in "qkv":
                total -= 2 * rows * (inputs * outputs + RANK * inputs)
    return total


@dataclass
class Step:
    work: Work
    packs: int
    launches: int
    seconds: float
    flops: float
    tokens: int

    @property
    def utilization(self):
        return self.flops / self.seconds / PEAK


def step(code, packs, checkpointing=False):
    spans = Spans(PAIRS // packs)
    work = Work(code)
    rows = [spans.scored if layer == LAYERS - 1 else spans.tokens for layer in range(LAYERS)]
    for layer in range(LAYERS):
        work.block(spans, rows[layer], in_parts=checkpointing)
    work.head(spans.scored)
    work.head_back(spans.scored)
    for layer in reversed(range(LAYERS)):
        work.block_back(spans, rows[layer], layer == 0, recomputed=checkpointing)
    work.sweep("embedding and the rest", 4 * spans.tokens * HIDDEN, 0.7, 6)
    device = sum(part.seconds for part in work.parts.values())
    per_pack = sum(part.launches for part in work.parts.values())
    tensors = 2 * len(LINEARS) * LAYERS
    optimizer = tensors * code.launches_per_parameter + code.launches_of_optimizer
    seconds = (max(device, per_pack * HOST) + DRAIN) * packs + optimizer * 4e-6 + ADAPTERS * 28 / BANDWIDTH + 0.4e-3
    return Step(work, packs, per_pack * packs + optimizer, seconds, model_flops(spans) * packs, 2 * (PROMPT + COMPLETION) * PAIRS)


# Sampling: one token for each sequence of a batch, in bfloat16 without adapters.

SPLIT = 256  # tokens of the cache in a block of attention
GRAPH_GAP = 1.0e-6  # between kernels of a CUDA graph


@dataclass(frozen=True)
class Decoding:
    """What a step of sampling could have beside what it has."""

    graph: bool = False  # of CUDA, which launches it
    own_products: bool = False  # of few rows: the bandwidth's share of large copies; norms, SwiGLU and residuals within them
    attention: float = 0.7  # of the bandwidth


def decode(batch, context, how=Decoding()):
    """Launches of a step at so many tokens in the cache of each sequence, as crates/model/src/decode/device.rs makes them."""
    work = Work(NOW)
    for _ in range(LAYERS):
        if not how.own_products:
            work.sweep("norms", 8 * batch * HIDDEN, 0.8, 2)
        for outputs, inputs in [(HIDDEN + 2 * KV, HIDDEN), (HIDDEN, HIDDEN), (2 * INNER, HIDDEN), (HIDDEN, INNER)]:
            if how.own_products:
                size = 2 * (batch * (inputs + outputs) + inputs * outputs)
                work.add("products", size / (0.85 * BANDWIDTH) + 1.0e-6, size, 2 * batch * inputs * outputs)
            else:
                work.multiply("products", batch, outputs, inputs)
        work.sweep("bias, rotation, cache", 4 * batch * (HIDDEN + 2 * KV), 0.5)
        # A multiprocessor holds six blocks with a tile of 17 kB in flight each; multiplications and reads of shared memory
        # take about three quarters of the time that the tile takes from memory: 70 % of the bandwidth at most.
        work.sweep("attention", 4 * batch * context * KV, how.attention)
        # The last block of a head joins its splits: a launch less, the same traffic, mostly of the L2 cache.
        splits = math.ceil(context / SPLIT)
        joined = 4 * batch * HEADS * WIDTH * splits * 2
        work.add("attention", joined / (1.4 * BANDWIDTH * 0.7) + 1.0e-6, joined, launches=0)
        if not how.own_products:
            work.sweep("SwiGLU", 6 * batch * INNER, 0.8)
    work.sweep("embedding and the rest", 4 * batch * HIDDEN, 0.7, 7)  # of them five copies to the GPU
    work.multiply("head", batch, VOCABULARY, HIDDEN, out=4)
    # Of the draw: logits three times from the L2 cache, and 60 integer instructions for each random number.
    numbers = batch * VOCABULARY * 60 / (MULTIPROCESSORS * 64 * CLOCK)
    work.sweep("draw", 4 * batch * VOCABULARY, 0.8, 2)
    work.add("draw", numbers + 4 * batch * VOCABULARY / BANDWIDTH, 4 * batch * VOCABULARY, 0)
    work.sweep("draw", 64 * batch, 0.1, 4)  # a row's end, settings to the GPU, tokens to the host
    return work


def decode_row(batch, context, how):
    work = decode(batch, context, how)
    launches = sum(part.launches for part in work.parts.values())
    device = sum(part.seconds for part in work.parts.values())
    needed = 2 * (LAYERS * sum(i * o for i, o, _ in LINEARS.values()) + VOCABULARY * HIDDEN)
    needed += 4 * batch * context * KV * LAYERS
    bound = needed / PEAK_BANDWIDTH
    if how.graph:
        device -= launches * (GAP - GRAPH_GAP)
    return launches, bound, device, device if how.graph else max(device, launches * HOST)


def print_decode(parts):
    print("\n| sampling, 1,024 tokens in the cache of each sequence | launches a step | bound, ms | GPU, ms | step, ms | of the bound | tokens/s |")
    print("|---|---|---|---|---|---|---|")
    rows = [("", batch, Decoding()) for batch in (16, 64, 256)]
    rows += [
        (", not built: by a CUDA graph", 64, Decoding(graph=True)),
        (", not built: products of its own", 64, Decoding(own_products=True)),
        (", not built: both", 64, Decoding(graph=True, own_products=True)),
        (", not built: both, attention at 85 % of the bandwidth", 64, Decoding(True, True, 0.85)),
    ]
    for name, batch, how in rows:
        launches, bound, device, seconds = decode_row(batch, 1024, how)
        cells = [f"{batch} sequences{name}", launches, f"{1e3 * bound:.2f}", f"{1e3 * device:.2f}", f"{1e3 * seconds:.2f}"]
        cells += [f"{100 * bound / seconds:.0f} %", f"{batch / seconds:,.0f}"]
        print("| " + " | ".join(map(str, cells)) + " |")
    if parts:
        print("\n64 sequences:\n\n| part | launches | GB | ms |\n|---|---|---|---|")
        for part, of in sorted(decode(64, 1024).parts.items(), key=lambda item: -item[1].seconds):
            print(f"| {part} | {of.launches} | {of.bytes / 1e9:.2f} | {1e3 * of.seconds:.2f} |")


def print_parts(name, result):
    print(f"\n{name}, of {result.packs} packs:\n")
    print("| part | launches | GB | TFLOP | ms | TFLOP/s |\n|---|---|---|---|---|---|")
    for part, of in sorted(result.work.parts.items(), key=lambda item: -item[1].seconds):
        n = result.packs
        rate = f"{of.flops / of.seconds / 1e12:.0f}" if of.flops else ""
        cells = [f"{of.launches * n:,}", f"{of.bytes * n / 1e9:.1f}", f"{of.flops * n / 1e12:.1f}", f"{of.seconds * n * 1e3:.1f}", rate]
        print(f"| {part} | " + " | ".join(map(str, cells)) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", action="store_true", help="tables by part")
    chosen = parser.parse_args()
    before = replace(FIRST_ROUND)
    rows = [("first round", before, 8, False)]
    changes = [
        ("gradients of keys by query head", dict(cuts_groups=True)),
        ("adapted layers as one operation", dict(copies_base=False)),
        ("attention's inner loops", dict(forward=ROWS_16, queries=NOW.queries, keys=NOW.keys)),
        ("one launch for the optimizer", dict(launches_per_parameter=0, launches_of_optimizer=3)),
        ("frozen head on the way forth", dict(frozen_head=True)),
        ("rotary and biases 16 bytes at a time", dict(rotary=NOW.rotary, biases=NOW.biases)),
        ("A products stacked", dict(stacks_a=True)),
        ("biases as epilogues", dict(adds_biases=True)),
        ("32 rows a warp in attention's forward pass", dict(forward=NOW.forward)),
    ]
    code = before
    for text, change in changes:
        code = replace(code, **change)
        rows.append((f"+ {text}", code, 8, False))
    rows += [("now, four packs", NOW, 4, False), ("now, one pack", NOW, 1, False)]
    rows += [("one pack, without the last three", replace(NOW, stacks_a=False, adds_biases=False, forward=ROWS_16), 1, False)]
    rows += [("first round, one pack", before, 1, False)]
    rows += [("first round, recomputed blocks, four packs", before, 4, True), ("now, recomputed blocks, four packs", NOW, 4, True)]
    print("| code, eight packs unless said otherwise | launches a step | ms | MFU | tokens/s |\n|---|---|---|---|---|")
    results = {}
    for name, code, packs, checkpointing in rows:
        result = results[name] = step(code, packs, checkpointing)
        utilization, speed = f"{100 * result.utilization:.0f} %", f"{result.tokens / result.seconds:,.0f}"
        print(f"| {name} | {result.launches:,} | {1e3 * result.seconds:.0f} | {utilization} | {speed} |")
    print_decode(chosen.parts)
    if chosen.parts:
        for name in ("first round", "now, one pack"):
            print_parts(name, results[name])


if __name__ == "__main__":
    main()
