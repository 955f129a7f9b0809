"""Makes the tiny random models in this folder and what PyTorch and transformers compute with them.

    pip install torch==2.15.0 transformers==5.24.0 safetensors==0.8.0
    python generate.py            # rewrites every case beside this file
    python generate.py CASE …     # only these, with the versions of versions.json

A case is a folder: config.json and model.safetensors as transformers saves them, and expected.safetensors with

    s<i>.prompt, s<i>.completion   token ids of sequence i
    s<i>.hidden                    (T, H) hidden states after the last norm, all tokens of the sequence
    s<i>.log_probs                 (completion) log-probabilities in nats
    s<i>.weights                   (completion) w in the scalar sum over all sequences of w . log_probs
    s<i>.greedy                    ids that generate() continues the prompt with
    grad.<name>                    gradient of that scalar
    adamw.losses                   mean negative log-likelihood over all completion tokens before each of 10 AdamW steps
    balance.loss, balance.grad.<name>   with routed experts: their load-balancing loss over all tokens but each sequence's
                                   last, and its gradient
"""
import json, math, pathlib, platform, shutil, sys
import safetensors, torch, transformers
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.models.qwen3_moe.modeling_qwen3_moe import load_balancing_loss_func

SEED = 20250
HERE = pathlib.Path(__file__).parent
BASE = dict(vocab_size=32, hidden_size=16, intermediate_size=20, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=128, initializer_range=0.3, tie_word_embeddings=False,
            bos_token_id=None, eos_token_id=None, pad_token_id=None)
ONE_BLOCK = dict(num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1, head_dim=8)  # for rope variants

EXPERTS = dict(head_dim=8, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=8)
DELTA = dict(head_dim=8, rms_norm_eps=1e-3, linear_key_head_dim=6, linear_value_head_dim=10, linear_num_key_heads=2, linear_num_value_heads=4,
             rope_parameters=dict(rope_type="default", rope_theta=100.0, partial_rotary_factor=0.5, mrope_section=[1, 1, 0],
                                  mrope_interleaved=True))

