//! Share of answers in which the model goes on alone, as user and assistant.
//!
//! A model that lost its end of turn writes the next turns itself, with their headers as text. Found are
//!
//! - headers of chat formats (`<|im_start|>user`, `[INST]`, `### Human:`) after an answer;
//! - plain headers at the beginning of lines (`User:`, `**Human**:`, `Пользователь:`, `用户：`, or a line `user` alone), if
//!   one of the assistant's or a second one of the user's follows.
//!
//! Not counted are headers in code, a header that opens the answer, and everything if the prompt asks for a dialogue or
//! has such headers itself; a prompt that ends in the assistant's header is a conversation to be continued, and counts.
//! Reasoning is left out: it may well quote the user.

use smpo_results::{Direction, Message, Unit};

use super::{Metric, MetricInfo, Scratch, View};
use crate::sample::share;
use crate::text::code;
use crate::text::visible::is_visible;

/// `self_talk_rate`.
pub static INFO: MetricInfo = MetricInfo {
    id: "self_talk_rate",
    name: "Self-talk",
    unit: Unit::Share,
    better: Direction::Lower,
    primary: true,
    binary: true,
    leaderboard: None,
    summary: true,
    description: "share of answers that go on with further turns of user and assistant, their headers as text, where the \
                  prompt asked for no dialogue",
    reference: "smpo; huggingface/trl issue 1025",
};

/// The entry of the catalogue.
pub static METRICS: &[Metric] = &[Metric::of_sample(&INFO, measure)];

/// 1 if the answer goes on with turns of its own.
fn measure(view: &View<'_>, _: &mut Scratch) -> Option<f64> {
    Some(share(talks_to_itself(view.answer, &view.sample.messages)))
}

/// Names of the user in headers, in lower case.
const USERS: &[&str] = &[
    "user", "human", "usuario", "usuário", "utilisateur", "benutzer", "nutzer", "mensch", "utente", "użytkownik", "gebruiker",
    "användare", "kullanıcı", "pengguna", "người dùng", "пользователь", "человек", "користувач", "用户", "用戶", "人类", "ユーザー",
    "사용자", "المستخدم", "مستخدم", "משתמש", "उपयोगकर्ता", "ผู้ใช้",
];

/// Names of the assistant in headers, in lower case.
const ASSISTANTS: &[&str] = &[
    "assistant", "ai", "bot", "chatbot", "model", "gpt", "chatgpt", "ai assistant", "asistente", "assistente", "assistent",
    "asystent", "asistan", "asisten", "trợ lý", "ассистент", "помощник", "бот", "асистент", "ии", "助手", "アシスタント",
    "어시스턴트", "المساعد", "مساعد", "עוזר", "सहायक", "ผู้ช่วย",
];

/// Beginnings of words of prompts that ask for a dialogue.
const DIALOGUES: &[&str] = &[
    "dialog", "conversation", "chat", "transcript", "interview", "role-play", "roleplay", "role play", "screenplay", "script",
    "skit", "debate", "few-shot", "diálogo", "conversa", "gespräch", "entretien", "диалог", "разговор", "бесед", "чат",
    "интервью", "сценари", "переписк", "ролев", "对话", "對話", "聊天", "会話", "対話", "대화", "حوار", "محادثة", "बातचीत", "sohbet",
];

/// Longest name of a header in bytes.
const MAX_HEADER: usize = 40;

/// The speaker of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Speaker {
    User,
    Assistant,
}

/// A header of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Header {
    at: usize,
    speaker: Speaker,
    /// Of a chat format, which nobody writes by chance.
    formal: bool,
}

fn talks_to_itself(answer: &str, prompt: &[Message]) -> bool {
    let headers = headers(answer);
    let Some(user) = headers.iter().position(|header| header.speaker == Speaker::User) else {
        return false;
    };
    let alone = headers[user].formal && is_visible(&answer[..headers[user].at]);
    (alone || headers.len() > user + 1) && !is_asked_for(prompt)
}

/// True if the prompt asks for a dialogue, or is one that does not wait for the assistant's turn.
fn is_asked_for(prompt: &[Message]) -> bool {
    let asks = |message: &Message| {
        let text = message.content.to_lowercase();
        DIALOGUES.iter().any(|word| {
            let spaced = word.starts_with(|c: char| (c as u32) < 0x3000);
            text.match_indices(word).any(|(at, _)| !spaced || !text[..at].ends_with(char::is_alphanumeric))
        })
    };
    let has_turns = |message: &Message| {
        let headers = headers(&message.content);
        let waits = headers.last().is_some_and(|last| {
            let tail = message.content[last.at..].trim_end();
            last.speaker == Speaker::Assistant && !tail.contains('\n') && tail.len() < 80
        });
        !headers.is_empty() && !waits
    };
    prompt.iter().any(|message| message.role != "assistant" && (asks(message) || has_turns(message)))
}

/// Headers of turns outside code, in order.
fn headers(text: &str) -> Vec<Header> {
    let mut headers = Vec::new();
    let mut code: Option<Vec<std::ops::Range<usize>>> = None;
    let mut at = 0;
    let marked = [b'<', b'['].iter().any(|open| text.as_bytes().contains(open));
    for line in text.split_inclusive('\n') {
        if let Some(header) = header(line, at, marked)
            && !code::contains(code.get_or_insert_with(|| code::ranges(text)), at)
        {
            headers.push(header);
        }
        at += line.len();
    }
    headers
}

