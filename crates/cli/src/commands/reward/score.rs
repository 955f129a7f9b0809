//! `smpo reward score`.

use smpo_chat::Message;
use smpo_data::{Located, Record, records};
use smpo_files::write_whole;
use smpo_inference::Item;
use smpo_native::LabelModel;

use super::ScoreArgs;
use super::summary::{Row, Side, Summary};
use crate::commands::reward_model;
use crate::exit::{Exit, Failure, OrFail, Outcome};
use crate::interrupt;
use crate::output::{self, Format};
use crate::progress::Progress;

/// Rows handed to the model at once.
const BATCH: usize = 32;

pub fn run(args: &ScoreArgs) -> Outcome {
    crate::commands::set_threads(args.threads)?;
    let model = LabelModel::load(&args.model, args.base.as_deref())?;
    let progress = Progress::new();
    let stage = progress.stage("score", 100);
    let mut records = records(&args.input)?;
    let mut rows: Vec<Row> = Vec::new();
    loop {
        let mut batch = Vec::with_capacity(BATCH);
        while batch.len() < BATCH
            && let Some(record) = records.next()
        {
            batch.push(record?);
        }
        if batch.is_empty() {
            break;
        }
        if interrupt::requested() {
            progress.say("stopped; nothing was written");
            return Ok(Exit::Interrupted);
        }
        rows.extend(score(&model, &batch)?);
        stage.update((100.0 * records.share()) as u64, &format!("{} rows", rows.len()));
    }
    stage.finish(&format!("{} rows", rows.len()));
    if rows.is_empty() {
        return Err(Failure::user(format!("{}: expected at least one row, got none", args.input.display())));
    }
    if let Some(out) = &args.out {
        let text: String = rows.iter().map(|row| row.json(model.labels()).to_string() + "\n").collect();
        write_whole(out, text.as_bytes()).or_execution_error()?;
    }
    let summary = Summary::of(&args.model, model.labels(), &rows);
    match args.format {
        Format::Text => output::print(&summary.text(args.out.as_deref()))?,
        Format::Json => output::print_json(&summary)?,
    }
    match summary.scored {
        0 => Err(reward_model::all_too_long(&args.model, rows.len())),
        _ => Ok(Exit::Success),
    }
}

/// The values of some rows.
fn score(model: &LabelModel, batch: &[Located<Record>]) -> Result<Vec<Row>, Failure> {
    let sides: Vec<(&Record, &'static str, &[Message])> = batch
        .iter()
        .flat_map(|row| row.record.completions().into_iter().map(|(name, side)| (&row.record, name, side)))
        .collect();
    let items: Vec<Item<'_>> =
        sides.iter().map(|(record, _, completion)| Item { prompt: record.prompt(), completion }).collect();
    let place = |error| format!("{}: row and those after it: {error}", batch[0].location);
    let mut values = model.values(&items).map_err(place).or_user_error()?.into_iter();
    let mut rows = Vec::with_capacity(batch.len());
    for row in batch {
        let side = |(name, messages): (&'static str, &[Message])| Side {
            name,
            characters: messages.iter().map(|message| message.content.chars().count()).sum(),
            values: values.next().flatten(),
        };
        let sides = row.record.completions().into_iter().map(side).collect();
        rows.push(Row { id: row.record.id().to_owned(), sides });
    }
    Ok(rows)
}
