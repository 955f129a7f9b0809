//! The leaderboard as one self-contained page: no network, no font, no library. The figures are plain HTML; a small
//! script adds sorting, the charts and the sample browser from data embedded beside it.
//!
//! The page's Content-Security-Policy allows exactly its own style and its own script, by hash, and nothing else: even
//! markup that slipped through escaping could not run or load anything.

use askama::Template;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use smpo_results::{Board, BoardEntry, Decision, Leaderboard, Verdict};

use super::changes::{self, Changes};
use super::page_data::{self, PageData};
use super::provenance::{self, Provenance};
use super::story::{self, Finding};
use super::table::{self, Column, TableRow};
use crate::inert::{script, short_line};
use crate::verdict::row::Row;
use crate::{Error, verdict, wording};

/// The page's style, inlined.
pub const STYLE: &str = include_str!("../../templates/leaderboard.css");
/// The page's script, inlined.
pub const SCRIPT: &str = include_str!("../../templates/leaderboard.js");
/// A page stays below this whatever the completions hold; the rest is in the linked sample files.
pub const MAX_BYTES: usize = 4_800_000;
/// Bytes of it that the worst completions may take.
const MAX_SAMPLE_BYTES: usize = 2_500_000;

#[derive(Template)]
#[template(path = "leaderboard.html")]
struct Page<'a> {
    title: String,
    policy: String,
    style: &'a str,
    script: &'a str,
    verdicts: Vec<VerdictView>,
    further: Option<Further>,
    boards: Vec<BoardView>,
    data: String,
}

/// Verdicts that the page folds together, so that the ranking stays near its top.
struct Further {
    /// Verdicts before them.
    after: usize,
    summary: String,
}

struct VerdictView {
    word: &'static str,
    sign: &'static str,
    headline: String,
    claim: &'static str,
    basis: String,
    asides: Vec<String>,
    /// Primary rows of the folded card, what failed first.
    open: Vec<Row>,
    /// Primary rows that it leaves out.
    more: usize,
    interval_heading: String,
    p_explained: &'static str,
    changes: Vec<Changes>,
    rows: Vec<Row>,
}

struct BoardView {
    index: usize,
    title: String,
    apart: Option<String>,
    /// Different prompts of the models, if they differ.
    coverage: Option<String>,
    baseline: Option<String>,
    findings: Vec<Finding>,
    columns: Vec<Column>,
    rows: Vec<TableRow>,
    slices: Vec<String>,
    cards: Vec<CardView>,
    /// Entry that the settings of the others are compared with.
    cards_against: Option<String>,
    provenance: Provenance,
    more_metrics: bool,
    has_forest: bool,
    has_curves: bool,
    has_scatter: bool,
    has_slices: bool,
    has_samples: bool,
}

/// The model card of an entry.
struct CardView {
    name: String,
    /// Key, own value, value of the entry that it is compared with.
    settings: Vec<[String; 3]>,
    /// Settings that the page leaves out.
    more: usize,
    /// Part, hash.
    hashes: Vec<[String; 2]>,
}

/// Settings of a card that the page lists; `leaderboard.json` has all.
const SETTINGS: usize = 24;

fn cards(board: &Board) -> Vec<CardView> {
    let value = |value: &Option<String>| value.as_deref().map_or_else(|| "–".to_owned(), |text| short_line(text, 60));
    let view = |entry: &BoardEntry| {
        let card = entry.card.as_ref()?;
        let shown = card.settings.iter().take(SETTINGS);
        Some(CardView {
            name: short_line(&entry.name, 120),
            settings: shown.map(|s| [short_line(&s.key, 60), value(&s.value), value(&s.against)]).collect(),
            more: card.settings.len().saturating_sub(SETTINGS),
            hashes: card.hashes.iter().map(|part| [short_line(&part.part, 120), short_line(&part.hash, 64)]).collect(),
        })
    };
    board.entries.iter().filter_map(view).collect()
}

/// Renders `index.html`.
pub fn render(leaderboard: &Leaderboard) -> Result<String, Error> {
    let mut data = page_data::without_samples(leaderboard);
    let bare = page(leaderboard, &data)?.len();
    let budget = MAX_BYTES.saturating_sub(bare).min(MAX_SAMPLE_BYTES);
    page_data::add_samples(&mut data, leaderboard, budget)?;
    page(leaderboard, &data)
}

/// Verdicts that stand open, where there are more than [`MANY_VERDICTS`].
const OPEN_VERDICTS: usize = 4;

/// Verdicts that a page shows side by side.
const MANY_VERDICTS: usize = 6;

