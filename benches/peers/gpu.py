"""Training steps on a GPU: `smpo bench step` beside a plain PyTorch loop and TRL, one shape, one run.

    pip install torch transformers trl peft datasets liger-kernel
    cargo build --release --no-default-features --features cuda
    python benches/peers/gpu.py --shape qwen2.5-1.5b --lora-r 128 --length 2048 --batch-size 8
    python benches/peers/gpu.py --device cpu --shape tiny --lora-r 4 --length 64 --batch-size 2   # proves the script

All trainers train the same sizes with random weights on as many random tokens: each side `--length` tokens, half of them
the prompt's, so that padding costs nobody anything. bfloat16 on a GPU, float32 on the CPU. Tokens are counted
prompt and completion, the prompt once a side. A peer that runs out of memory starts again with half its micro-batch.
Memory is the most that was allocated on the device; on the CPU it is the peak resident set.
"""
import argparse, importlib.util, json, os, pathlib, statistics, subprocess, sys, tempfile, time

ROOT = pathlib.Path(__file__).resolve().parents[2]
#: hidden, feed-forward, blocks, heads, key heads, vocabulary, tied: as `smpo bench step` has them.
SHAPES = {
    "tiny": (64, 128, 2, 4, 2, 512, True),
    "qwen2.5-0.5b": (896, 4864, 24, 14, 2, 151936, True),
    "qwen2.5-1.5b": (1536, 8960, 28, 12, 2, 151936, True),
    "qwen2.5-7b": (3584, 18944, 28, 28, 4, 152064, False),
}
MODULES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
OUT_OF_MEMORY = 75


def ours(args):
    command = [args.smpo, "bench", "step", "--format", "json", "--device", args.device, "--shape", args.shape,
               "--length", args.length, "--batch-size", args.batch_size, "--steps", args.steps, "--warmup", args.warmup]
    command += ["--lora-r", args.lora_r] if args.lora_r else []
    command += ["--checkpointing"] if args.checkpointing else []
    command += args.smpo_option
    done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        return None
    report = json.loads(done.stdout)
    return dict(tokens_per_s=report["tokens_per_s"]["median"], memory=report["peak_memory_bytes"], mfu=report["mfu"],
                name=report["device_name"], note="")


def peer(args, trainer):
    micro = args.batch_size
    while micro:
        job = {**vars(args), "trainer": trainer, "micro": micro, "smpo": None}
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(job, file, default=str)
            file.flush()
            done = subprocess.run([sys.executable, __file__, "--job", file.name], stdout=subprocess.PIPE, text=True,
                                  stderr=None if args.verbose else subprocess.DEVNULL)
        if done.returncode == OUT_OF_MEMORY:
            micro //= 2
            continue
        if done.returncode:
            return None
        found = json.loads(done.stdout.splitlines()[-1])
        tokens = 2 * args.batch_size * args.length
        found["tokens_per_s"] = tokens / statistics.median(found.pop("seconds")[args.warmup:])
        found["note"] += f"micro-batch {micro}" if micro < args.batch_size else ""
        return found
    return None


def run_job(job):
    """In a process of its own: what it takes is no other's."""
    import torch

    gpu = job["device"].startswith("cuda")
    try:
        seconds, note = (torch_smpo if job["trainer"] == "torch-smpo" else trl_simpo)(job, torch, gpu)
    except torch.OutOfMemoryError:
        sys.exit(OUT_OF_MEMORY)
    import resource
    memory = torch.cuda.max_memory_allocated() if gpu else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps(dict(seconds=seconds, memory=memory, note=note)))


def make_model(job, torch, gpu):
    from transformers import AutoModelForCausalLM, Qwen2Config

    hidden, inner, layers, heads, kv_heads, vocabulary, tied = SHAPES[job["shape"]]
    config = Qwen2Config(vocab_size=vocabulary, hidden_size=hidden, intermediate_size=inner, num_hidden_layers=layers,
                         num_attention_heads=heads, num_key_value_heads=kv_heads, max_position_embeddings=32768,
                         tie_word_embeddings=tied, rope_theta=1e6, bos_token_id=None, eos_token_id=1, pad_token_id=0)
    torch.manual_seed(0)
    with torch.device(job["device"]):
        return AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16 if gpu else torch.float32)


def lora(job):
    from peft import LoraConfig

    r = job["lora_r"]
    return LoraConfig(r=r, lora_alpha=2 * r, target_modules=MODULES, task_type="CAUSAL_LM") if r else None


