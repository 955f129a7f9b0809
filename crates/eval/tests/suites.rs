//! Suites and files of prompts: what is read, and what is said about what cannot be.

use std::fs;
use std::path::PathBuf;

use smpo_eval::Suite;
use smpo_inference::Sampler;

struct Files(tempfile::TempDir);

impl Files {
    fn new(files: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        for (name, text) in files {
            fs::write(dir.path().join(name), text).expect("writable");
        }
        Files(dir)
    }
    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
    fn error(&self, name: &str) -> String {
        Suite::read(&self.path(name)).expect_err("wrong").to_string()
    }
}

const SUITE: &str =
    "name = \"s\"\nprompts = \"p.jsonl\"\nslices = [\"math\", \"poem\"]\ncap = 64\n[sampler]\ntemperature = 0.8\n";
const PROMPTS: &str = concat!(
    "{\"id\": \"a\", \"slice\": \"math\", \"prompt\": \"2 + 2?\", \"reference\": \"4\", \"closed\": true}\n",
    "\n",
    "{\"id\": \"b\", \"slice\": \"poem\", \"messages\": [{\"role\": \"system\", \"content\": \"Be brief.\"}, ",
    "{\"role\": \"user\", \"content\": \"\"}], \"language\": \"ru\"}\n",
);

#[test]
fn a_suite_is_read_whole() {
    let files = Files::new(&[("s.toml", SUITE), ("p.jsonl", PROMPTS)]);
    let suite = Suite::read(&files.path("s.toml")).expect("valid");
    assert_eq!((suite.name.as_str(), suite.cap, suite.samples_per_prompt, suite.seed), ("s", 64, 1, 0));
    assert_eq!(suite.sampler, Sampler::temperature(0.8));
    assert_eq!(suite.prompts.len(), 2);
    assert!(suite.prompts[0].closed && suite.prompts[0].reference.as_deref() == Some("4"));
    assert_eq!(suite.prompts[1].messages.len(), 2);
    assert_eq!(suite.prompts[1].language.as_deref(), Some("ru"));
    // The hash knows everything that shapes a measurement, and nothing else.
    let info = suite.info().expect("no pairs");
    for (from, to, same) in
        [("2 + 2?", "2 + 3?", false), ("\"math\"", "\"poem\"", false), ("\"4\"", "\"5\"", false), ("\n\n", "\n", true)]
    {
        let slices = if from == "\"math\"" { SUITE.replace("\"math\", ", "") } else { SUITE.to_owned() };
        let changed = Files::new(&[("s.toml", &slices), ("p.jsonl", &PROMPTS.replace(from, to))]);
        let hash = Suite::read(&changed.path("s.toml")).expect("valid").info().expect("no pairs").sha256;
        assert_eq!(hash == info.sha256, same, "{from} -> {to}");
    }
}

#[test]
fn slices_need_not_be_declared() {
    let suite = SUITE.replace("slices = [\"math\", \"poem\"]\n", "");
    let prompts = PROMPTS.replace("\"slice\": \"poem\", ", "");
    let files =
        Files::new(&[("s.toml", &suite), ("p.jsonl", &prompts), ("all.jsonl", &PROMPTS.replace("math", "all"))]);
    let suite = Suite::read(&files.path("s.toml")).expect("valid");
    assert_eq!(suite.prompts.iter().map(|prompt| &prompt.slice[..]).collect::<Vec<_>>(), ["math", "prompts"]);
    let error = files.error("all.jsonl");
    assert!(error.contains("all.jsonl:1: ") && error.contains("\"all\" is reserved"), "{error}");
}

