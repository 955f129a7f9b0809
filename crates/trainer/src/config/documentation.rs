//! The reference page and the JSON schema of a configuration, generated from the types that read it.

use serde_json::{Map, Value};

use super::TrainConfig;

/// The JSON schema (draft 2020-12) that editors check and complete a TOML or YAML configuration with.
pub fn schema() -> Value {
    let mut schema = schemars::schema_for!(TrainConfig).to_value();
    if let Some(object) = schema.as_object_mut() {
        object.insert("title".to_owned(), Value::from("smpo train"));
        // A file may name its schema.
        if let Some(properties) = object.get_mut("properties").and_then(Value::as_object_mut) {
            properties.insert("$schema".to_owned(), serde_json::json!({"type": "string"}));
        }
    }
    schema
}

/// The reference page, in Markdown.
pub fn page() -> String {
    let schema = schemars::schema_for!(TrainConfig).to_value();
    let page = Page { definitions: schema.get("$defs").cloned().unwrap_or_default() };
    let mut text = String::from(HEAD);
    text += "\n## Keys\n\n";
    text += &page.rows(&schema, &["loss", "alarms", "probe", "prompt"]);
    for table in ["probe", "prompt", "alarms"] {
        let definition = page.resolve(&schema["properties"][table]);
        text += &format!("\n## `[{table}]`\n\n{}\n\n", description(&definition));
        text += &page.rows(&definition, &[]);
    }
    let schedule = page.resolve(&serde_json::json!({"$ref": SCHEDULE}));
    text += "\n## `[loss]`\n\nOne table per loss; `kind` names it. Any number may be a schedule in its place, as in \
             `beta = { from = 1.0, to = 2.0, schedule = \"cosine\", warmup = 0.5 }`:\n\n";
    text += &page.rows(&schedule, &[]);
    let losses = page.resolve(&schema["properties"]["loss"]);
    let losses = losses["oneOf"].as_array().cloned().unwrap_or_default();
    let transforms = Value::from(schemars::schema_for!(smpo_losses::Transforms));
    let shared: Vec<&str> = keys(&transforms).collect();
    for loss in &losses {
        let name = loss["title"].as_str().unwrap_or_default();
        text += &format!("\n### `kind = \"{name}\"`\n\n{}\n\n", description(loss));
        let mut hidden = shared.clone();
        hidden.push("kind");
        text += &page.rows(loss, &hidden);
    }
    text += "\n### Transforms\n\nKeys of `[loss]` too, for every loss except `sft`; all off is the regular loss.\n\n";
    text += &page.rows(&transforms, &[]);
    text += TAIL;
    text
}

const HEAD: &str = "\
# Configuration of `smpo train`

Generated from the source by `UPDATE_DOCS=1 cargo test --release -p smpo-trainer --test documentation`; a test keeps it
current. For completion and checks in an editor, put the schema beside it to use: `#:schema docs/train.schema.json` as a
TOML file's first line, `# yaml-language-server: $schema=docs/train.schema.json` in YAML.

A file is TOML, or YAML or JSON with the ending `.yaml` or `.json`. Files of TRL, LLaMA-Factory, Halo, effective_llm_alignment and
axolotl run as they are ([imports.md](imports.md)). `--set key=value` overrides a key and every other spelling of the same
setting, `--set loss.beta=1.2` one in a table. Paths are relative to the working directory.

Values may stand as transformers, PEFT and YAML write them: `max_steps: -1` is no limit, `warmup_steps: 0` beside a ratio
is not given and below 1 is a ratio, `save_strategy` and `eval_strategy` (`steps`, `epoch`, `no`) are intervals,
`lr_scheduler_kwargs: {min_lr_rate: 0.1}` is `min_lr_ratio`, `\"1e-4\"` and `\"true\"` are what they spell, `64.0` is 64,
names may be one text with commas between, `all` is `all-linear`, `none` is no reporter.
";

/// The schema of a scheduled number.
const SCHEDULE: &str = "#/$defs/LossSchedule";

const TAIL: &str = "
## Weights and moments in fewer bits

What is trained is float32 on the CPU. The rest may take less, and a product widens it strip by strip where it reads it:

