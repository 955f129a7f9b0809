//! A loss on stored log-probs: its parts, clipping, rewards, and the tokens with the largest gradient weights.

use std::fmt::Write;
use std::path::Path;

use comfy_table::{Cell, CellAlignment, Table};
use smpo_losses::explain::{ExplainError, Row, RowMember, RowTokens, TokenSummary, sides};
use smpo_losses::{Completion, Evaluation, Mean, Objective, PairEvaluation, Side, TokenEntropy};
use smpo_results::{LogpsRow, TokenLogps};

use crate::inert::short_line;

const ID_WIDTH: usize = 40;

/// An evaluation of a loss on log-probs, with what its rendering needs.
pub struct Explanation<'a> {
    /// The loss.
    pub objective: &'a Objective,
    /// The pairs.
    pub rows: &'a [Row<'a>],
    /// Value, gradient weights and statistics.
    pub evaluation: &'a Evaluation,
    /// Text of a token id.
    pub name: &'a dyn Fn(u32) -> String,
    /// Maximum number of pairs and tokens to list.
    pub top: usize,
}

/// The completions of groups in rows of `logps.jsonl`, row by row: empty for pairs.
pub fn groups(stored: &[LogpsRow]) -> Vec<Vec<RowMember<'_>>> {
    fn tokens(tokens: &TokenLogps) -> RowTokens<'_> {
        let TokenLogps { ids, logps, is_terminator, ref_logps, .. } = tokens;
        RowTokens {
            ids,
            completion: Completion { logps, is_terminator, ref_logps: ref_logps.as_deref(), entropy: None },
        }
    }
    fn group(row: &LogpsRow) -> Vec<RowMember<'_>> {
        let members = row.completions.iter().zip(&row.rewards);
        members.map(|(side, reward)| RowMember { tokens: tokens(side), reward: *reward }).collect()
    }
    stored.iter().map(group).collect()
}

/// Rows of `logps.jsonl` with their [`groups`], as a loss that needs `entropy` reads them.
pub fn rows<'a>(
    stored: &'a [LogpsRow],
    groups: &'a [Vec<RowMember<'a>>],
    entropy: Option<TokenEntropy>,
) -> Vec<Row<'a>> {
    fn completion(tokens: &TokenLogps, entropy: Option<TokenEntropy>) -> Completion<'_> {
        let entropy = match entropy {
            None => None,
            Some(TokenEntropy::Collision) => tokens.collision_entropy.as_deref(),
            Some(TokenEntropy::Top) => tokens.top_entropy.as_deref(),
        };
        let TokenLogps { logps, is_terminator, ref_logps, .. } = tokens;
        Completion { logps, is_terminator, ref_logps: ref_logps.as_deref(), entropy }
    }
    fn side(tokens: &Option<TokenLogps>, entropy: Option<TokenEntropy>) -> Option<RowTokens<'_>> {
        tokens.as_ref().map(|tokens| RowTokens { ids: &tokens.ids, completion: completion(tokens, entropy) })
    }
    stored
        .iter()
        .zip(groups)
        .map(|(row, group)| Row {
            id: &row.id,
            chosen: side(&row.chosen, entropy),
            rejected: side(&row.rejected, entropy),
            group,
            kl: row.kl.as_ref().map(|tokens| completion(tokens, None)),
        })
        .collect()
}

/// The error with its file, and with its line if one row is at fault.
pub fn located(path: &Path, stored: &[LogpsRow], error: &ExplainError) -> String {
    match error {
        ExplainError::Missing { row, .. } => format!("{}:{}: {error}", path.display(), stored[*row].line),
        ExplainError::Batch(_) => format!("{}: {error}", path.display()),
    }
}

