//! Errors in a response, wherever a server puts them.

use serde_json::{Map, Value};

use super::json;

/// Characters of a message that are shown.
const SHOWN: usize = 300;

/// A server's error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// Its message, as one line.
    pub message: String,
    /// The HTTP status it amounts to, where its code or its type tells.
    pub status: Option<u16>,
}

impl Refusal {
    /// The error of a response that is no success.
    pub fn of_body(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let value = json::parse(bytes).unwrap_or(Value::Null);
        Self::find(&value).unwrap_or_else(|| Refusal { message: line(title(&text).unwrap_or(&text)), status: None })
    }

    /// The error in a response of status 200: in the body, or in its choice.
    pub fn in_success(body: &Map<String, Value>, choice: Option<&Map<String, Value>>) -> Option<Self> {
        let error = |map: &Map<String, Value>| map.get("error").filter(|error| !error.is_null()).cloned();
        let is_error = body.get("object").and_then(Value::as_str) == Some("error");
        let in_choice = choice.and_then(|choice| error(choice).or_else(|| error(choice.get("message")?.as_object()?)));
        match error(body).or(in_choice) {
            Some(error) => Self::find(&serde_json::json!({ "error": error })),
            // vLLM's older shape, or a message in the place of choices
            None if is_error || choice.is_none() => Self::find(&Value::Object(body.clone())),
            None => None,
        }
    }

    /// The error in a list, which Google wraps it in.
    pub fn in_list(list: &[Value]) -> Option<Self> {
        list.first().filter(|first| !first["error"].is_null()).and_then(Self::find)
    }

    /// The error in one of the shapes in use.
    fn find(value: &Value) -> Option<Self> {
        // Google's list
        let value = value.as_array().and_then(|list| list.first()).unwrap_or(value);
        let error = &value["error"];
        let detail = &value["detail"];
        let message = [&error["message"], &value["message"], detail, error, &detail[0]["msg"]]
            .into_iter()
            .find_map(Value::as_str)
            .map(str::to_owned)
            .or_else(|| [error, detail].into_iter().find(|value| !value.is_null()).map(Value::to_string))?;
        // OpenRouter's "Provider returned error" has the reason beside it; pydantic's has the field.
        let beside = error["metadata"]["raw"].as_str().map(str::to_owned);
        let field = detail[0]["loc"].as_array().map(|path| {
            path.iter()
                .map(|part| part.as_str().map_or_else(|| part.to_string(), str::to_owned))
                .collect::<Vec<_>>()
                .join(".")
        });
        let message = [Some(message), beside.or(field)].into_iter().flatten().collect::<Vec<_>>().join(": ");
        let codes = [&error["code"], &error["status"], &error["type"], &value["code"], &value["type"]];
        Some(Refusal { message: line(&message), status: codes.into_iter().find_map(status) })
    }

    /// Text of a refusing response in which words are looked for: without the request, or parts of it, that it quotes.
    /// `texts` are those of the request's messages.
    pub fn said<'a>(bytes: &[u8], texts: impl Iterator<Item = &'a str>) -> String {
        let mut said = match json::parse(bytes) {
            Ok(value @ (Value::Object(_) | Value::Array(_))) => {
                let mut said = String::new();
                say(&value, &mut said);
                said
            }
            _ => String::from_utf8_lossy(bytes).into_owned(),
        };
        for text in texts.filter(|text| text.len() >= QUOTED) {
            said = said.replace(text, " ");
        }
        without_input(&said)
    }

    /// True if the error reports an exhausted quota, which no retry changes.
    pub fn is_out_of_quota(bytes: &[u8]) -> bool {
        let value = json::parse(bytes).unwrap_or(Value::Null);
        ["code", "type"].iter().any(|name| value["error"][name] == "insufficient_quota")
    }
}

/// Bytes of a message from which on its text in a response is a quotation.
const QUOTED: usize = 16;

/// Fields of a validator's error that hold what it was given.
const GIVEN: [&str; 3] = ["input", "ctx", "body"];

/// Adds the texts and names of an error's fields, a line each.
fn say(value: &Value, said: &mut String) {
    match value {
        Value::String(text) => {
            said.push_str(text);
            said.push('\n');
        }
        Value::Array(items) => items.iter().for_each(|item| say(item, said)),
        Value::Object(fields) => {
            for (name, field) in fields.iter().filter(|(name, _)| !GIVEN.contains(&name.as_str())) {
                said.push_str(name);
                said.push('\n');
                say(field, said);
            }
        }
        _ => {}
    }
}

/// A text without what stands behind `'input':`, `"input":` and `input_value=`, where pydantic's errors print what they
/// were given.
fn without_input(text: &str) -> String {
    const MARKS: [&str; 3] = ["'input':", "\"input\":", "input_value="];
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((at, mark)) = MARKS.iter().filter_map(|mark| Some((rest.find(mark)?, mark))).min() {
        kept.push_str(&rest[..at]);
        rest = &rest[at + mark.len()..];
        rest = &rest[end_of_value(rest)..];
    }
    kept + rest
}