def torch_smpo(job, torch, gpu):
    """A loop over the regular SMPO loss with full logits, as the published trainer has it."""
    model = make_model(job, torch, gpu)
    if job["lora_r"]:
        from peft import get_peft_model
        model = get_peft_model(model, lora(job))
    if job["checkpointing"]:
        model.gradient_checkpointing_enable()
        model.enable_input_require_grads()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-5, fused=gpu)
    length, batch, micro = job["length"], job["batch_size"], job["micro"]
    head = length // 2
    vocabulary = SHAPES[job["shape"]][5]
    prompts = torch.randint(2, vocabulary, (batch, head), device=job["device"])
    sides = torch.randint(2, vocabulary, (2, batch, length - head), device=job["device"])
    model.train()
    times = []
    for _ in range(job["warmup"] + job["steps"]):
        if gpu:
            torch.cuda.synchronize()
        began = time.perf_counter()
        for first in range(0, batch, micro):
            rows = slice(first, first + micro)
            n = len(prompts[rows])
            x = torch.cat([torch.cat([prompts[rows], side[rows]], 1) for side in sides])
            logits = model(x).logits[:, head - 1:-1].float()
            y = x[:, head:]
            logps = torch.gather(logits.log_softmax(-1), 2, y.unsqueeze(2)).squeeze(2)
            score = logps.mean(1)
            preference = torch.relu(-1.2 * (score[:n] - score[n:] - 0.35)).pow(2).mean()
            loss = preference - 0.8 * score[:n].mean() - 0.2 * score[n:].mean()
            (loss * n / batch).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if gpu:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return times, ""


def trl_simpo(job, torch, gpu):
    """TRL's trainer as it comes, with Liger's kernels where they are installed."""
    from datasets import Dataset
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, TrainerCallback
    from trl.experimental.cpo import CPOConfig, CPOTrainer

    words = ["<pad>", "<eos>", "<unk>"] + [f"t{index}" for index in range(500)]
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>")
    times = []

    class Clock(TrainerCallback):
        def on_step_begin(self, *_, **__):
            if gpu:
                torch.cuda.synchronize()
            self.began = time.perf_counter()

        def on_step_end(self, *_, **__):
            if gpu:
                torch.cuda.synchronize()
            times.append(time.perf_counter() - self.began)

    steps, batch, length = job["warmup"] + job["steps"], job["batch_size"], job["length"]
    generator = torch.Generator().manual_seed(0)

    def text(count):
        return " ".join(f"t{index}" for index in torch.randint(0, 500, (count,), generator=generator).tolist())

    # One token of each completion is the end that TRL adds.
    head, body = length // 2, length - length // 2 - 1
    rows = [dict(prompt=text(head), chosen=" " + text(body), rejected=" " + text(body)) for _ in range(batch)] * steps
    liger = gpu and importlib.util.find_spec("liger_kernel") is not None
    config = CPOConfig(output_dir=tempfile.mkdtemp(), per_device_train_batch_size=job["micro"], max_steps=steps,
                       gradient_accumulation_steps=batch // job["micro"], learning_rate=1e-5, max_length=length,
                       report_to="none", save_strategy="no", logging_steps=1000, use_cpu=not gpu, bf16=gpu,
                       gradient_checkpointing=job["checkpointing"], use_liger_kernel=liger, loss_type="simpo",
                       cpo_alpha=0.0, beta=2.0, simpo_gamma=1.0)
    CPOTrainer(model=make_model(job, torch, gpu), args=config, train_dataset=Dataset.from_list(rows),
               processing_class=tokenizer, peft_config=lora(job), callbacks=[Clock()]).train()
    return times, "Liger; " if liger else "without Liger; "


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--shape", default="qwen2.5-1.5b", choices=SHAPES)
    parser.add_argument("--lora-r", type=int, default=0)
    parser.add_argument("--length", type=int, default=2048)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--checkpointing", action="store_true")
    parser.add_argument("--trainers", nargs="+", default=["smpo", "torch-smpo", "trl-simpo"],
                        choices=["smpo", "torch-smpo", "trl-simpo"])
    parser.add_argument("--smpo", type=pathlib.Path, default=ROOT / "target/release/smpo")
    parser.add_argument("--smpo-option", action="append", default=[], help="further option of smpo bench step")
    parser.add_argument("--json", action="store_true", help="print the numbers of each trainer as JSON, no table")
    parser.add_argument("--verbose", action="store_true", help="show what the peers say")
    parser.add_argument("--job", type=pathlib.Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.job:
        return run_job(json.loads(args.job.read_text()))
    found = {trainer: ours(args) if trainer == "smpo" else peer(args, trainer) for trainer in args.trainers}
    if args.json:
        print(json.dumps(found))
        return 1 if None in found.values() else 0
    trained = f"LoRA r {args.lora_r}" if args.lora_r else "all weights"
    mine = found.get("smpo")
    name = mine["name"] if mine else args.device
    print(f"\n| {args.shape}, {trained}, length {args.length}, batch {args.batch_size} pairs"
          f"{', checkpointing' if args.checkpointing else ''}; {name} | tokens/s | peak memory | utilisation | smpo against it |")
    print("|---|---|---|---|---|")
    failed = False
    for trainer, one in found.items():
        if one is None:
            failed = True
            print(f"| {trainer} | failed | – | – | – |")
            continue
        utilisation = f"{100 * one['mfu']:.0f} %" if one.get("mfu") else "–"
        against = "–"
        if mine and trainer != "smpo":
            speed, memory = mine["tokens_per_s"] / one["tokens_per_s"], mine["memory"] / one["memory"]
            against = f"{speed:.2f}× the speed, {memory:.2f}× the memory"
        label = trainer + (f" ({one['note'].rstrip('; ')})" if one["note"] else "")
        print(f"| {label} | {one['tokens_per_s']:,.0f} | {one['memory'] / 1e9:.2f} GB | {utilisation} | {against} |")
    return 1 if failed else 0


sys.exit(main())
