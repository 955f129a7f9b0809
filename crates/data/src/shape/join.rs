//! Parts of one conversation put together where they overlap.

use smpo_chat::Message;

use crate::read_error::Problem;

/// Characters of a text that a contradiction quotes.
const QUOTED: usize = 40;

/// Two views of one conversation as one: `later` may repeat the end of `earlier`, or hold all of it.
///
/// # Errors
/// Both as they came, where they contradict each other.
pub(super) fn join(
    mut earlier: Vec<Message>,
    mut later: Vec<Message>,
) -> Result<Vec<Message>, (Vec<Message>, Vec<Message>)> {
    let (turns, later_turns) = (turns(&earlier), turns(&later));
    let (led, later_led) = (turns.len() < earlier.len(), later_turns.len() < later.len());
    let kept = match holds(later_turns, turns) {
        true => Some(0),
        false => (1..turns.len()).find(|&at| begins(later_turns, &turns[at..])),
    };
    let Some(kept) = kept.filter(|_| !(led && later_led) || same(&earlier[0], &later[0])) else {
        return Err((earlier, later));
    };
    earlier.truncate(usize::from(led) + kept);
    if later_led {
        earlier.splice(..usize::from(led), later.drain(..1));
    }
    earlier.append(&mut later);
    Ok(earlier)
}

/// The messages without a leading system message.
pub(super) fn turns(messages: &[Message]) -> &[Message] {
    match messages {
        [first, rest @ ..] if first.role == "system" => rest,
        all => all,
    }
}

/// True if `part` stands somewhere in `whole`.
pub(super) fn holds(whole: &[Message], part: &[Message]) -> bool {
    (0..=whole.len()).any(|at| begins(&whole[at..], part))
}

fn begins(whole: &[Message], part: &[Message]) -> bool {
    whole.len() >= part.len() && whole.iter().zip(part).all(|(a, b)| same(a, b))
}

pub(super) fn same(a: &Message, b: &Message) -> bool {
    a.role == b.role && same_text(&a.content, &b.content) && a.fields == b.fields
}

pub(super) fn same_text(a: &str, b: &str) -> bool {
    a.trim() == b.trim()
}

/// Two columns that cannot belong to one conversation.
pub(super) fn contradiction(one: &str, messages: &[Message], other: &str, others: &[Message]) -> Problem {
    Problem::Contradiction {
        one: format!("`{one}` ({})", beginning(messages)),
        other: format!("`{other}` ({})", beginning(others)),
        remedy: "remove the one that is wrong",
    }
}

/// Two sides of a pair whose prompts part at a message.
pub(super) fn parting((one, message): (&str, &Message), (other, another): (&str, &Message)) -> Problem {
    let texts = [message.content.trim(), another.content.trim()];
    let shared = texts[0].chars().zip(texts[1].chars()).take_while(|(a, b)| a == b).count();
    // the words before it show where it is
    let skipped = if shared < QUOTED { 0 } else { shared - QUOTED / 2 };
    let [message, another] = [(message, texts[0]), (another, texts[1])].map(|(message, text)| {
        let part: String = text.chars().skip(skipped).take(QUOTED).collect();
        let before = if skipped > 0 { "…" } else { "" };
        let more = if text.chars().count() > skipped + QUOTED { "…" } else { "" };
        format!("{} {:?}", message.role, format!("{before}{part}{more}"))
    });
    Problem::Contradiction {
        one: format!("`{one}` ({message})"),
        other: format!("`{other}` ({another})"),
        remedy: "both sides of a pair begin with the same prompt: correct one, or leave the row out",
    }
}

fn beginning(messages: &[Message]) -> String {
    let Some(first) = messages.first() else { return "no message".to_string() };
    let text = first.content.trim();
    let end = text.char_indices().nth(QUOTED).map_or(text.len(), |(end, _)| end);
    let more = if end < text.len() { "…" } else { "" };
    format!("{} {:?}", first.role, format!("{}{more}", &text[..end]))
}
