//! Writes the demo's data and its base model's tokenizer and configuration:
//!
//! ```text
//! cargo run --release -p smpo-synth --example generate -- datasets/demo
//! ```
//!
//! Every byte is a function of the seeds in `smpo_synth::demo`; a test compares the shipped files with this output.

use std::error::Error;
use std::fs;
use std::io::Write;
use std::path::Path;

use serde_json::{Value, json};
use smpo_synth::{Instruction, Pair, demo};
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer, TokenizerBuilder};

const VOCABULARY: usize = 1_024;
const CHATML: &str = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}\n";

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let out = std::env::args().nth(1).ok_or("usage: generate DIR")?;
    let out = Path::new(&out);
    let base = out.join("base");
    fs::create_dir_all(&base)?;

    let instructions = demo::instructions();
    let pairs = demo::pairs();
    // The stored time is left at zero, so that the bytes depend on the content only.
    let mut gz = flate2::GzBuilder::new().write(Vec::new(), flate2::Compression::best());
    gz.write_all(demo::sft_jsonl(&instructions).as_bytes())?;
    fs::write(out.join("sft.jsonl.gz"), gz.finish()?)?;
    fs::write(out.join("preferences.jsonl"), demo::pairs_jsonl("pref", &pairs))?;
    fs::write(out.join("held_out.jsonl"), demo::pairs_jsonl("held", &demo::held_out()))?;
    fs::write(out.join("ood.jsonl"), demo::ood_jsonl(&demo::prompts()))?;

    let tokenizer = tokenizer(&instructions, &pairs)?;
    fs::write(base.join("tokenizer.json"), tokenizer.to_string(true)?)?;
    let documents = [
        ("tokenizer_config.json", tokenizer_config()),
        ("config.json", config()),
        ("generation_config.json", json!({"eos_token_id": 2, "pad_token_id": 0})),
    ];
    for (name, document) in documents {
        fs::write(base.join(name), serde_json::to_string_pretty(&document)? + "\n")?;
    }
    fs::write(base.join("chat_template.jinja"), CHATML)?;
    Ok(())
}

/// Byte-level BPE over the words of the world, with the three special tokens of ChatML.
fn tokenizer(instructions: &[Instruction], pairs: &[Pair]) -> tokenizers::Result<Tokenizer> {
    let mut tokenizer =
        TokenizerBuilder::<BPE, tokenizers::NormalizerWrapper, _, tokenizers::PostProcessorWrapper, _>::new()
            .with_model(BPE::default())
            .with_pre_tokenizer(Some(ByteLevel::new(false, true, true)))
            .with_decoder(Some(ByteLevel::default()))
            .build()?;
    let special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];
    let mut trainer = BpeTrainer::builder()
        .vocab_size(VOCABULARY)
        .show_progress(false)
        .special_tokens(special.map(|token| AddedToken::from(token, true)).to_vec())
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .build();
    let roles = ["user\n", "assistant\n"].map(str::to_owned);
    let texts = instructions
        .iter()
        .take(6_000)
        .flat_map(|i| [i.prompt.clone(), i.answer.clone()])
        .chain(pairs.iter().flat_map(|p| [p.prompt.clone(), p.chosen.clone(), p.rejected.clone()]))
        .chain(roles.iter().cycle().take(200).cloned());
    tokenizer.train(&mut trainer, texts)?;
    tokenizer.to_string(false)?.parse()
}

fn tokenizer_config() -> Value {
    json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "bos_token": null,
        "unk_token": null,
        "model_max_length": 1024,
        "clean_up_tokenization_spaces": false,
        "chat_template": CHATML,
    })
}

/// 649 thousand parameters in the shape of Qwen2.
fn config() -> Value {
    json!({
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "vocab_size": VOCABULARY,
        "hidden_size": 128,
        "intermediate_size": 320,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "hidden_act": "silu",
        "max_position_embeddings": 1024,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "attention_dropout": 0.0,
        "use_sliding_window": false,
        "sliding_window": null,
        "max_window_layers": 3,
        "tie_word_embeddings": true,
        "initializer_range": 0.02,
        "use_cache": true,
        "bos_token_id": null,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "torch_dtype": "float32",
    })
}