impl Explanation<'_> {
    /// Loss terms, clipping, the pairs with the largest loss, the tokens with the largest gradient weights.
    pub fn overview(&self, tokens: &[TokenSummary]) -> String {
        let mut out = String::new();
        self.parts(&mut out);
        self.statistics(&mut out);
        self.largest_pairs(&mut out);
        self.heaviest(&mut out, tokens);
        self.fallen(&mut out, tokens);
        out
    }

    fn parts(&self, out: &mut String) {
        let tokens = || self.rows.iter().zip(&self.evaluation.pairs).flat_map(|(row, pair)| sides(row, pair));
        let count = |side| tokens().filter(|(of, ..)| *of == side).map(|(_, _, weights)| weights.len()).sum::<usize>();
        let (chosen, rejected) = (count(Side::Chosen), count(Side::Rejected));
        let kind = self.objective.config().loss.kind();
        let one = if self.rows.iter().any(|row| !row.group.is_empty()) { "group" } else { "pair" };
        let rows = smpo_suggest::counted(self.rows.len(), one);
        let _ = write!(out, "{kind}: {rows}, {chosen} chosen and {rejected} rejected tokens");
        if let Some(margin) = self.evaluation.statistics.target_margin {
            let _ = write!(out, ", target margin {margin}");
        }
        let evaluation = self.evaluation;
        let mut table = plain(&["", ""]);
        let parts = [
            ("loss", evaluation.value),
            ("  po_loss", evaluation.po_loss),
            ("  sft_chosen_loss", evaluation.sft_chosen_loss),
            ("  sft_rejected_loss", evaluation.sft_rejected_loss),
        ];
        let anchor = evaluation.eos_anchor_loss.map(|value| ("  eos_anchor_loss", value));
        for (name, value) in parts.into_iter().chain(anchor) {
            row(&mut table, vec![name.to_owned(), number(value)]);
        }
        section(out, "", &table);
    }

    fn statistics(&self, out: &mut String) {
        let statistics = &self.evaluation.statistics;
        let transforms = &self.objective.config().transforms;
        let mut table = plain(&["", "chosen", "rejected"]);
        let mut line = |name: &str, chosen: Option<String>, rejected: Option<String>| {
            let cell = |value: Option<String>| value.unwrap_or_else(|| "–".to_owned());
            row(&mut table, vec![name.to_owned(), cell(chosen), cell(rejected)]);
        };
        let mean = |mean: &Mean| mean.value().map(number);
        line("mean reward", mean(&statistics.chosen_reward), mean(&statistics.rejected_reward));
        line("mean log-prob", mean(&statistics.chosen_logp), mean(&statistics.rejected_logp));
        line("terminators, mean log-prob", mean(&statistics.chosen_eos_logp), mean(&statistics.rejected_eos_logp));
        line("terminators, smallest", statistics.chosen_eos_min.map(number), statistics.rejected_eos_min.map(number));
        if transforms.is_active() {
            let share = |share: &Mean| share.value().map(percent);
            line("bound of log-probs", mean(&statistics.clip_bound_chosen), mean(&statistics.clip_bound));
            line("tokens clipped at it", share(&statistics.clip_share_chosen), share(&statistics.clip_share_rejected));
        }
        section(out, "", &table);
        if let (Some(accuracy), Some(margin)) = (statistics.accuracy.value(), statistics.margin.value()) {
            let _ =
                writeln!(out, "\nreward margin {}; chosen preferred in {} of pairs", number(margin), percent(accuracy));
        }
    }

    fn largest_pairs(&self, out: &mut String) {
        let mut pairs: Vec<(&Row<'_>, &PairEvaluation)> = self.rows.iter().zip(&self.evaluation.pairs).collect();
        pairs.sort_by(|a, b| b.1.po_loss.total_cmp(&a.1.po_loss));
        let mut table = plain(&["pair", "po_loss", "chosen reward", "rejected reward", "margin"]);
        for (pair, evaluation) in pairs.iter().take(self.top) {
            let reward = |reward: Option<f64>| reward.map_or_else(|| "–".to_owned(), number);
            let [chosen, rejected] = [Side::Chosen, Side::Rejected].map(|side| evaluation.reward(side));
            let margin = chosen.zip(rejected).map(|(chosen, rejected)| chosen - rejected);
            row(
                &mut table,
                vec![
                    short_line(pair.id, ID_WIDTH),
                    number(evaluation.po_loss),
                    reward(chosen),
                    reward(rejected),
                    reward(margin),
                ],
            );
        }
        section(
            out,
            &format!("\nPairs with the largest pair loss, {} of {}", self.top.min(pairs.len()), pairs.len()),
            &table,
        );
    }

    fn heaviest(&self, out: &mut String, tokens: &[TokenSummary]) {
        let mut table =
            plain(&["token", "side", "times", "mean log-prob", "weight", "of |weight|", "of |pull|", "a step"]);
        for token in tokens.iter().take(self.top) {
            row(
                &mut table,
                vec![
                    self.token(token),
                    token.side.to_string(),
                    token.count.to_string(),
                    number(token.mean_logp),
                    number(token.weight),
                    percent(token.weight_share),
                    percent(token.pull_share),
                    direction(token.weight).to_owned(),
                ],
            );
        }
        let title =
            "\nTokens that carry most of the gradient (weight: ∂L/∂ℓ summed; pull: ∂L/∂ its logit, weight · (1 − p))";
        section(out, title, &table);
    }

    /// With a reference: the tokens that training has pushed down furthest.
    fn fallen(&self, out: &mut String, tokens: &[TokenSummary]) {
        let mut fallen: Vec<(f64, &TokenSummary)> = tokens
            .iter()
            .filter_map(|token| Some((token.mean_change?, token)))
            .filter(|(change, _)| *change < 0.0)
            .collect();
        if fallen.is_empty() {
            return;
        }
        fallen.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut table = plain(&["token", "side", "times", "mean log-prob", "against reference"]);
        for (change, token) in fallen.into_iter().take(self.top) {
            row(
                &mut table,
                vec![
                    self.token(token),
                    token.side.to_string(),
                    token.count.to_string(),
                    number(token.mean_logp),
                    number(change),
                ],
            );
        }
        section(out, "\nTokens that fell furthest below the reference", &table);
    }

    /// Every token of the pair called `id`; `None` when there is none.
    pub fn pair(&self, id: &str) -> Option<String> {
        let (pair, evaluation) = self.rows.iter().zip(&self.evaluation.pairs).find(|(row, _)| row.id == id)?;
        let mut out = String::new();
        for (index, (side, tokens, weights)) in sides(pair, evaluation).enumerate() {
            let RowTokens { ids, completion: Completion { logps, is_terminator, .. } } = tokens;
            let mut table = plain(&["#", "token", "log-prob", "weight", "a step"]);
            for (t, weight) in weights.iter().enumerate() {
                let mark = if is_terminator[t] { " ■" } else { "" };
                let cells = [
                    t.to_string(),
                    format!("{}{mark}", (self.name)(ids[t])),
                    number(logps[t]),
                    number(*weight),
                    direction(*weight).to_owned(),
                ];
                row(&mut table, cells.to_vec());
            }
            let member = pair.group.get(index).zip(evaluation.group.get(index));
            let of_group = member.map_or_else(String::new, |(given, member)| {
                format!(" {index}, reward {}, advantage {}", number(given.reward), number(member.advantage))
            });
            let title = format!("\n{}: {side}{of_group} (■ terminator)", short_line(id, ID_WIDTH));
            section(&mut out, &title, &table);
        }
        Some(out)
    }

    fn token(&self, token: &TokenSummary) -> String {
        format!("{}{}", (self.name)(token.id), if token.is_terminator { " ■" } else { "" })
    }
}