#[test]
fn wrong_suites_are_explained_with_the_line() {
    for (suite, prompts, place, words) in [
        (SUITE.replace("cap", "cpa"), PROMPTS.to_owned(), "s.toml:4:", "did you mean `cap`?"),
        (SUITE.replace("temperature", "temprature"), PROMPTS.to_owned(), "s.toml:6:", "did you mean `temperature`?"),
        (SUITE.replace("64", "0"), PROMPTS.to_owned(), "s.toml:", "cap: expected at least 1 token, got 0"),
        (SUITE.replace("0.8", "-1.0"), PROMPTS.to_owned(), "s.toml:", "sampler.temperature: expected"),
        (
            SUITE.replace("= 0.8", "= 1.0\ntop_p = 1.5"),
            PROMPTS.to_owned(),
            "s.toml:",
            "top_p: expected a number in (0, 1]",
        ),
        (
            SUITE.replace("\"poem\"", "\"poem\", \"code\""),
            PROMPTS.to_owned(),
            "s.toml:",
            "\"code\" is declared, but no prompt",
        ),
        (SUITE.replace("\"poem\"", "\"poem\", \"all\""), PROMPTS.to_owned(), "s.toml:", "\"all\" is reserved"),
        (SUITE.to_owned(), PROMPTS.replace("\"b\"", "\"a\""), "p.jsonl:3:", "the id \"a\" is already taken by line 1"),
        (SUITE.to_owned(), PROMPTS.replace("\"math\"", "\"maths\""), "p.jsonl:1:", "did you mean `math`?"),
        (SUITE.to_owned(), PROMPTS.replace("\"slice\": \"math\", ", ""), "p.jsonl:1:", "expected a `slice`"),
        (SUITE.to_owned(), PROMPTS.replace("\"id\": \"b\", ", ""), "p.jsonl:3:", "expected an `id`"),
        (SUITE.to_owned(), PROMPTS.replace("reference", "referense"), "p.jsonl:1:", "did you mean `reference`?"),
        (
            SUITE.to_owned(),
            PROMPTS.replace("\"reference\": \"4\", ", ""),
            "p.jsonl:1:",
            "a closed prompt needs its gold answer",
        ),
        (
            SUITE.to_owned(),
            PROMPTS.replace("true", "\"yes\""),
            "p.jsonl:1:",
            "`closed`: expected true or false, got a string",
        ),
        (
            SUITE.to_owned(),
            PROMPTS.replace("\"role\": \"user\"", "\"role\": \"assistant\""),
            "p.jsonl:3:",
            "got an assistant message",
        ),
        (
            SUITE.to_owned(),
            PROMPTS.replace("\"prompt\": \"2 + 2?\", ", ""),
            "p.jsonl:1:",
            "expected `messages` or `prompt`",
        ),
        (SUITE.to_owned(), format!("{PROMPTS}{{\"id\": \"c\"\n"), "p.jsonl:4:", "expected one JSON object a line"),
        (SUITE.to_owned(), format!("{PROMPTS}[1]\n"), "p.jsonl:4:", "expected a JSON object, got a list"),
        (
            SUITE.to_owned(),
            format!("{PROMPTS}{}\n", PROMPTS.lines().next().unwrap().replace("\"a\"", "\"c\"")),
            "p.jsonl:4:",
            "the same prompt as line 1",
        ),
        (SUITE.to_owned(), "\n".to_owned(), "p.jsonl:", "expected JSON objects, got an empty file"),
    ] {
        let files = Files::new(&[("s.toml", &suite), ("p.jsonl", &prompts)]);
        let error = files.error("s.toml");
        assert!(error.contains(place) && error.contains(words), "{error}\nexpected {place} … {words}");
    }
    let files = Files::new(&[("s.toml", SUITE)]);
    assert!(files.error("s.toml").contains("p.jsonl: cannot read"));
}

#[test]
fn any_file_of_prompts_is_a_suite() {
    for (text, ids, first) in [
        ("{\"prompt\": \"hi\", \"extra\": 1}\n{\"prompt\": \"ho\", \"slice\": \"x\"}", 2, "hi"),
        ("{\"question_id\": 81, \"turns\": [{\"content\": \"hi\"}], \"category\": \"writing\"}", 1, "hi"),
        ("{\"question_id\": 81, \"turns\": [\"hi\"]}", 1, "hi"),
        ("[{\"instruction\": \"hi\", \"dataset\": \"koala\"}, {\"instruction\": \"ho\"}]", 2, "hi"),
        (
            "{\"custom_id\": \"r1\", \"method\": \"POST\", \"body\": {\"model\": \"m\", \"messages\": [{\"role\": \"user\", \"content\": \"hi\"}]}}",
            1,
            "hi",
        ),
    ] {
        let files = Files::new(&[("mine.jsonl", text)]);
        let suite = Suite::read(&files.path("mine.jsonl")).expect(text);
        assert_eq!((suite.name.as_str(), suite.prompts.len()), ("mine", ids), "{text}");
        assert_eq!(suite.prompts[0].messages[0].content, first, "{text}");
        assert_eq!(suite.check(), Ok(()));
    }
    let numbered = Files::new(&[("p.jsonl", "{\"question_id\": 81, \"turns\": [\"hi\"]}")]);
    assert_eq!(Suite::read(&numbered.path("p.jsonl")).expect("valid").prompts[0].id, "81");
    for (text, words) in [
        ("{\"question_id\": 81, \"turns\": [\"hi\", \"and?\"]}", "expected one turn, got 2"),
        ("{\"prompt\": \"hi\"}\n{\"prompt\": \"hi\"}", "the same prompt as line 1; give both an `id`"),
        ("{\"text\": \"hi\"}", "expected `messages`, `prompt`, `instruction`, `question` or `turns`"),
        ("{\"prompt\": 7}", "`prompt`: expected a conversation, got a number"),
        ("{\"messages\": []}", "at least one message"),
        ("{\"messages\": [{\"role\": \"user\"}]}", "without `content`"),
        ("{\"id\": 1.5, \"prompt\": \"hi\"}", "`id`: expected a string or an integer"),
        ("\u{0}", "expected JSON, one object a line"),
    ] {
        let files = Files::new(&[("p.jsonl", text)]);
        let error = files.error("p.jsonl");
        assert!(error.contains("p.jsonl:") && error.contains(words), "{error}\nexpected {words}");
    }
}
