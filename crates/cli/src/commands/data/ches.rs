//! `smpo data ches`: preference pairs by how much they push down the answer that they prefer.

use std::ops::ControlFlow;
use std::path::PathBuf;

use smpo_curation::ches::{ChesReport, Quantile, Variant, rank};
use smpo_data::{Truncation, Unfinished, count_rows};
use smpo_devices::on_device;
use smpo_results::files::write_json;
use smpo_suggest::counted;

use crate::commands::device::DeviceArgs;
use crate::commands::named::named;
use crate::commands::scorer::{Scorer, max_length};
use crate::commands::template_variables::TemplateVariables;
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{self, Format};
use crate::outputs;
use crate::progress::Progress;
use crate::{commands, interrupt, streams};

#[derive(clap::Args)]
pub struct ChesArgs {
    /// Preference pairs: data files, directories or patterns
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Model that is to be trained on the pairs: a directory, a GGUF file or an adapter
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Base model, if the adapter does not name a directory
    #[arg(long, value_name = "DIR")]
    base: Option<PathBuf>,
    /// JSONL file to write: the rows with `ches` and `ches_normalized` in further columns; gzipped if the name ends in .gz;
    /// - is standard output
    #[arg(long, value_name = "FILE", required_unless_present = "dry_run", value_parser = streams::output())]
    out: Option<PathBuf>,
    /// Report without writing rows
    #[arg(long, conflicts_with_all = ["out", "drop"])]
    dry_run: bool,
    /// Share of the pairs to leave out, those with the highest scores
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    drop: f64,
    /// Score that pairs are ranked by
    #[arg(long, value_enum, default_value_t)]
    by: Score,
    /// Maximum tokens of prompt and completion together [default: the model's context length]
    #[arg(long, value_name = "TOKENS")]
    max_length: Option<usize>,
    /// Maximum tokens of the prompt [default: no maximum]
    #[arg(long, value_name = "TOKENS")]
    max_prompt_length: Option<usize>,
    /// Treatment of completions that did not end, or that --max-length cuts
    #[arg(long, value_parser = named(WITH_ROW, Unfinished::name), default_value = "no_terminator")]
    unfinished: Unfinished,
    #[command(flatten)]
    variables: TemplateVariables,
    /// JSON file to write: counts, quantiles, the highest pairs
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    device: DeviceArgs,
    /// CPU threads [default: all cores]
    #[arg(long)]
    threads: Option<usize>,
}

/// Treatments under which every row stays.
const WITH_ROW: [Unfinished; 2] = [Unfinished::NoTerminator, Unfinished::KeepTerminator];

#[derive(Clone, Copy, Default, clap::ValueEnum)]
enum Score {
    /// Length-normalised CHES, which the paper filters by
    #[default]
    Normalized,
    /// CHES of the summed hidden states
    Sum,
}

impl From<Score> for Variant {
    fn from(score: Score) -> Self {
        match score {
            Score::Normalized => Variant::Normalized,
            Score::Sum => Variant::Sum,
        }
    }
}

/// Runs the command.
pub fn run(args: &ChesArgs) -> Outcome {
    commands::set_threads(args.threads)?;
    if !(0.0..1.0).contains(&args.drop) {
        return Err(Failure::user(format!("--drop: expected a share of at least 0 and below 1, got {}", args.drop)));
    }
    let inputs = super::expanded(&args.files)?;
    outputs::check(
        inputs.iter().chain([&args.model]),
        &[("--out", args.out.as_deref()), ("--report", args.report.as_deref())],
    )?;
    let mut total = 0;
    for file in &args.files {
        total += count_rows(file)?;
    }
    let progress = Progress::new();
    let Scorer { tokenizer, decoder, device, .. } =
        Scorer::load(&args.model, args.base.as_deref(), &args.variables, args.device, &progress)?;
    let truncation = Truncation {
        max_length: max_length(args.max_length, &decoder)?,
        max_prompt_length: args.max_prompt_length,
        bos: tokenizer.bos(),
        unfinished: args.unfinished,
        ..Truncation::default()
    };
    let stage = progress.stage("ches", total);
    let on_scored = |scored: u64| {
        stage.resize(total.max(scored));
        stage.update(scored, "");
        if interrupt::requested() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let ranking = on_device(&device, || rank(&args.files, &decoder, &tokenizer, &truncation, &on_scored))?;
    let Some(ranking) = ranking else {
        progress.say("stopped; nothing was written");
        return Ok(Exit::Interrupted);
    };
    stage.finish("done");
    let report = ranking.write(args.out.as_deref(), args.drop, args.by.into())?;
    if let Some(path) = &args.report {
        write_json(path, "report", &report)?;
    }
    output::summary(args.out.as_deref(), args.format, || text(args, &report), &report)?;
    Ok(Exit::Success)
}

fn text(args: &ChesArgs, report: &ChesReport) -> String {
    let ChesReport { pairs, truncated, kept, left_out, highest, .. } = report;
    let mut lines = vec![match &args.out {
        Some(out) => format!(
            "{}: {kept} of {}, {left_out} with the highest scores left out",
            out.display(),
            counted(pairs, "pair")
        ),
        None => counted(pairs, "pair"),
    }];
    if *truncated > 0 {
        let were = if *truncated == 1 { "was" } else { "were" };
        lines.push(format!("{} {were} cut to length", counted(truncated, "pair")));
    }
    lines.push(format!("{:<16} {}", "quantile", shares(&report.ches)));
    for (name, quantiles) in [("ches", &report.ches), ("ches_normalized", &report.ches_normalized)] {
        let values: Vec<String> = quantiles.iter().map(|quantile| format!("{:>10}", short(quantile.value))).collect();
        lines.push(format!("{name:<16} {}", values.join(" ")));
    }
    if !highest.is_empty() {
        lines.push("highest, whose chosen answers lose the most when trained on:".into());
    }
    lines.extend(highest.iter().map(|pair| {
        let scores = [pair.scores.normalized, pair.scores.ches].map(short);
        format!("  {}:{}  ches_normalized {}, ches {}", pair.path.display(), pair.line, scores[0], scores[1])
    }));
    lines.join("\n")
}

fn shares(quantiles: &[Quantile]) -> String {
    let shares: Vec<String> =
        quantiles.iter().map(|quantile| format!("{:>10}", format!("{:.0} %", 100.0 * quantile.share))).collect();
    shares.join(" ")
}

/// Four digits.
fn short(value: f64) -> String {
    if value != 0.0 && !(0.01..1e5).contains(&value.abs()) { format!("{value:.2e}") } else { format!("{value:.3}") }
}