CASES = {
    "qwen2": ("qwen2", dict()),
    "qwen2-tied": ("qwen2", dict(tie_word_embeddings=True, num_hidden_layers=1)),
    "qwen2-window": ("qwen2", dict(use_sliding_window=True, sliding_window=5, max_window_layers=1)),
    "llama": ("llama", dict(num_key_value_heads=4, attention_bias=True, mlp_bias=True)),
    "llama3-rope": ("llama", dict(ONE_BLOCK, rope_parameters=dict(rope_type="llama3", rope_theta=100.0, factor=4.0,
        low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32))),
    "linear-rope": ("llama", dict(ONE_BLOCK, rope_parameters=dict(rope_type="linear", rope_theta=100.0, factor=3.0))),
    "yarn-rope": ("llama", dict(ONE_BLOCK, rope_parameters=dict(rope_type="yarn", rope_theta=100.0, factor=4.0,
        original_max_position_embeddings=32, beta_fast=4.0, beta_slow=1.0))),
    "mistral": ("mistral", dict(head_dim=8, sliding_window=6)),
    "qwen3": ("qwen3", dict(head_dim=8)),
    "qwen3_moe": ("qwen3_moe", dict(EXPERTS, norm_topk_prob=True)),
    "qwen3_moe-sparse": ("qwen3_moe", dict(EXPERTS, num_hidden_layers=3, mlp_only_layers=[0], decoder_sparse_step=1,
        num_experts_per_tok=3, use_sliding_window=True, sliding_window=5, tie_word_embeddings=True)),
    "gpt_oss": ("gpt_oss", dict(head_dim=8, intermediate_size=24, num_local_experts=4, num_experts_per_tok=2, sliding_window=5, swiglu_limit=1.5,
        rope_parameters=dict(rope_type="yarn", rope_theta=100.0, factor=4.0, beta_fast=4.0, beta_slow=1.0, truncate=False,
        original_max_position_embeddings=32))),
    "phi3": ("phi3", dict(rope_parameters=dict(rope_type="default", rope_theta=10000.0, partial_rotary_factor=0.5))),
    "longrope": ("phi3", dict(num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=64,
        original_max_position_embeddings=16, rope_parameters=dict(rope_type="longrope", rope_theta=100.0,
        short_factor=[1.0, 1.1, 1.2, 1.3], long_factor=[1.5, 2.0, 3.0, 4.0]))),
    "gemma2": ("gemma2", dict(head_dim=8, sliding_window=5, query_pre_attn_scalar=12, attn_logit_softcapping=4.0,
        final_logit_softcapping=3.0, tie_word_embeddings=True)),
    "gemma3": ("gemma3_text", dict(head_dim=8, sliding_window=5, query_pre_attn_scalar=12, tie_word_embeddings=True,
        layer_types=["sliding_attention", "full_attention"])),
    "smollm3": ("smollm3", dict(no_rope_layers=[1, 0])),
    "smollm3-window": ("smollm3", dict(no_rope_layers=[1, 0], use_sliding_window=True, sliding_window=5, mlp_bias=True)),
    "olmo2": ("olmo2", dict()),
    "olmo3": ("olmo3", dict(sliding_window=5, layer_types=["sliding_attention", "full_attention"], rope_parameters=dict(
        full_attention=dict(rope_type="yarn", rope_theta=100.0, factor=4.0, original_max_position_embeddings=32),
        sliding_attention=dict(rope_type="default", rope_theta=100.0)))),
    "granite": ("granite", dict(embedding_multiplier=3.0, attention_multiplier=0.4, residual_multiplier=0.6,
        logits_scaling=2.5, attention_bias=True, mlp_bias=True)),
    "granite4": ("granitemoehybrid", dict(embedding_multiplier=3.0, attention_multiplier=0.4, residual_multiplier=0.6,
        logits_scaling=2.5, num_local_experts=0, num_experts_per_tok=0, shared_intermediate_size=24, mamba_n_heads=4,
        position_embedding_type="rope", layer_types=["full_attention"] * 2)),
    "glm4": ("glm4", dict(head_dim=8)),
    "ministral3": ("ministral3", dict(head_dim=8, rope_parameters=dict(rope_type="yarn", rope_theta=100.0, factor=16.0,
        original_max_position_embeddings=8, beta_fast=4.0, beta_slow=1.0, mscale=1.0, mscale_all_dim=1.0,
        llama_4_scaling_beta=0.3))),
    "cohere2": ("cohere2", dict(sliding_window=5, layer_types=["sliding_attention", "full_attention"], logit_scale=0.5,
        tie_word_embeddings=True)),
    "qwen3_5": ("qwen3_5_text", dict(DELTA, layer_types=["linear_attention", "full_attention"])),
    "qwen3_5-tied": ("qwen3_5_text", dict(DELTA, layer_types=["full_attention", "linear_attention"], tie_word_embeddings=True,
        initializer_range=0.2, linear_num_key_heads=4, linear_conv_kernel_dim=3)),
}


def unsettle(model):
    """Moves gains and biases, which start as constants and would hide mistakes."""
    for key, p in model.named_parameters():
        if p.ndim == 1 or key.endswith("bias"):
            p.data += 0.3 * torch.randn_like(p)
        if key.endswith("conv1d.weight"):  # a convolution: keys of a length near zero would multiply rounding errors when brought to one
            p.data *= 4
        if key.endswith("A_log"):  # slower decays: sums of large logarithms lose digits in transformers' chunks
            p.data -= 2


def completion_log_probs(model, prompt, completion):
    ids = torch.tensor([prompt + completion])
    out = model(input_ids=ids, output_hidden_states=True)
    logps = torch.log_softmax(out.logits[0].float(), -1)
    rows = torch.arange(len(prompt) - 1, ids.shape[1] - 1)
    return out.hidden_states[-1][0], logps[rows, torch.tensor(completion)]