/// The verdicts as they are given; many of them by decision, failures first, all but the first folded.
fn arranged(verdicts: &[Verdict]) -> (Vec<&Verdict>, Option<Further>) {
    const FIRST: [Decision; 3] = [Decision::Fail, Decision::Inconclusive, Decision::Pass];
    if verdicts.len() <= MANY_VERDICTS {
        return (verdicts.iter().collect(), None);
    }
    let sorted: Vec<&Verdict> =
        FIRST.iter().flat_map(|decision| verdicts.iter().filter(move |one| one.verdict == *decision)).collect();
    let folded = &sorted[OPEN_VERDICTS..];
    let count = |decision: &Decision| {
        let some = folded.iter().filter(|one| one.verdict == *decision).count();
        (some > 0).then(|| format!("{some} {}", wording::decision(*decision)))
    };
    let counts: Vec<String> = FIRST.iter().filter_map(count).collect();
    let summary = format!("{} more verdicts: {}", folded.len(), counts.join(", "));
    (sorted, Some(Further { after: OPEN_VERDICTS, summary }))
}

fn page(leaderboard: &Leaderboard, data: &PageData) -> Result<String, Error> {
    let (verdicts, further) = arranged(&leaderboard.verdicts);
    let page = Page {
        title: short_line(&leaderboard.title, 120),
        policy: policy(),
        style: STYLE,
        script: SCRIPT,
        verdicts: verdicts.into_iter().map(|verdict| verdict_view(verdict, data)).collect(),
        further,
        boards: leaderboard.boards.iter().enumerate().map(|(index, board)| board_view(index, board, data)).collect(),
        data: script::json("the page's data", data)?,
    };
    Ok(page.render()?)
}

fn policy() -> String {
    let hash = |text: &str| STANDARD.encode(Sha256::digest(text.as_bytes()));
    format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; img-src data:; base-uri 'none'; form-action 'none'",
        hash(SCRIPT),
        hash(STYLE)
    )
}

fn verdict_view(verdict: &Verdict, data: &PageData) -> VerdictView {
    let rows = verdict::rows(verdict);
    let open = shown_on_card(&rows);
    VerdictView {
        word: wording::decision(verdict.verdict),
        sign: wording::decision_sign(verdict.verdict),
        headline: verdict::headline(verdict),
        claim: wording::claim(verdict.claim),
        basis: verdict::basis(verdict),
        asides: verdict::asides(verdict),
        more: rows.iter().filter(|row| row.primary).count() - open.len(),
        open,
        interval_heading: verdict::interval_heading(verdict),
        p_explained: verdict::P_EXPLAINED,
        changes: changes::of(verdict, data),
        rows,
    }
}

/// All that failed, up to a card's height, and the first others beside a few of them.
fn shown_on_card(rows: &[Row]) -> Vec<Row> {
    let failed = rows.iter().filter(|row| row.primary && row.decision == Decision::Fail).count();
    rows.iter().filter(|row| row.primary).take(failed.clamp(4, 8)).cloned().collect()
}

fn board_view(index: usize, board: &Board, data: &PageData) -> BoardView {
    let columns = table::columns(board);
    let has = |metric: &str| board.entries.iter().any(|entry| super::overall(entry, metric).is_some());
    let slices = page_data::slices(board);
    BoardView {
        index,
        title: short_line(&board.title, 160),
        apart: board.apart.as_deref().map(|reason| short_line(reason, 300)),
        coverage: board.common_prompts.map(|_| wording::capital(&super::coverage(board))),
        baseline: board.baseline.as_deref().map(|name| short_line(name, 80)),
        findings: story::tell(board),
        rows: table::rows(board, &columns),
        more_metrics: columns.iter().any(|column| column.extra),
        columns,
        // one slice of prompts equals all of them
        has_slices: board.common_prompts.is_some()
            || slices.iter().filter(|slice| !matches!(slice.as_str(), super::ALL | super::HELD_OUT)).count() > 1,
        slices: slices.iter().map(|slice| wording::slice(slice)).collect(),
        cards: cards(board),
        cards_against: board
            .entries
            .iter()
            .find_map(|entry| Some(short_line(entry.card.as_ref()?.against.as_ref()?, 120))),
        provenance: provenance::of(board),
        has_forest: board.entries.iter().any(|entry| !entry.comparisons.is_empty()),
        has_curves: board.entries.iter().any(|entry| entry.survival.len() > 1 || entry.hazard.len() > 1),
        has_scatter: has("pref_accuracy") && has("eos_rate"),
        has_samples: data.boards.get(index).is_some_and(|data| !data.samples.prompts.is_empty()),
    }
}
