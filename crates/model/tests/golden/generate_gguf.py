"""Makes tiny random models in GGUF as llama.cpp's conversion script writes them, and what transformers computes with them.

    pip install torch==2.15.0 transformers==5.24.0 gguf==0.19.0 llama-cpp-python==0.3.36
    python generate_gguf.py            # rewrites gguf/ beside this file
    python generate_gguf.py CASE …     # only these, with the versions of versions.json

gguf/<family>/ holds

    config.json             of the Hugging Face model
    model.gguf              its weights: matrices in Q8_0, experts of gpt-oss in MXFP4, the rest in float32; names from the
                            package gguf's table
    expected.safetensors    s<i>.ids, s<i>.log_probs (of each id but the first, given those before it) by transformers, of
                            the values that the blocks hold

llama.cpp has to agree with transformers on every model here, so that names, order of rows, norms and metadata are those that
it expects.
"""
import json, pathlib, platform, shutil, sys, tempfile
import gguf, llama_cpp, numpy, torch, transformers
from gguf import GGMLQuantizationType as Type, MODEL_ARCH
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM

SEED = 20260
HERE = pathlib.Path(__file__).parent
BASE = dict(vocab_size=64, hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
            num_key_value_heads=1, max_position_embeddings=128, initializer_range=0.2, tie_word_embeddings=False,
            bos_token_id=None, eos_token_id=None, pad_token_id=None)
WINDOWS = ["sliding_attention"] * 3 + ["full_attention"]  # the pattern that llama.cpp fixes

# family: architecture in GGUF, model_type, options
CASES = {
    "llama": (MODEL_ARCH.LLAMA, "llama", dict()),
    "qwen2": (MODEL_ARCH.QWEN2, "qwen2", dict()),
    "qwen3": (MODEL_ARCH.QWEN3, "qwen3", dict(head_dim=16)),
    "qwen3_moe": (MODEL_ARCH.QWEN3MOE, "qwen3_moe", dict(head_dim=16, num_experts=4, num_experts_per_tok=2,
        moe_intermediate_size=32, norm_topk_prob=True)),
    # llama.cpp rounds YaRN's bounds, transformers does not: these are whole numbers.
    "gpt_oss": (MODEL_ARCH.GPT_OSS, "gpt_oss", dict(head_dim=32, num_hidden_layers=2, num_local_experts=4, num_experts_per_tok=2,
        sliding_window=5, rope_parameters=dict(rope_type="yarn", rope_theta=2.0, factor=4.0, beta_fast=32.0, beta_slow=1.0,
        truncate=False, original_max_position_embeddings=32))),
    "phi3": (MODEL_ARCH.PHI3, "phi3", dict(rope_parameters=dict(rope_type="default", rope_theta=10000.0, partial_rotary_factor=0.5))),
    "gemma2": (MODEL_ARCH.GEMMA2, "gemma2", dict(head_dim=16, num_hidden_layers=2, sliding_window=5, query_pre_attn_scalar=16,
        attn_logit_softcapping=4.0, final_logit_softcapping=3.0, tie_word_embeddings=True)),
    "gemma3": (MODEL_ARCH.GEMMA3, "gemma3_text", dict(head_dim=16, num_hidden_layers=6, sliding_window=5, query_pre_attn_scalar=16,
        tie_word_embeddings=True)),
    "smollm3": (MODEL_ARCH.SMOLLM3, "smollm3", dict(num_hidden_layers=4)),
    "olmo2": (MODEL_ARCH.OLMO2, "olmo2", dict()),
    "olmo3": (MODEL_ARCH.OLMO2, "olmo3", dict(num_hidden_layers=4, sliding_window=5, layer_types=WINDOWS)),
    "olmo3-yarn": (MODEL_ARCH.OLMO2, "olmo3", dict(num_hidden_layers=4, sliding_window=5, layer_types=WINDOWS, rope_parameters=dict(
        full_attention=dict(rope_type="yarn", rope_theta=100.0, factor=4.0, original_max_position_embeddings=32,
                            beta_fast=32.0, beta_slow=1.0),
        sliding_attention=dict(rope_type="default", rope_theta=100.0)))),
    "granite": (MODEL_ARCH.GRANITE, "granite", dict(embedding_multiplier=3.0, attention_multiplier=0.4, residual_multiplier=0.6,
        logits_scaling=2.5)),
    # Without Mamba blocks it is converted as Granite 3.
    "granite4": (MODEL_ARCH.GRANITE, "granitemoehybrid", dict(embedding_multiplier=3.0, attention_multiplier=0.4,
        residual_multiplier=0.6, logits_scaling=2.5, num_local_experts=0, num_experts_per_tok=0, shared_intermediate_size=32,
        mamba_n_heads=4, mamba_d_head=16, position_embedding_type="rope", layer_types=["full_attention"])),
    "glm4": (MODEL_ARCH.GLM4, "glm4", dict(attention_bias=True)),
    "ministral3": (MODEL_ARCH.MISTRAL3, "ministral3", dict(head_dim=16, sliding_window=None, rope_parameters=dict(rope_type="yarn",
        rope_theta=100.0, factor=16.0, original_max_position_embeddings=8, beta_fast=4.0, beta_slow=1.0, mscale=1.0,
        mscale_all_dim=1.0, llama_4_scaling_beta=0.3))),
    "mistral": (MODEL_ARCH.MISTRAL3, "mistral", dict(head_dim=16, sliding_window=None)),
    "cohere2": (MODEL_ARCH.COHERE2, "cohere2", dict(head_dim=16, num_hidden_layers=4, sliding_window=5, layer_types=WINDOWS, logit_scale=0.5,
        tie_word_embeddings=True)),
}
PERMUTED = {MODEL_ARCH.LLAMA, MODEL_ARCH.SMOLLM3, MODEL_ARCH.GRANITE, MODEL_ARCH.MISTRAL3}