* Weights that are not trained (the base under adapters, references, what `unfreeze_layers_patterns` leaves) stay in
  16 bits where the model has them so. Results are those of float32 to the last bit.
* Weights of a GGUF file that are not trained stay in the file's blocks (Q4_K, Q8_0, …), the embedding too, and are dequantised
  tile by tile; results are those of float32 to the last bit. `dequantize = true` widens them when they are loaded instead.
  Modules named in `modules_to_save` or `unfreeze_layers_patterns` are dequantised and trained in float32.
* `load_in_4bit = true` packs the linear layers under adapters in blocks of 64 as bitsandbytes does, from the model's values in
  float32; the head, the embedding, norms and biases stay as they are. Dequantised values are those of bitsandbytes' CPU build to
  the last bit where a row is a whole number of blocks. A model that transformers saved in four bits (`load_in_4bit` in its
  `quantization_config`) stays packed without the key. The adapter fits the original model too: `smpo export` merges
  it into that, or into a four-bit one, whose weights are then dequantised.
* `optim = \"adamw_8bit\"` keeps AdamW's moments in bitsandbytes' dynamic 8-bit type, 2 bytes a trained parameter instead of 8, and
  `\"adamw_bf16\"` in bfloat16, 4 bytes; tensors below 4,096 elements and an embedding stay in float32. Over 60 steps of random gradients the
  parameters end within 5 % (8 bits) and 1 % (bfloat16) of their way from where float32 leads them. bitsandbytes' CPU build rounds moments to a
  coarser grid before it looks them up, so its steps differ a little from these and from its own on a GPU.

## Resuming

The same command resumes a run after its last checkpoint, bit for bit. A run is known by its configuration, its rows and
the weights that it reads again (the base under adapters, the reference model); each checkpoint holds fingerprints of them.

* Settings that cannot change the trained model may change: `alarms`, `data_check`, `dequantize`, `device`,
  `max_skipped_steps`, `memory_check`, `on_bad_rows`, `output_dir`, `report_to`, `save_steps`, `save_total_limit`, `token_cache`,
  `zero_stage`; `eval_steps` and
  `per_device_eval_batch_size` where no checkpoints are compared. The run says which changed.
* `num_train_epochs` and `max_steps` may grow while a run is unfinished; the learning rate then follows its schedule over
  the new total. Other settings are refused.
* Keys of the data act through the rows: the same rows in another file are the same. Other rows are refused with the file
  and its counts, or taken with `--data-changed`: they are checked, begin at their first epoch, and are trained on for
  `num_train_epochs` of theirs (or up to `max_steps`); steps go on counting, `epoch` counts anew, and the learning rate
  follows its schedule over the new total. Rows of `test_size` that were trained on before are not held out, and
  evaluations on other held-out rows are not compared with earlier ones.
* Other weights of the base or the reference are refused. Checkpoints of earlier versions have no fingerprints and are
  resumed with a remark.
* A run that fails before its first step leaves its directory free: the same command with a mended configuration works.

## New tokens and the reference

`added_special_tokens` and `added_tokens` enlarge tokenizer, embedding, head and `vocab_size` together. `model/` of all weights
loads as it is; an adapter holds embedding and head whole, and PEFT loads it on a base that was resized first:
`model.resize_token_embeddings(len(tokenizer))`. Adapters on a model whose data has tokens with untrained rows are warned of.

DPO and KTO compare with the model that the run starts from, its adapter included: the first step of DPO has a loss of
ln 2 = 0.693. `reference_model_name_or_path` names another; the run says which.
";

struct Page {
    definitions: Value,
}

impl Page {
    fn rows(&self, schema: &Value, hidden: &[&str]) -> String {
        let required: Vec<&str> = schema["required"]
            .as_array()
            .map(|keys| keys.iter().filter_map(Value::as_str).collect())
            .unwrap_or_default();
        let none = Map::new();
        let properties = schema["properties"].as_object().unwrap_or(&none);
        if properties.keys().all(|key| hidden.contains(&key.as_str())) {
            return "No keys of its own.\n".to_owned();
        }
        let mut text = "| key | type | default | |\n|---|---|---|---|\n".to_owned();
        for (key, property) in properties.iter().filter(|(key, _)| !hidden.contains(&key.as_str())) {
            let default = match property.get("default") {
                _ if required.contains(&key.as_str()) => "required".to_owned(),
                None | Some(Value::Null) => "absent".to_owned(),
                Some(Value::Array(values)) if values.is_empty() => "none".to_owned(),
                Some(value) => format!("`{value}`"),
            };
            text += &format!("| `{key}` | {} | {default} | {} |\n", self.kind(property), self.explained(property));
        }
        text
    }