def stored(key, tensor, interleaved):
    """A parameter's name and values by experts, gate and up apart; `interleaved` as gpt-oss has them: in turn, inputs first."""
    module, _, part = key.rpartition(".")
    if not module.endswith(".experts"):
        return {key: tensor}
    kind = "bias" if part.endswith("_bias") else "weight"
    part = part.removesuffix("_bias")
    tensor = tensor.transpose(1, 2) if interleaved and kind == "weight" else tensor
    gate, up = (tensor[:, ::2], tensor[:, 1::2]) if interleaved else tensor.chunk(2, 1)
    layers = {"gate_proj": gate, "up_proj": up} if part == "gate_up_proj" else {part: tensor}
    return {f"{module}.{i}.{name}.{kind}": layer[i] for name, layer in layers.items() for i in range(len(layer))}


def gradients(model, prefix="grad."):
    return {prefix + name: grad.clone() for key, p in model.named_parameters() if p.grad is not None
            for name, grad in stored(key, p.grad, model.config.model_type == "gpt_oss").items()}


def balance(model, sequences):
    """The load-balancing loss and its gradient."""
    logits = [model(input_ids=torch.tensor([(p + c)[:-1]]), output_router_logits=True).router_logits for p, c in sequences]
    logits = tuple(torch.cat(layer) for layer in zip(*logits))
    loss = load_balancing_loss_func(logits, model.config.num_experts, model.config.num_experts_per_tok)
    model.zero_grad()
    loss.backward()
    return {"balance.loss": loss.detach().clone().reshape(1)} | gradients(model, "balance.grad.")


def main():
    transformers.logging.set_verbosity_error()
    for name in sys.argv[1:] or CASES:
        family, changes = CASES[name]
        torch.manual_seed(SEED)
        config = AutoConfig.for_model(family, **{**BASE, **changes})
        model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval()
        unsettle(model)
        out = HERE / name
        shutil.rmtree(out, ignore_errors=True)
        model.save_pretrained(out)
        (out / "generation_config.json").unlink(missing_ok=True)

        g = torch.Generator().manual_seed(SEED)
        draw = lambda n: torch.randint(0, config.vocab_size, (n,), generator=g).tolist()
        prompt = draw(7)  # sequences 0 and 1 are a pair: one prompt; 2 has one of its own; lengths 13, 18, 12
        sequences = [(prompt, draw(6)), (prompt, draw(11)), (draw(3), draw(9))]
        store, total = {}, 0.0
        for i, (prompt, completion) in enumerate(sequences):
            hidden, logps = completion_log_probs(model, prompt, completion)
            weights = torch.randn(len(completion), generator=g)
            total = total + (weights * logps).sum()
            greedy = model.generate(torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
                                    do_sample=False, max_new_tokens=8, eos_token_id=None, pad_token_id=0)[0, len(prompt):]
            store |= {f"s{i}.prompt": torch.tensor(prompt, dtype=torch.int32), f"s{i}.completion": torch.tensor(completion, dtype=torch.int32),
                      f"s{i}.hidden": hidden.detach().clone(), f"s{i}.log_probs": logps.detach().clone(),
                      f"s{i}.weights": weights, f"s{i}.greedy": greedy.to(torch.int32)}
        total.backward()
        store |= gradients(model)
        if getattr(config, "num_experts", None):
            store |= balance(model, sequences)

        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01)
        losses = []
        for _ in range(10):
            optimizer.zero_grad()
            loss = -torch.cat([completion_log_probs(model, p, c)[1] for p, c in sequences]).mean()
            losses.append(loss.item())
            loss.backward()
            optimizer.step()
        store["adamw.losses"] = torch.tensor(losses, dtype=torch.float64)
        save_file({k: v.contiguous() for k, v in store.items()}, out / "expected.safetensors")
        print(name, sum(p.numel() for p in model.parameters()), losses[0], losses[-1])
    versions = {"python": platform.python_version(), "torch": torch.__version__, "transformers": transformers.__version__,
                "safetensors": safetensors.__version__, "seed": SEED, "dtype": "float32", "attention": "eager"}
    if not sys.argv[1:]:
        (HERE / "versions.json").write_text(json.dumps(versions, indent=2) + "\n")


if __name__ == "__main__":
    main()
