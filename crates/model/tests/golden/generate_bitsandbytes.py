"""Makes bitsandbytes/: a model in bfloat16, the same in four bits as transformers saves it, and 30 steps of a LoRA adapter on
it with PEFT.

    pip install torch==2.15.0 transformers==5.24.0 peft==0.21.2 bitsandbytes==0.50.2 accelerate safetensors==0.8.0
    python generate_bitsandbytes.py

base/ and four-bit/ are model directories, adapter/ is the adapter at step 0. expected.safetensors has the sequences
(s<i>.prompt, s<i>.completion), for each kind (nf4 with double quantisation, fp4) and dtype the log-probs of the model without
an adapter (<kind>.s<i>.log_probs), and the losses of the steps, Σ −log p / tokens (<kind>.losses). values.<name> are the
dequantised weights of four-bit/.
"""
import json, pathlib, shutil
import torch, transformers
import bitsandbytes.functional as F
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, LlamaConfig

SEED = 20261
HERE = pathlib.Path(__file__).parent / "bitsandbytes"
KINDS = {"nf4": dict(bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True), "fp4": dict(bnb_4bit_quant_type="fp4")}


def quantised(kind, dtype):
    config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_compute_dtype=torch.float32, **KINDS[kind])
    model = AutoModelForCausalLM.from_pretrained(HERE / "base", quantization_config=config, dtype=dtype,
                                                 attn_implementation="eager", device_map={"": "cpu"})
    # In inference the library multiplies in bfloat16, without gradients, on CPUs that have such instructions.
    return model.train()


def log_probs(model, prompt, completion):
    ids = torch.tensor([prompt + completion])
    logits = model(input_ids=ids).logits[0].float()
    return torch.log_softmax(logits, -1)[torch.arange(len(prompt) - 1, ids.shape[1] - 1), torch.tensor(completion)]


def main():
    transformers.logging.set_verbosity_error()
    torch.manual_seed(SEED)
    shutil.rmtree(HERE, ignore_errors=True)
    config = LlamaConfig(vocab_size=48, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
                         num_key_value_heads=2, max_position_embeddings=64, initializer_range=0.2, tie_word_embeddings=False,
                         attention_dropout=0.0, bos_token_id=None, eos_token_id=None, pad_token_id=None)
    base = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    base.save_pretrained(HERE / "base")
    sequences = [(torch.randint(0, 48, (4 + 3 * i,)).tolist(), torch.randint(0, 48, (9 + 2 * i,)).tolist()) for i in range(3)]
    store = {}
    for i, (prompt, completion) in enumerate(sequences):
        store |= {f"s{i}.prompt": torch.tensor(prompt), f"s{i}.completion": torch.tensor(completion)}

    stored = quantised("nf4", torch.bfloat16)
    stored.save_pretrained(HERE / "four-bit")
    for name, parameter in stored.named_parameters():
        if hasattr(parameter, "quant_state"):
            store[f"values.{name}"] = F.dequantize_4bit(parameter.data, parameter.quant_state).float()

    for kind in KINDS:
        model = quantised(kind, torch.float32)
        with torch.no_grad():
            for i, (prompt, completion) in enumerate(sequences):
                store[f"{kind}.s{i}.log_probs"] = log_probs(model, prompt, completion)
        torch.manual_seed(SEED)
        model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, lora_dropout=0.0,
                                                 target_modules="all-linear"))
        if not (HERE / "adapter").exists():
            model.save_pretrained(HERE / "adapter")
        model.train()
        trained = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=1e-2, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0)
        tokens, losses = sum(len(completion) for _, completion in sequences), []
        for _ in range(30):
            optimizer.zero_grad()
            loss = -sum(log_probs(model, prompt, completion).sum() for prompt, completion in sequences) / tokens
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        store[f"{kind}.losses"] = torch.tensor(losses)

    adapter = HERE / "adapter"
    (adapter / "README.md").unlink(missing_ok=True)
    config = json.loads((adapter / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = "base"  # not a path of the machine this ran on
    config["target_modules"] = sorted(config["target_modules"])
    (adapter / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n")
    for folder in ("base", "four-bit"):
        (HERE / folder / "generation_config.json").unlink(missing_ok=True)
    save_file({key: value.contiguous() for key, value in store.items()}, HERE / "expected.safetensors")


if __name__ == "__main__":
    main()