/// Effect on a token of a step down the gradient.
fn direction(weight: f64) -> &'static str {
    match weight {
        weight if weight > 0.0 => "lowers",
        weight if weight < 0.0 => "raises",
        _ => "leaves",
    }
}

/// Four significant digits, without an exponent where that can be read.
fn number(value: f64) -> String {
    let size = value.abs();
    if value == 0.0 {
        "0".to_owned()
    } else if (1e-3..1e5).contains(&size) {
        let decimals = (3 - size.log10().floor() as i32).clamp(0, 6) as usize;
        format!("{value:.decimals$}")
    } else {
        format!("{value:.3e}")
    }
}

fn percent(share: f64) -> String {
    format!("{:.1}%", 100.0 * share)
}

/// A table of names on the left and numbers on the right.
fn plain(heads: &[&str]) -> Table {
    let mut table = crate::plain_table();
    table.force_no_tty();
    if heads.iter().any(|head| !head.is_empty()) {
        table.set_header(heads.iter().enumerate().map(|(column, head)| aligned(column, (*head).to_owned())));
    }
    table
}

fn row(table: &mut Table, cells: Vec<String>) {
    table.add_row(cells.into_iter().enumerate().map(|(column, cell)| aligned(column, cell)));
}

fn aligned(column: usize, text: String) -> Cell {
    let numeric = text.starts_with(|first: char| first.is_ascii_digit() || "-–".contains(first));
    let alignment = if column > 0 && numeric { CellAlignment::Right } else { CellAlignment::Left };
    Cell::new(text).set_alignment(alignment)
}

fn section(out: &mut String, title: &str, table: &Table) {
    let _ = writeln!(out, "{title}\n{}", table.trim_fmt());
}
