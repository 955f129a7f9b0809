//! `smpo reward score`.

use smpo_chat::{Conversation, Message};
use smpo_data::{Located, Record, records, records_with_labels};
use smpo_files::write_whole;
use smpo_inference::Item;
use smpo_native::LabelModel;
use smpo_tokenizer::{Sequence, TokenizerError};

use super::ScoreArgs;
use super::row::{Row, Side};
use super::summary::Summary;
use crate::commands::reward_model;
use crate::exit::{Exit, Failure, OrFail, Outcome};
use crate::interrupt;
use crate::output;
use crate::outputs;
use crate::progress::Progress;

/// Rows handed to the model at once.
const BATCH: usize = 32;

/// Name of the only side of a row without answers.
const TEXT: &str = "text";

pub fn run(args: &ScoreArgs) -> Outcome {
    crate::commands::set_threads(args.threads)?;
    outputs::check([&args.input, &args.model], &[("--out", args.out.as_deref())])?;
    let model = LabelModel::load(&args.model, args.base.as_deref())?;
    let progress = Progress::new();
    let stage = progress.stage("score", 100);
    let mut records = match model.labels().is_reward() {
        true => records(&args.input)?,
        false => records_with_labels(&args.input)?,
    };
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
    stage.finish(&smpo_suggest::counted(rows.len(), "row"));
    if rows.is_empty() {
        return Err(Failure::user(format!("{}: expected at least one row, got none", args.input.display())));
    }
    if let Some(out) = &args.out {
        let text: String = rows.iter().map(|row| row.json(model.labels()).to_string() + "\n").collect();
        write_whole(out, text.as_bytes()).or_execution_error()?;
    }
    let summary = Summary::of(&args.model, model.labels(), &rows);
    output::summary(args.out.as_deref(), args.format, || summary.text(args.out.as_deref()), &summary)?;
    match summary.scored {
        0 => Err(reward_model::all_too_long(&args.model, rows.len())),
        _ => Ok(Exit::Success),
    }
}

/// The values of some rows.
fn score(model: &LabelModel, batch: &[Located<Record>]) -> Result<Vec<Row>, Failure> {
    let place = |error| format!("{}: row and those after it: {error}", batch[0].location);
    let mut values = values(model, batch).map_err(place).or_user_error()?.into_iter();
    let mut rows = Vec::with_capacity(batch.len());
    for row in batch {
        let side = |(name, characters)| Side { name, characters, values: values.next().flatten() };
        let sides = sides(&row.record).into_iter().map(side).collect();
        let labels = match &row.record {
            Record::Classified(text) => text.names().map(<[String]>::to_vec),
            Record::Pair(_) | Record::Group(_) | Record::Unpaired(_) | Record::Example(_) => None,
        };
        rows.push(Row { id: row.record.id().to_owned(), sides, labels });
    }
    Ok(rows)
}

/// The values of each side of some rows, one row after the other.
fn values(
    model: &LabelModel,
    batch: &[Located<Record>],
) -> Result<Vec<Option<Vec<f64>>>, Box<dyn std::error::Error + Send + Sync>> {
    let is_text = |row: &Located<Record>| matches!(row.record, Record::Classified(_));
    if model.labels().is_reward() && !batch.iter().any(is_text) {
        let items = batch.iter().flat_map(|row| {
            let item = |(_, completion)| Item { prompt: row.record.prompt(), completion };
            row.record.completions().into_iter().map(item)
        });
        return model.values(&items.collect::<Vec<_>>());
    }
    let mut texts = Vec::with_capacity(batch.len());
    for row in batch {
        for sequence in sequences(model, &row.record)? {
            texts.push(sequence.ids);
        }
    }
    model.values_of_texts(texts)
}

/// Each side of a row as a whole conversation.
fn sequences(model: &LabelModel, record: &Record) -> Result<Vec<Sequence>, TokenizerError> {
    if let Record::Classified(text) = record {
        return Ok(vec![text.encode(model.tokenizer())?]);
    }
    let whole = |(_, completion): (&str, &[Message])| {
        let messages = [record.prompt(), completion].concat();
        model.tokenizer().encode_whole(Conversation { messages: &messages, ..record.conversation() })
    };
    record.completions().into_iter().map(whole).collect()
}

/// Names and lengths of what a row has values of.
fn sides(record: &Record) -> Vec<(&'static str, usize)> {
    let characters = |messages: &[Message]| messages.iter().map(|message| message.content.chars().count()).sum();
    match record {
        Record::Classified(row) => {
            let text = row.text.as_ref().map_or(0, |text| text.chars().count());
            vec![(TEXT, text + characters(&row.messages))]
        }
        _ => record.completions().into_iter().map(|(name, side)| (name, characters(side))).collect(),
    }
}
