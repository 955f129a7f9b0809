"""Makes wrapped/<case>/: tiny random multimodal models as transformers saves them, what their text half computes, and an
adapter of PEFT on one.

    pip install torch==2.15.0 transformers==5.24.0 peft==0.21.2 safetensors==0.8.0
    python generate_wrapped.py            # or the names of some cases

expected.safetensors has the fields of generate.py (no AdamW steps), the gradients by the names of a text model; an
adapter's has log-probs alone.
"""
import json, pathlib, shutil, sys
import torch, transformers
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForImageTextToText
from generate import DELTA, unsettle

SEED = 20252
HERE = pathlib.Path(__file__).parent / "wrapped"
TEXT = dict(vocab_size=40, hidden_size=16, intermediate_size=20, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=128, initializer_range=0.3, bos_token_id=None,
            eos_token_id=None, pad_token_id=None)
TOKENS = 32  # ids beyond these are never drawn: an image's are among them
VISION = dict(hidden_size=16, intermediate_size=20, num_hidden_layers=1, num_attention_heads=2, image_size=8, patch_size=4)
GEMMA = dict(text_config=dict(TEXT, head_dim=8, sliding_window=5, query_pre_attn_scalar=12, tie_word_embeddings=True,
             layer_types=["sliding_attention", "full_attention"]), vision_config=VISION, mm_tokens_per_image=1,
             image_token_index=39, boi_token_index=38, eoi_token_index=37)
PIXTRAL = dict(VISION, model_type="pixtral", head_dim=8)
MISTRAL = dict(text_config=dict(TEXT, model_type="mistral", head_dim=8, sliding_window=None), vision_config=PIXTRAL,
               image_token_index=39, tie_word_embeddings=False)
QWEN = dict(text_config=dict(TEXT, **DELTA, layer_types=["linear_attention", "full_attention"]),
            vision_config=dict(depth=1, hidden_size=16, intermediate_size=20, num_heads=2, patch_size=4, out_hidden_size=16,
                               num_position_embeddings=4),
            image_token_id=39, video_token_id=38, vision_start_token_id=37, vision_end_token_id=36)
CASES = {  # model_type, its configuration, options of save_pretrained
    "gemma3": ("gemma3", GEMMA, {}),
    "mistral3": ("mistral3", MISTRAL, {}),
    "mistral3-in-memory": ("mistral3", MISTRAL, dict(save_original_format=False)),
    "mistral3-ministral3": ("mistral3", dict(MISTRAL, text_config=dict(TEXT, model_type="ministral3", head_dim=8)), {}),
    "llava": ("llava", dict(text_config=dict(TEXT, model_type="llama"), vision_config=dict(VISION, model_type="clip_vision_model"),
        image_token_index=39, tie_word_embeddings=False), {}),
    "internvl": ("internvl", dict(text_config=dict(TEXT, model_type="qwen2"), vision_config=dict(VISION,
        model_type="internvl_vision", image_size=[8, 8], patch_size=[4, 4]), image_token_id=39), {}),
    "qwen3_5": ("qwen3_5", QWEN, {}),
}


def log_probs(model, prompt, completion):
    ids = torch.tensor([prompt + completion])
    out = model(input_ids=ids, output_hidden_states=True)
    logps = torch.log_softmax(out.logits[0].float(), -1)
    return out.hidden_states[-1][0], logps[torch.arange(len(prompt) - 1, ids.shape[1] - 1), torch.tensor(completion)]


def text_name(name):
    return name.replace("model.language_model.", "model.") if "language_model" in name or name.startswith("lm_head") else None


def main():
    transformers.logging.set_verbosity_error()
    for name in sys.argv[1:] or CASES:
        kind, options, how = CASES[name]
        torch.manual_seed(SEED)
        config = AutoConfig.for_model(kind, **json.loads(json.dumps(options)))
        model = AutoModelForImageTextToText.from_config(config, attn_implementation="eager").float().eval()
        unsettle(model)
        out = HERE / name
        shutil.rmtree(out, ignore_errors=True)
        model.save_pretrained(out, **how)
        (out / "generation_config.json").unlink(missing_ok=True)
        (out / "processor_config.json").write_text(json.dumps({"of": "the other half"}) + "\n")

        g = torch.Generator().manual_seed(SEED)
        draw = lambda n: torch.randint(0, TOKENS, (n,), generator=g).tolist()
        prompt = draw(7)
        sequences = [(prompt, draw(6)), (prompt, draw(11)), (draw(3), draw(9))]
        store, total = {}, 0.0
        for i, (prompt, completion) in enumerate(sequences):
            hidden, logps = log_probs(model, prompt, completion)
            weights = torch.randn(len(completion), generator=g)
            total = total + (weights * logps).sum()
            greedy = model.generate(torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
                                    do_sample=False, max_new_tokens=8, eos_token_id=None, pad_token_id=0)[0, len(prompt):]
            store |= {f"s{i}.prompt": torch.tensor(prompt, dtype=torch.int32), f"s{i}.completion": torch.tensor(completion, dtype=torch.int32),
                      f"s{i}.hidden": hidden.detach().clone(), f"s{i}.log_probs": logps.detach().clone(),
                      f"s{i}.weights": weights, f"s{i}.greedy": greedy.to(torch.int32)}
        total.backward()
        store |= {"grad." + text_name(key): p.grad.clone() for key, p in model.named_parameters() if text_name(key)}
        save_file({k: v.contiguous() for k, v in store.items()}, out / "expected.safetensors")
        print(name, sorted(k for k in store if k.startswith("grad"))[:2], json.loads((out / "config.json").read_text()).get("tie_word_embeddings"))
        if name == "gemma3":
            adapter(model, sequences, store)


def adapter(model, sequences, store):
    lora = LoraConfig(task_type="CAUSAL_LM", r=2, lora_alpha=4, lora_dropout=0.0,
                      target_modules=r".*language_model.*\.(q_proj|down_proj)")
    model = get_peft_model(model, lora).eval()
    for key, p in model.named_parameters():
        if "lora_B" in key:
            p.data = 0.3 * torch.randn_like(p)
    out = HERE / "peft-gemma3"
    shutil.rmtree(out, ignore_errors=True)
    model.save_pretrained(out)
    (out / "README.md").unlink(missing_ok=True)
    config = json.loads((out / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = "../gemma3"
    (out / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n")
    kept = {k: v for k, v in store.items() if k.startswith("s") and k.split(".")[1] in ("prompt", "completion", "weights")}
    for i, (prompt, completion) in enumerate(sequences):
        kept[f"s{i}.log_probs"] = log_probs(model, prompt, completion)[1].detach().clone()
    save_file({k: v.contiguous() for k, v in kept.items()}, out / "expected.safetensors")


main()