def permute(weight, heads):
    """llama.cpp's order of query and key rows: the halves of each head interleaved."""
    return weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)


def block_type(name, values, architecture):
    """Type of a tensor's blocks; None for float32."""
    if values.ndim < 2 or name.endswith(("bias", ".mlp.gate.weight", ".mlp.router.weight")):
        return None
    return Type.MXFP4 if architecture == MODEL_ARCH.GPT_OSS and ".experts." in name else Type.Q8_0


def experts(name, values, architecture):
    """Tensors of all experts of a block, gate and up apart, outputs before inputs."""
    stem, bias = name.removesuffix("_bias"), name.endswith("_bias")
    interleaved = architecture == MODEL_ARCH.GPT_OSS
    if interleaved and not bias:
        values = values.swapaxes(1, 2)
    layers = {stem: values}
    if stem.endswith("gate_up_proj"):
        halves = (values[:, ::2], values[:, 1::2]) if interleaved else numpy.split(values, 2, axis=1)
        layers = {stem.replace("gate_up", part): half for part, half in zip(("gate", "up"), halves)}
    for layer, own in layers.items():
        yield f"{layer}.{'bias' if bias else 'weight'}", numpy.ascontiguousarray(own)


def tensors(model, architecture):
    """The tensors under llama.cpp's names; the model gets the values that the blocks hold."""
    config, state = model.config, model.state_dict()
    names = gguf.get_tensor_name_map(architecture, config.num_hidden_layers)
    for name in sorted(state):
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        values, parts = state[name].float().numpy().copy(), [name]
        kind = block_type(name, values, architecture)
        if kind:
            # Blocks lie along the inputs, which gpt-oss's experts have first.
            turned = kind == Type.MXFP4
            values = values.swapaxes(1, 2).copy() if turned else values
            values = gguf.quants.dequantize(gguf.quants.quantize(values, kind), kind)
            values = values.swapaxes(1, 2).copy() if turned else values
            state[name].copy_(torch.from_numpy(values))
        if ".experts." in name:
            for part, values in experts(name, values, architecture):
                stem, end = part.rsplit(".", 1)
                mapped = names.get_name(stem)
                assert mapped, part
                yield f"{mapped}.{end}", values, kind
            continue
        if architecture in PERMUTED and (".q_proj." in name or ".k_proj." in name):
            values = permute(values, config.num_attention_heads if ".q_proj." in name else config.num_key_value_heads)
        if architecture in (MODEL_ARCH.GEMMA2, MODEL_ARCH.GEMMA3) and "norm" in name:
            values += 1
        if "shared_mlp.input_linear" in name:
            parts = [name.replace("shared_mlp.input_linear", f"mlp.{part}_proj") for part in ("gate", "up")]
        parts = [part.replace("shared_mlp.output_linear", "mlp.down_proj") for part in parts]
        for part, values in zip(parts, numpy.split(values, len(parts))):
            stem, end = part.rsplit(".", 1) if part.endswith(("weight", "bias")) else (part, "weight")
            mapped = names.get_name(stem)
            assert mapped, part
            yield f"{mapped}.{end}", values, kind