/// Bytes of the value at the beginning of a text, as Python or JSON print it.
fn end_of_value(text: &str) -> usize {
    let (mut depth, mut quote, mut escaped) = (0usize, None, false);
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(_), _) if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some(open), _) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, '{' | '[' | '(') => depth += 1,
            (None, '}' | ']' | ')' | ',') if depth == 0 => return at,
            (None, '}' | ']' | ')') => depth -= 1,
            _ => {}
        }
    }
    text.len()
}

/// The HTTP status of a code, a number or a word.
fn status(code: &Value) -> Option<u16> {
    let number = code.as_u64().or_else(|| code.as_str()?.parse().ok());
    if let Some(status) = number.and_then(|number| u16::try_from(number).ok()).filter(|code| (400..600).contains(code))
    {
        return Some(status);
    }
    let word = code.as_str()?.to_ascii_lowercase();
    const WORDS: [(&str, u16); 12] = [
        ("rate_limit", 429),
        ("resource_exhausted", 429),
        ("overloaded", 503),
        ("unavailable", 503),
        ("timeout", 504),
        ("server_error", 500),
        ("internal", 500),
        ("authentication", 401),
        ("api_key", 401),
        ("permission", 403),
        ("not_found", 404),
        ("invalid", 400),
    ];
    WORDS.iter().find(|(part, _)| word.contains(part)).map(|(_, status)| *status)
}

/// The title of a page.
fn title(page: &str) -> Option<&str> {
    let (_, rest) = page.split_once("<title>")?;
    rest.split_once("</title>").map(|(title, _)| title)
}

/// `text` as one line, cut, without the control characters that move a terminal.
pub(super) fn line(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let line = line.replace(char::is_control, "\u{fffd}");
    match line.char_indices().nth(SHOWN) {
        Some((cut, _)) => format!("{}…", &line[..cut]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_found_and_cut() {
        for body in [
            r#"{"error":{"message":"a  b"}}"#,
            r#"{"message":"a b"}"#,
            r#"{"detail":"a b"}"#,
            r#"[{"error":{"message":"a b"}}]"#,
            r#"{"error":"a b"}"#,
            "a\nb",
            "<html><head><title>a b</title></head></html>",
        ] {
            assert_eq!(Refusal::of_body(body.as_bytes()).message, "a b", "{body}");
        }
        assert_eq!(Refusal::of_body("é".repeat(4000).as_bytes()).message.chars().count(), 301);
        let pydantic = Refusal::of_body(br#"{"detail":[{"loc":["body","seed"],"msg":"not permitted"}]}"#);
        assert_eq!(pydantic.message, "not permitted: body.seed");
        assert!(
            Refusal::is_out_of_quota(br#"{"error":{"code":"insufficient_quota"}}"#) && !Refusal::is_out_of_quota(b"{}")
        );
    }

    #[test]
    fn a_quoted_request_is_no_part_of_what_is_said() {
        let said = |body: &str| Refusal::said(body.as_bytes(), ["Plant a seed, compare top_p with min_p."].into_iter());
        for (body, expected) in [
            (
                r#"{"detail":[{"msg":"bad","loc":["body","top_k"],"input":{"seed":1},"ctx":{"min_p":0}}]}"#,
                ["top_k", "bad"],
            ),
            (r#"{"error":{"message":"flagged: Plant a seed, compare top_p with min_p. top_k bad"}}"#, ["top_k", "bad"]),
            (
                "[{'msg': 'bad', 'input': {'seed': 1, 'a': ['}', \"min_p'\"]}, 'loc': ('body', 'top_k')}]",
                ["top_k", "bad"],
            ),
            ("top_k bad [type=missing, input_value={'min_p': 0.0, 'seed...}, input_type=dict]", ["top_k", "bad"]),
        ] {
            let said = said(body);
            assert!(expected.iter().all(|word| said.contains(word)), "{said}");
            assert!(["seed", "min_p", "top_p"].iter().all(|word| !said.contains(word)), "{said}");
        }
    }

    #[test]
    fn messages_move_no_terminal() {
        assert_eq!(Refusal::of_body(b"{\"error\":\"a \\u001b[2J\\u0007 b\"}").message, "a \u{fffd}[2J\u{fffd} b");
    }

    #[test]
    fn an_error_in_a_success_has_the_status_it_amounts_to() {
        let read = |text: &str| {
            let Ok(Value::Object(body)) = serde_json::from_str(text) else { panic!("{text} is no object") };
            let choice = body.get("choices").and_then(|choices| choices[0].as_object());
            Refusal::in_success(&body, choice).map(|refusal| (refusal.message, refusal.status))
        };
        let found = |message: &str, status| Some((message.to_owned(), status));
        for (body, expected) in [
            (r#"{"error":{"message":"full","code":502}}"#, found("full", Some(502))),
            (r#"{"choices":null,"error":{"message":"bad key","code":"401"}}"#, found("bad key", Some(401))),
            (r#"{"choices":[{"error":{"message":"slow","type":"rate_limit_error"}}]}"#, found("slow", Some(429))),
            (r#"{"object":"error","message":"gone","code":40401}"#, found("gone", None)),
            (r#"{"error":"no capacity"}"#, found("no capacity", None)),
            (r#"{"error":null,"choices":[{"message":{"content":"fine"}}]}"#, None),
            (r#"{"choices":[]}"#, None),
        ] {
            assert_eq!(read(body), expected, "{body}");
        }
    }
}
