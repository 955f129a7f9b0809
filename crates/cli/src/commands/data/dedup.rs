//! `smpo data dedup`: duplicates and leaks.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use smpo_curation::{By, Cluster, Keep, Method, Options, Report, duplicates};
use smpo_data::count_rows;
use smpo_inference::{Embedder, HttpConfig, HttpEmbedder};
use smpo_native::NativeModel;
use smpo_results::files::write_json;
use smpo_suggest::counted;

use crate::commands::engine::is_url;
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{self, Format};
use crate::outputs;
use crate::progress::Progress;
use crate::{commands, interrupt, streams};

/// Largest clusters that are shown.
const SHOWN: usize = 5;

#[derive(clap::Args)]
pub struct DedupArgs {
    /// Data files, directories or patterns: preference pairs, examples, labelled completions, groups, prompts
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// JSONL file to write: the rows that stay, as they are; gzipped if the name ends in .gz; - is standard output
    #[arg(long, value_name = "FILE", required_unless_present = "dry_run", value_parser = streams::output())]
    out: Option<PathBuf>,
    /// Report without writing rows: exit 1 if some would be left out
    #[arg(long, conflicts_with = "out")]
    dry_run: bool,
    /// Part of the rows that is compared [default: row; with --against: question]
    #[arg(long, value_enum)]
    by: Option<Part>,
    /// Column that is compared, in place of --by
    #[arg(long, value_name = "NAME", conflicts_with = "by")]
    column: Option<String>,
    /// Kind of similarity; rows of equal text, case and white space aside, are duplicates in each
    #[arg(long, value_enum, default_value_t)]
    method: Kind,
    /// Source of embeddings for --method embeddings: a model directory or GGUF file, whose last hidden states are averaged,
    /// or the URL of an OpenAI-compatible server
    #[arg(long, value_name = "DIR_OR_URL", required_if_eq("method", "embeddings"))]
    model: Option<String>,
    /// Name of the model on the server
    #[arg(long, value_name = "NAME", requires = "model")]
    model_name: Option<String>,
    /// Least similarity of two near duplicates, of 1 [default: 0.8 of minhash, 0.97 of embeddings]
    #[arg(long, value_name = "SHARE")]
    threshold: Option<f64>,
    /// Characters of the runs that minhash compares [default: 5]
    #[arg(long, value_name = "CHARACTERS")]
    shingle: Option<usize>,
    /// Row of several duplicates that stays
    #[arg(long, value_enum, default_value_t)]
    keep: Choice,
    /// Column with the score of --keep best
    #[arg(long, value_name = "NAME", required_if_eq("keep", "best"))]
    score: Option<String>,
    /// Suite (TOML) or file whose rows may not be in FILE: rows that repeat one of its are left out, and no others; may be
    /// given more than once
    #[arg(long, value_name = "FILE")]
    against: Vec<PathBuf>,
    /// JSON file to write: counts and all clusters
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// CPU threads [default: all cores]
    #[arg(long)]
    threads: Option<usize>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Part {
    /// Prompt and answers
    Row,
    /// Messages before the answer
    Prompt,
    /// The same without system messages
    Question,
}

#[derive(Clone, Copy, Default, PartialEq, clap::ValueEnum)]
enum Kind {
    /// Equal text alone
    Exact,
    /// Jaccard similarity of the runs of some characters, found by MinHash and verified
    #[default]
    Minhash,
    /// Cosine of the embeddings that --model gives; every row is compared with every other
    Embeddings,
}

#[derive(Clone, Copy, Default, PartialEq, clap::ValueEnum)]
enum Choice {
    /// The first
    #[default]
    First,
    /// The one with the longest compared text
    Longest,
    /// The one with the highest --score
    Best,
}

impl DedupArgs {
    fn options(&self) -> Result<Options, Failure> {
        let by = match (&self.column, self.by) {
            (Some(column), _) => By::Column(column.clone()),
            (None, Some(Part::Row)) => By::Row,
            (None, Some(Part::Prompt)) => By::Prompt,
            (None, Some(Part::Question)) => By::Question,
            (None, None) if self.against.is_empty() => By::Row,
            (None, None) => By::Question,
        };
        let method = match self.method {
            Kind::Minhash => {
                Method::MinHash { threshold: self.threshold.unwrap_or(0.8), shingle: self.shingle.unwrap_or(5) }
            }
            Kind::Embeddings => Method::Embeddings { threshold: self.threshold.unwrap_or(0.97) },
            Kind::Exact => Method::Exact,
        };
        self.check_effects()?;
        let keep = match (self.keep, &self.score) {
            (Choice::Best, Some(column)) => Keep::Best(column.clone()),
            (Choice::Longest, None) => Keep::Longest,
            (Choice::First | Choice::Best, None) => Keep::First,
            (_, Some(_)) => return Err(Failure::user("--score has no effect without --keep best")),
        };
        Ok(Options { by, method, keep, against: self.against.clone() })
    }
}

impl DedupArgs {
    /// Refuses options that would do nothing.
    fn check_effects(&self) -> Result<(), Failure> {
        let idle = [
            ("--threshold", self.threshold.is_some() && self.method == Kind::Exact, "--method exact"),
            ("--shingle", self.shingle.is_some() && self.method != Kind::Minhash, "another method than minhash"),
            ("--model", self.model.is_some() && self.method != Kind::Embeddings, "another method than embeddings"),
            ("--keep", self.keep != Choice::First && !self.against.is_empty(), "--against, whose rows never move"),
        ];
        match idle.into_iter().find(|(_, is_idle, _)| *is_idle) {
            Some((flag, _, with)) => Err(Failure::user(format!("{flag} has no effect with {with}"))),
            None => Ok(()),
        }
    }