def metadata(writer, config, architecture):
    """As llama.cpp's conversion script sets it."""
    heads = config.num_attention_heads
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
    rope = config.rope_parameters
    full = rope.get("full_attention", rope)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(getattr(config, "shared_intermediate_size", config.intermediate_size))
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_freq_base(full["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    if hasattr(config, "rms_norm_eps"):
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    if architecture == MODEL_ARCH.COHERE2:
        writer.add_layer_norm_eps(config.layer_norm_eps)
        writer.add_logit_scale(config.logit_scale)
        writer.add_sliding_window(config.sliding_window)
        writer.add_rope_scaling_type(gguf.RopeScalingType.NONE)
    writer.add_rope_dimension_count(int(head_dim * rope.get("partial_rotary_factor", 1)))
    if getattr(config, "head_dim", None):
        writer.add_key_length(head_dim)
        writer.add_value_length(head_dim)
    if architecture in (MODEL_ARCH.QWEN3MOE, MODEL_ARCH.GPT_OSS):
        writer.add_expert_count(config.num_experts)
        writer.add_expert_used_count(config.num_experts_per_tok)
        writer.add_expert_feed_forward_length(getattr(config, "moe_intermediate_size", config.intermediate_size))
    if architecture in (MODEL_ARCH.GEMMA2, MODEL_ARCH.GEMMA3, MODEL_ARCH.GPT_OSS):
        writer.add_sliding_window(config.sliding_window)
    if architecture == MODEL_ARCH.GEMMA2:
        writer.add_attn_logit_softcapping(config.attn_logit_softcapping)
        writer.add_final_logit_softcapping(config.final_logit_softcapping)
    if architecture == MODEL_ARCH.GRANITE:
        writer.add_attention_scale(config.attention_multiplier)
        writer.add_embedding_scale(config.embedding_multiplier)
        writer.add_residual_scale(config.residual_multiplier)
        writer.add_logit_scale(config.logits_scaling)
    if architecture == MODEL_ARCH.OLMO2 and getattr(config, "sliding_window", None):
        writer.add_sliding_window(config.sliding_window)
        writer.add_sliding_window_pattern([kind == "sliding_attention" for kind in config.layer_types])
    if full["rope_type"] == "yarn":
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(full["factor"])
        writer.add_rope_scaling_orig_ctx_len(full["original_max_position_embeddings"])
    if "llama_4_scaling_beta" in full:
        writer.add_rope_scaling_yarn_beta_fast(full["beta_fast"])
        writer.add_rope_scaling_yarn_beta_slow(full["beta_slow"])
        writer.add_rope_scaling_yarn_log_mul(full["mscale_all_dim"])
        writer.add_attn_temperature_scale(full["llama_4_scaling_beta"])
    writer.add_tokenizer_model("none")


def write(path, model, architecture, blocks=True):
    writer = gguf.GGUFWriter(path, gguf.MODEL_ARCH_NAMES[architecture])
    metadata(writer, model.config, architecture)
    for name, values, kind in tensors(model, architecture):
        if kind and blocks:
            writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def log_probs(logits, ids):
    logits = torch.as_tensor(logits, dtype=torch.float64)
    return logits.log_softmax(-1)[:-1].gather(1, torch.tensor(ids[1:])[:, None])[:, 0].float()


def llama_cpp_log_probs(path, sequences):
    single = llama_cpp.GGML_TYPE_F32
    model = llama_cpp.Llama(str(path), n_ctx=128, logits_all=True, verbose=False, n_threads=1, type_k=single, type_v=single)
    for ids in sequences:
        model.reset()
        model.eval(ids)
        yield log_probs(numpy.array(model.scores[:len(ids)]), ids)


def case(name, architecture, kind, options):
    torch.manual_seed(SEED)
    config = AutoConfig.for_model(kind, **{**BASE, **options})
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if parameter.ndim == 1 or parameter_name.endswith("bias"):
                parameter.add_(0.2 * torch.randn_like(parameter))
    folder = HERE / "gguf" / name
    folder.mkdir(parents=True)
    write(folder / "model.gguf", model, architecture)
    generator = torch.Generator().manual_seed(SEED)
    sequences = [torch.randint(0, config.vocab_size, (length,), generator=generator).tolist() for length in (7, 24)]
    with tempfile.TemporaryDirectory() as temporary:
        temporary = pathlib.Path(temporary)
        model.save_pretrained(temporary)
        shutil.copy(temporary / "config.json", folder)
        # In float32: before a product with blocks llama.cpp rounds activations to 8 bits.
        write(temporary / "single.gguf", model, architecture, blocks=False)
        theirs = list(llama_cpp_log_probs(temporary / "single.gguf", sequences))
    expected, worst = {}, 0.0
    for index, ids in enumerate(sequences):
        with torch.no_grad():
            ours = log_probs(model(torch.tensor([ids])).logits[0], ids)
        worst = max(worst, (ours - theirs[index]).abs().max().item())
        expected |= {f"s{index}.ids": torch.tensor(ids), f"s{index}.log_probs": ours}
    save_file(expected, folder / "expected.safetensors")
    print(f"{name}: llama.cpp differs by at most {worst:.2g} nats")
    return worst


def main():
    wanted = sys.argv[1:] or list(CASES)
    for name in wanted:
        shutil.rmtree(HERE / "gguf" / name, ignore_errors=True)
    worst = {name: case(name, *CASES[name]) for name in wanted}
    # llama.cpp looks GELU up in a table of 16-bit floats.
    assert all(difference < (2e-3 if name.startswith("gemma") else 1e-4) for name, difference in worst.items()), worst
    versions = dict(python=platform.python_version(), torch=torch.__version__, transformers=transformers.__version__,
                    gguf="0.19.0", llama_cpp_python=llama_cpp.__version__, seed=SEED)
    if sys.argv[1:]:
        return
    (HERE / "gguf" / "versions.json").write_text(json.dumps(versions, indent=2) + "\n")


if __name__ == "__main__":
    main()
