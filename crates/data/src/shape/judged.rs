//! Pairs in whose rows another column says which of two answers is the better one.

use serde_json::{Map, Value, json};

use super::answers::{Answer, bare_answer};
use super::columns::PROMPT;
use super::fields::Fields;
use super::finish::flag;
use super::{Remarks, missing, wrong_type};
use crate::read_error::Problem;

/// The columns of two answers, and the ways in which rows of this layout judge them.
pub(crate) struct Layout {
    /// The first and the second answer.
    pub sides: [&'static str; 2],
    verdicts: &'static [Verdict],
}

/// A column that says which answer is the better one.
#[derive(Debug, Clone, Copy)]
enum Verdict {
    /// The name of the better one, or of a tie.
    Name(&'static str),
    /// A flag for either, and for a tie.
    Flags([&'static str; 2], &'static str),
    /// The number of the better one, counted from `first`.
    Number { column: &'static str, first: f64 },
    /// Negative for the first, positive for the second.
    Sign(&'static str),
    /// 1 for the first, 0 for the second.
    IsFirst(&'static str),
    /// A score for either.
    Scores([&'static str; 2]),
}

use Verdict::{Flags, IsFirst, Name, Number, Scores, Sign};

/// Chatbot Arena and the reader's own names; PKU-SafeRLHF; HelpSteer 3; HelpSteer 2 and Align-Anything; AlpacaFarm,
/// OffsetBias and LLMBar; Unified-Feedback; Stanford Human Preferences.
pub(crate) const LAYOUTS: &[Layout] = &[
    Layout {
        sides: ["response_a", "response_b"],
        verdicts: &[Name("winner"), Flags(["winner_model_a", "winner_model_b"], "winner_tie")],
    },
    Layout { sides: ["conversation_a", "conversation_b"], verdicts: &[Name("winner")] },
    Layout { sides: ["response_0", "response_1"], verdicts: &[Number { column: "better_response_id", first: 0.0 }] },
    Layout { sides: ["response1", "response2"], verdicts: &[Sign("overall_preference")] },
    Layout {
        sides: ["response_1", "response_2"],
        verdicts: &[Sign("preference_strength"), Number { column: "overall_response", first: 1.0 }],
    },
    Layout {
        sides: ["output_1", "output_2"],
        verdicts: &[Number { column: "preference", first: 1.0 }, Number { column: "label", first: 1.0 }],
    },
    Layout { sides: ["conv_A", "conv_B"], verdicts: &[Scores(["conv_A_rating", "conv_B_rating"])] },
    Layout { sides: ["human_ref_A", "human_ref_B"], verdicts: &[IsFirst("labels")] },
];

impl Layout {
    /// The columns that judge.
    pub fn columns(&self) -> impl Iterator<Item = &'static str> {
        self.verdicts.iter().map(|verdict| verdict.column())
    }

    /// The layout of a row that has both answers, and a verdict or its column.
    fn of(row: &Fields) -> Option<&'static Layout> {
        let has_sides = |layout: &&Layout| layout.sides.iter().all(|side| row.get(side).is_some());
        let has_verdict = |layout: &&Layout| layout.columns().any(|column| row.names().any(|name| name == column));
        LAYOUTS.iter().filter(has_sides).find(has_verdict)
    }
}

/// True for a row of two answers that another column judges.
pub(super) fn is_judged(row: &Fields) -> bool {
    Layout::of(row).is_some()
}

/// The column that a row of two answers lacks, where none judges them.
pub(super) fn verdict_of_none(row: &Fields) -> Option<&'static str> {
    let layout = LAYOUTS.iter().find(|layout| layout.sides.iter().all(|side| row.get(side).is_some()))?;
    layout.columns().next()
}

/// The better and the worse answer of such a row.
///
/// # Errors
/// For a verdict that is null, a tie, or a value that is none.
pub(super) fn answers(row: &mut Fields, remarks: &mut Remarks) -> Result<Option<(Answer, Answer)>, Problem> {
    let Some(layout) = Layout::of(row) else { return Ok(None) };
    let present = |verdict: &&Verdict| row.get(verdict.column()).is_some();
    let Some(verdict) = layout.verdicts.iter().find(present) else {
        return Err(missing(row, layout.verdicts[0].column()));
    };
    let is_second = verdict.is_second(row)?;
    if PROMPT.iter().all(|name| row.get(name).is_none())
        && let Some(post) = row.take_if("history", Value::is_string)
    {
        row.unfold("history", Map::from_iter([("prompt".to_owned(), post)]));
    }
    let sides = match turns(row, layout.sides)? {
        Some(conversations) => Some(conversations),
        None => row.take(layout.sides[0]).zip(row.take(layout.sides[1])).map(<[Value; 2]>::from),
    };
    let Some([first, second]) = sides else { return Ok(None) };
    let first = bare_answer((layout.sides[0], first), remarks)?;
    let second = bare_answer((layout.sides[1], second), remarks)?;
    Ok(Some(if is_second { (second, first) } else { (first, second) }))
}

impl Verdict {
    /// The column; the first of several.
    fn column(self) -> &'static str {
        match self {
            Name(column)
            | Flags([column, _], _)
            | Scores([column, _])
            | Number { column, .. }
            | Sign(column)
            | IsFirst(column) => column,
        }
    }

    /// Takes the verdict: true for the second answer.
    fn is_second(self, row: &mut Fields) -> Result<bool, Problem> {
        let column = self.column();
        let value = row.take(column).unwrap_or_default();
        let tie = |value: &Value| Problem::Unsupported {
            field: column.to_owned(),
            got: format!("{value}, a tie"),
            remedy: "leave the row out: it prefers neither answer",
        };
        match self {
            Name(_) => {
                let expected = "`model_a`, `model_b`, `a`, `b`, `response_a`, `response_b` or `tie`";
                let word = value.as_str().unwrap_or_default().to_lowercase();
                match word.as_str() {
                    "a" | "model_a" | "response_a" | "conversation_a" => Ok(false),
                    "b" | "model_b" | "response_b" | "conversation_b" => Ok(true),
                    word if word.starts_with("tie") || matches!(word, "both_bad" | "bothbad") => Err(tie(&value)),
                    _ => Err(Problem::WrongType { field: column.to_owned(), expected, got: value.to_string() }),
                }
            }
            Flags([_, second], neither) => {
                let others = [second, neither].map(|name| row.take(name).as_ref().and_then(flag).unwrap_or(false));
                match (flag(&value), others) {
                    (Some(true), [false, false]) => Ok(false),
                    (Some(false), [true, false]) => Ok(true),
                    (Some(false), [false, true]) => Err(tie(&value)),
                    _ => Err(wrong_type(
                        column.to_owned(),
                        "1 for one of the answers or the tie, 0 for the others",
                        &value,
                    )),
                }
            }
            Number { first, .. } => match value.as_f64().map(|number| number - first) {
                Some(0.0) => Ok(false),
                Some(1.0) => Ok(true),
                // AlpacaEval's ties
                Some(0.5) => Err(tie(&value)),
                _ => {
                    let expected = if first == 0.0 {
                        "0 or 1, the better answer's number"
                    } else {
                        "1 or 2, the better answer's number"
                    };
                    Err(Problem::WrongType { field: column.to_owned(), expected, got: value.to_string() })
                }
            },
            Sign(_) => match value.as_f64() {
                Some(0.0) => Err(tie(&value)),
                Some(strength) => Ok(strength > 0.0),
                None => Err(wrong_type(
                    column.to_owned(),
                    "a number, negative where the first answer is the better one",
                    &value,
                )),
            },
            Scores([_, second]) => {
                let other = row.take(second).unwrap_or_default();
                match value.as_f64().zip(other.as_f64()) {
                    Some((first, second)) if first == second => Err(tie(&value)),
                    Some((first, second)) => Ok(second > first),
                    None => Err(wrong_type(column.to_owned(), "a score, as of the other answer", &value)),
                }
            }
            IsFirst(_) => {
                let is_first = flag(&value).filter(|_| !value.is_string());
                let wrong = || wrong_type(column.to_owned(), "1 for the first answer or 0 for the second", &value);
                is_first.map(|is_first| !is_first).ok_or_else(wrong)
            }
        }
    }
}

/// Both conversations of a row whose prompt and answers are JSON lists of texts, one a turn, as Kaggle's Chatbot Arena
/// has them.
///
/// # Errors
/// For a prompt that begins as such a list where one of the three is none, and for lists of different lengths.
fn turns(row: &mut Fields, [first, second]: [&'static str; 2]) -> Result<Option<[Value; 2]>, Problem> {
    let text = |name: &str| row.get(name).and_then(Value::as_str).map(str::trim_start);
    if !text("prompt").is_some_and(|text| text.starts_with("[\"")) {
        return Ok(None);
    }
    let list = |field: &str| {
        let read = serde_json::from_str::<Vec<Option<String>>>(text(field).unwrap_or_default());
        let wrong = |got: String| {
            let expected = "a JSON list of texts, one a turn, as in `prompt`";
            Problem::WrongType { field: field.to_owned(), expected, got }
        };
        read.map(|texts| (field.to_owned(), texts)).map_err(|error| wrong(error.to_string()))
    };
    let [(_, questions), first_answers, second_answers] = [list("prompt")?, list(first)?, list(second)?];
    let whole = |(field, answers): (String, Vec<Option<String>>)| {
        if answers.len() != questions.len() {
            let got = format!("{} for {}", answers.len(), questions.len());
            return Err(Problem::WrongType { field, expected: "an answer for each turn of `prompt`", got });
        }
        let message = |role: &str, content: &Option<String>| json!({"role": role, "content": content});
        let turn = |(question, answer)| [message("user", question), message("assistant", answer)];
        Ok(questions.iter().zip(&answers).flat_map(turn).collect::<Vec<Value>>().into())
    };
    let sides = [whole(first_answers)?, whole(second_answers)?];
    ["prompt", first, second].iter().for_each(|name| drop(row.take(name)));
    Ok(Some(sides))
}