    /// The source of embeddings.
    fn embedder(&self) -> Result<Option<Box<dyn Embedder>>, Failure> {
        let Some(model) = &self.model else { return Ok(None) };
        match (is_url(model), &self.model_name) {
            (true, Some(name)) => {
                let config = HttpConfig { base_url: model.clone(), model: name.clone(), ..HttpConfig::default() };
                Ok(Some(Box::new(HttpEmbedder::new(config)?)))
            }
            (true, None) => Err(Failure::user("--model: a server's URL needs --model-name, the model's name there")),
            (false, Some(_)) => Err(Failure::user(format!("--model-name is for a server's URL; --model is {model}"))),
            (false, None) => Ok(Some(Box::new(NativeModel::load(Path::new(model), None)?))),
        }
    }
}

/// Runs the command.
pub fn run(args: &DedupArgs) -> Outcome {
    commands::set_threads(args.threads)?;
    let options = args.options()?;
    let inputs = super::expanded(args.files.iter().chain(args.against.iter().filter(|file| !is_suite(file))))?;
    outputs::check(&inputs, &[("--out", args.out.as_deref()), ("--report", args.report.as_deref())])?;
    let progress = Progress::new();
    let mut total = 0;
    for file in &args.files {
        total += count_rows(file)?;
    }
    for file in args.against.iter().filter(|file| !is_suite(file)) {
        let rows = count_rows(file)?;
        // Rows of a pipe are not counted beforehand.
        if rows == 0 && (file.is_file() || file.is_dir()) {
            return Err(Failure::user(format!(
                "--against {}: expected rows to compare with, got none",
                file.display()
            )));
        }
        total += rows;
    }
    let stage = progress.stage("compare", 0);
    let observer = |state: smpo_curation::Progress| {
        use smpo_curation::Progress as P;
        let (done, all, what) = match state {
            P::Read(done) => (done, total.max(done), "read"),
            P::Embedded(done, all) => (done, all, "embedded"),
            P::Compared(done, all) => (done, all, "compared"),
        };
        stage.resize(all);
        stage.update(done, what);
        if interrupt::requested() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let stopped = || {
        progress.say("stopped; nothing was written");
        Ok(Exit::Interrupted)
    };
    let mut embedder = args.embedder()?;
    let found = duplicates(&args.files, options, embedder.as_deref_mut().map(|it| it as &mut dyn Embedder), &observer)?;
    let Some(found) = found else { return stopped() };
    let Some(report) = found.write(args.out.as_deref(), &observer)? else { return stopped() };
    stage.finish("done");
    if let Some(path) = &args.report {
        write_json(path, "report", &report)?;
    }
    output::summary(args.out.as_deref(), args.format, || text(args, &report), &report)?;
    Ok(if args.dry_run && report.left_out > 0 { Exit::Fail } else { Exit::Success })
}

fn is_suite(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "toml")
}

fn text(args: &DedupArgs, report: &Report) -> String {
    let settings = &report.settings;
    let kinds: Vec<String> = report.kinds.iter().map(|(kind, count)| counted(count, kind.name())).collect();
    let held = if kinds.is_empty() { "no rows".to_owned() } else { kinds.join(", ") };
    let mut lines = vec![format!("{held} of {}, compared by {}", counted(report.files, "file"), settings.by)];
    let kept = match &args.out {
        Some(out) => format!("{} kept in {}", report.kept, out.display()),
        None => format!("{} would stay", report.kept),
    };
    let repeated = if args.against.is_empty() { "left out" } else { "left out for repeating one of --against" };
    lines.push(format!(
        "{kept}, {} {repeated}: {} of equal text, {} of nearly equal text",
        report.left_out, report.exact, report.near
    ));
    if let (Some(threshold), Some(shingle), Some(recall)) =
        (settings.threshold, settings.shingle, settings.recall_at_threshold)
    {
        lines.push(format!(
            "near: Jaccard similarity of at least {threshold} over {shingle}-character runs; {:.1} % of the pairs at the \
             threshold are looked at, more of closer ones",
            100.0 * recall
        ));
    }
    if let (Some(threshold), None) = (settings.threshold, settings.shingle) {
        lines.push(format!("near: cosine of embeddings of at least {threshold}"));
    }
    if !args.against.is_empty() {
        lines.push(format!("compared with {} of --against", counted(report.references, "row")));
    }
    if report.empty > 0 {
        lines.push(format!("{} without text to compare: kept", counted(report.empty, "row")));
    }
    if !report.clusters.is_empty() {
        lines.push(format!("{}: {}", counted(report.clusters.len(), "cluster"), sizes(&report.clusters)));
        lines.extend(report.clusters.iter().take(SHOWN).map(cluster));
        if report.clusters.len() > SHOWN && args.report.is_none() {
            lines.push("all clusters: --report FILE".into());
        }
    }
    lines.join("\n")
}

/// Clusters by their number of rows.
fn sizes(clusters: &[Cluster]) -> String {
    let ranges = [("2 rows", 2..3), ("3 to 5", 3..6), ("6 to 20", 6..21), ("more", 21..usize::MAX)];
    let counts =
        ranges.map(|(name, range)| (name, clusters.iter().filter(|cluster| range.contains(&cluster.size)).count()));
    let shown: Vec<String> =
        counts.into_iter().filter(|(_, count)| *count > 0).map(|(name, count)| format!("{count} of {name}")).collect();
    shown.join(", ")
}

fn cluster(cluster: &Cluster) -> String {
    const PLACES: usize = 4;
    let kept = &cluster.kept;
    let quote = |text: &Option<String>| text.as_deref().unwrap_or_default().to_owned();
    let mut text = format!("  {} rows: {}:{} {:?}", cluster.size, kept.path.display(), kept.line, quote(&kept.text));
    let place = |member: &smpo_curation::Member| {
        format!("{}:{} ({:.2})", member.path.display(), member.line, member.similarity)
    };
    let places: Vec<String> = cluster.left_out.iter().take(PLACES).map(place).collect();
    text.push_str(&format!("\n    repeated by {}", places.join(", ")));
    if cluster.left_out.len() > PLACES {
        text.push_str(&format!(" and {} more", cluster.left_out.len() - PLACES));
    }
    if let Some(least) = cluster.left_out.iter().find(|member| member.text.is_some() && member.similarity < 1.0) {
        text.push_str(&format!("\n    the least similar, {:.2}: {:?}", least.similarity, quote(&least.text)));
    }
    text
}