/// The header that a line begins with, or, in a `marked` text, a chat format's header anywhere in it.
fn header(line: &str, at: usize, marked: bool) -> Option<Header> {
    if marked
        && line.bytes().any(|byte| matches!(byte, b'<' | b'['))
        && let Some(header) = formal_header(line, at)
    {
        return Some(header);
    }
    // A header is short, and most lines are none.
    let start = line.trim_start_matches([' ', '\t', '>', '-']);
    let is_marked = start.starts_with('#');
    let name = start.trim_start_matches(['#', '*', '_', '[', '<', ' ']);
    let beginning = &name[..(MAX_HEADER..name.len()).find(|&end| name.is_char_boundary(end)).unwrap_or(name.len())];
    let end = beginning.find([':', '：']);
    let bare = end.is_none();
    if bare && (is_marked || !matches!(name.trim_end(), "user" | "assistant" | "human" | "model")) {
        return None;
    }
    let head = name[..end.unwrap_or(name.len())].trim_end_matches(['*', '_', ']', '>', ' ', '\n', '\r']);
    let speaker = speaker(head)?;
    Some(Header { at, speaker, formal: is_marked && !bare })
}

/// A chat format's header anywhere in a line.
fn formal_header(line: &str, at: usize) -> Option<Header> {
    let header = |speaker, within: usize| Some(Header { at: at + within, speaker, formal: true });
    let begins = |before: &str| {
        let before = before.trim_end();
        before.is_empty() || before.ends_with(['.', '!', '?', '>', ']'])
    };
    if let Some(within) = line.find("[INST]").filter(|&within| begins(&line[..within])) {
        return header(Speaker::User, within);
    }
    for open in ["<|im_start|>", "<|start_header_id|>", "<start_of_turn>", "<|start|>", "<|"] {
        let Some(within) = line.find(open) else { continue };
        let rest = &line[within + open.len()..];
        let role = &rest[..rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len())];
        let is_header = open != "<|" || rest[role.len()..].starts_with("|>");
        if let Some(speaker) = speaker(role).filter(|_| is_header) {
            return header(speaker, within);
        }
    }
    None
}

fn speaker(name: &str) -> Option<Speaker> {
    let name = name.to_lowercase();
    let of = |names: &[&str], speaker| names.contains(&name.as_str()).then_some(speaker);
    of(USERS, Speaker::User).or_else(|| of(ASSISTANTS, Speaker::Assistant))
}

#[cfg(test)]
mod tests {
    use smpo_results::Sample;

    use super::*;

    fn asked(prompt: &str, answer: &str) -> Option<f64> {
        let sample = Sample { messages: vec![Message::user(prompt)], ..crate::sample::sample(answer) };
        crate::sample::value("self_talk_rate", &sample)
    }

    #[test]
    fn further_turns_are_self_talk() {
        for answer in [
            "4\n\n### Human: what is 3+3?\n### Assistant: 6",
            "4\n\n### Human: what is",
            "4<|im_end|>\n<|im_start|>user\nWhat is 3+3?",
            "4 <|user|> and 3+3? <|assistant|> 6",
            "4<end_of_turn>\n<start_of_turn>user\n3+3?",
            "It is 4. [INST] And 3+3? [/INST] It is 6.",
            "4\n\nUser: What is 3+3?\nAssistant: 6\n\nUser: 4+4?",
            "4\n\nHuman: What is 3+3?\n\nHuman: Hello?",
            "4\n\n**User:** And 3+3?\n\n**Assistant:** 6",
            "4\nuser\nWhat is 3+3?\nassistant\n6",
            "Четыре.\nПользователь: а 3+3?\nАссистент: шесть",
            "四。\n用户：三加三？\n助手：六",
            "Cuatro.\nUsuario: ¿y 3+3?\nAsistente: seis",
            "User: What is 3+3?\nAssistant: 6",
        ] {
            assert_eq!(asked("What is 2+2?", answer), Some(1.0), "{answer:?}");
        }
    }

    #[test]
    fn one_answer_is_none() {
        for answer in [
            "",
            "4",
            "Assistant: 4",
            "The user:\n- signs in\n- signs out",
            "User: the person who signs in.\nServer: the machine.",
            "Use these headers:\n```\nUser: hi\nAssistant: hello\n```\nThat is all.",
            "### Instructions:\n1. Mix.\n2. Bake.",
            "Wrap it: [INST] your question [/INST]",
            "<think>User: wants four\nAssistant: I say four</think>4",
            "The bot\nis a model",
        ] {
            assert_eq!(asked("What is 2+2?", answer), Some(0.0), "{answer:?}");
        }
    }

    #[test]
    fn dialogues_that_were_asked_for_are_none() {
        let answer = "User: Hello!\nAssistant: Good morning.\nUser: Bye.";
        for prompt in ["Write a dialogue of a user and a bot.", "Сочини диалог с ассистентом.", "User: hi\nAssistant: hello\nContinue."] {
            assert_eq!(asked(prompt, answer), Some(0.0), "{prompt}");
        }
        for prompt in ["Describe a morning.", "User: hi\nAssistant:"] {
            assert_eq!(asked(prompt, answer), Some(1.0), "{prompt}");
        }
    }
}