    fn resolve(&self, schema: &Value) -> Value {
        if let Some(found) = schema["$ref"].as_str().and_then(|name| name.strip_prefix("#/$defs/")) {
            let mut found = self.definitions[found].clone();
            // The description beside a reference is more specific than that of its target.
            if let (Some(target), Some(beside)) = (found.as_object_mut(), schema.as_object()) {
                let beside = beside.iter().filter(|(key, _)| *key != "$ref");
                target.extend(beside.map(|(key, value)| (key.clone(), value.clone())));
            }
            return found;
        }
        // An optional table is one of itself and null.
        match alternatives(schema).into_iter().filter(|one| one["type"] != "null").collect::<Vec<_>>()[..] {
            [one] => self.resolve(one),
            _ => schema.clone(),
        }
    }

    /// Name of a type.
    fn kind(&self, schema: &Value) -> String {
        let schema = self.resolve(schema);
        if let Some(constant) = schema.get("const") {
            return format!("`{constant}`");
        }
        if let Some(values) = schema["enum"].as_array() {
            return values
                .iter()
                .filter(|value| !value.is_null())
                .map(|v| format!("`{v}`"))
                .collect::<Vec<_>>()
                .join(", ");
        }
        let several = alternatives(&schema);
        if !several.is_empty() {
            // any number of a loss may be scheduled: the page says it once
            let is_listed = |one: &&Value| one["type"] != "null" && one["$ref"] != SCHEDULE;
            let mut kinds: Vec<String> = several.into_iter().filter(is_listed).map(|one| self.kind(one)).collect();
            kinds.dedup();
            shorten_lists_of_tables(&mut kinds);
            let separator = if kinds.iter().all(|kind| kind.starts_with('`')) { ", " } else { " or " };
            return kinds.join(separator);
        }
        let name = match &schema["type"] {
            Value::Array(names) => names.iter().find(|name| *name != "null").and_then(Value::as_str),
            name => name.as_str(),
        };
        match name {
            Some("array") => format!("list of {}", self.kind(&schema["items"])),
            Some("object") => {
                let keys: Vec<&str> = keys(&schema).collect();
                if keys.is_empty() { "table".to_owned() } else { format!("`{{ {} = … }}`", keys.join(" = …, ")) }
            }
            other => other.unwrap_or("any").to_owned(),
        }
    }

    /// Description, with that of each named value.
    fn explained(&self, property: &Value) -> String {
        let mut text = one_line(&description(property));
        let schema = self.resolve(property);
        if text.is_empty() {
            text = one_line(&description(&schema));
        }
        for one in alternatives(&schema) {
            let one = self.resolve(one);
            if let (Some(name), about) = (one.get("const"), one_line(&description(&one)))
                && !about.is_empty()
            {
                text += &format!(" `{name}`: {about}");
            }
        }
        text.replace('|', "\\|")
    }
}

/// Spares a table's keys where a list of the same tables is an alternative to one.
fn shorten_lists_of_tables(kinds: &mut [String]) {
    let tables: Vec<String> = kinds.iter().filter(|kind| kind.starts_with("`{")).cloned().collect();
    for kind in kinds {
        if kind.strip_prefix("list of ").is_some_and(|of| tables.iter().any(|table| table == of)) {
            "list of such tables".clone_into(kind);
        }
    }
}

fn alternatives(schema: &Value) -> Vec<&Value> {
    ["oneOf", "anyOf"].into_iter().filter_map(|key| schema[key].as_array()).flatten().collect()
}

fn keys(schema: &Value) -> impl Iterator<Item = &str> {
    schema["properties"].as_object().into_iter().flat_map(|map| map.keys().map(String::as_str))
}

fn description(schema: &Value) -> String {
    schema["description"].as_str().unwrap_or_default().to_owned()
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
