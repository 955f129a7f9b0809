//! Facts of a model for a terminal.

use comfy_table::CellAlignment;
use smpo_chat::{Terminator, TerminatorSource};
use smpo_devices::format_bytes;
use smpo_report::inert::short_line;
use smpo_report::wording::thousands;

use super::info::{Adapter, Chat, DeltaNets, Experts, Facts};
use crate::output;
use smpo_trainer::memory_plans::NamedPlan;

/// Maximum characters of a token or template name.
const WIDEST: usize = 60;

/// The whole page.
pub fn page(facts: &Facts) -> String {
    let mut rows: Vec<(&str, String)> = vec![
        ("family", family(facts)),
        ("parameters", parameters(facts)),
        ("weights", weights(facts)),
        ("blocks", blocks(facts)),
        ("vocabulary", facts.vocab_size.to_string()),
        ("context", facts.context.map_or("unknown".into(), |tokens| format!("{tokens} tokens"))),
    ];
    rows.extend(facts.experts.as_ref().map(|experts| ("experts", routed(experts))));
    rows.extend(facts.delta_nets.as_ref().map(|nets| ("delta nets", stateful(nets))));
    rows.extend(facts.adapter.as_ref().map(|adapter| ("adapter", describe(adapter))));
    match &facts.chat {
        Chat::Usable { terminators, bos, pad, template, warnings } => {
            let or_none = |token: &Option<String>| token.as_deref().map_or("none".into(), shown);
            let ends: Vec<String> = terminators.entries().iter().map(terminator).collect();
            rows.extend([
                ("terminators", ends.join("\n")),
                ("bos, pad", format!("{}, {}", or_none(bos), or_none(pad))),
                ("template", short_line(template, WIDEST)),
            ]);
            rows.extend(warnings.iter().map(|warning| ("warning", warning.clone())));
        }
        Chat::Unusable { chat_error } => rows.push(("no chat", chat_error.clone())),
    }
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let mut page = format!("{}\n", facts.model);
    for (name, value) in rows {
        for (index, line) in value.lines().enumerate() {
            let name = if index == 0 { name } else { "" };
            page.push_str(&format!("  {name:width$}  {line}\n"));
        }
    }
    page.push_str(&memory(&facts.memory));
    page
}

fn family(facts: &Facts) -> String {
    match facts.wrapper {
        Some(wrapper) => format!("{}, the text half of {wrapper}", facts.family),
        None => format!("{} ({})", facts.family, facts.architecture),
    }
}

fn parameters(facts: &Facts) -> String {
    let tied = if facts.tied { ", the head is the embedding" } else { "" };
    format!("{}{tied}", thousands(facts.parameters))
}

fn weights(facts: &Facts) -> String {
    let files = if facts.shards == 1 { "1 file".into() } else { format!("{} files", facts.shards) };
    let packed = facts.four_bit_format.map(|format| format!("4 bits ({format})"));
    let dtypes: Vec<String> = packed.into_iter().chain(facts.dtypes.iter().map(ToString::to_string)).collect();
    format!("{}, {files}, {}", smpo_suggest::list(&dtypes), format_bytes(facts.stored_bytes))
}

fn blocks(facts: &Facts) -> String {
    format!(
        "{} × {} wide, feed-forward {}, {} heads of {} ({} for keys and values)",
        facts.layers, facts.hidden_size, facts.intermediate_size, facts.heads, facts.head_dim, facts.kv_heads
    )
}

fn routed(experts: &Experts) -> String {
    format!(
        "{} of {}, {} for a token, in {} blocks: a token passes through {} parameters",
        experts.count,
        experts.intermediate_size,
        experts.per_token,
        experts.layers,
        thousands(experts.active_parameters)
    )
}

fn stateful(nets: &DeltaNets) -> String {
    format!(
        "in {} blocks in the place of attention: {} states of {} × {} ({} heads for keys)",
        nets.layers, nets.value_heads, nets.key_dim, nets.value_dim, nets.key_heads
    )
}

fn describe(adapter: &Adapter) -> String {
    let kind = match (adapter.use_dora, adapter.use_rslora) {
        (false, false) => "LoRA",
        (false, true) => "rsLoRA",
        (true, false) => "DoRA",
        (true, true) => "DoRA with rsLoRA's scale",
    };
    format!(
        "{kind}, r {}, alpha {}, dropout {}: {} parameters on {} layers of {}",
        adapter.r,
        adapter.alpha,
        adapter.dropout,
        thousands(adapter.parameters),
        adapter.modules.len(),
        adapter.base
    )
}

fn terminator(entry: &Terminator) -> String {
    let token = entry.token.as_deref().map_or("?".into(), shown);
    let id = entry.id.map_or("?".into(), |id| id.to_string());
    let sources: Vec<&str> = entry
        .sources
        .iter()
        .map(|source| match source {
            TerminatorSource::TurnEnd => "the template's turn end",
            TerminatorSource::Tokenizer => "eos_token",
            TerminatorSource::GenerationConfig => "generation_config.json",
            TerminatorSource::Config => "config.json",
        })
        .collect();
    format!("{token} {id}: {}", sources.join(", "))
}

/// A token's text comes from the model: nothing in it may steer the terminal.
fn shown(token: &str) -> String {
    format!("'{}'", short_line(token, WIDEST))
}

fn memory(plans: &[NamedPlan]) -> String {
    let Some(first) = plans.first() else { return String::new() };
    let mut table = output::table();
    let second = plans.iter().any(|plan| plan.reference_bytes > 0);
    let header = ["training", "weights", "gradients", "AdamW", "activations"].into_iter();
    table.set_header(header.chain(second.then_some("reference")).chain(["total"]));
    for plan in plans {
        let checkpointing = if plan.gradient_checkpointing { ", checkpointing" } else { "" };
        let bytes = [plan.weights_bytes, plan.gradients_bytes, plan.optimizer_bytes, plan.activations_bytes]
            .into_iter()
            .chain(second.then_some(plan.reference_bytes))
            .chain([plan.total_bytes]);
        let shared = if plan.zero_stage > 0 { format!(", zero_stage = {}", plan.zero_stage) } else { String::new() };
        let mut row = vec![format!("{}{shared}{checkpointing}", plan.training)];
        row.extend(bytes.map(format_bytes));
        table.add_row(row);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let each = if first.ranks > 1 { format!(" on each of {} ranks", first.ranks) } else { String::new() };
    format!(
        "\nMemory to train on the CPU{each}, a pack of {} tokens, {} of them completions:\n{table}\n",
        first.tokens, first.completion_tokens
    )
}
