//! Hostile model directories and secrets, as whole commands meet them; the table of unsafe code; the licences of what is linked.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use predicates::prelude::PredicateBooleanExt as _;
use predicates::str::contains;
use serde_json::{Value, json};
use smpo_fixtures::http::Server;
use smpo_fixtures::{demo, repository};

fn smpo() -> Command {
    let mut command = Command::cargo_bin("smpo").unwrap();
    command.current_dir(repository()).env_remove("OPENAI_API_KEY");
    command
}

/// A place with a copy of the demo's base and two prompts.
struct Desk {
    dir: tempfile::TempDir,
}

impl Desk {
    fn new() -> Self {
        let desk = Desk { dir: tempfile::tempdir().unwrap() };
        fs::create_dir(desk.path("model")).unwrap();
        for entry in fs::read_dir(demo("base")).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, desk.path("model").join(path.file_name().unwrap())).unwrap();
        }
        let text = fs::read_to_string(demo("ood.jsonl")).unwrap();
        fs::write(desk.path("suite.jsonl"), text.lines().take(2).collect::<Vec<_>>().join("\n")).unwrap();
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn eval(&self) -> Command {
        let mut command = smpo();
        command.arg("eval").arg(self.path("model")).arg("--suite").arg(self.path("suite.jsonl"));
        command.arg("--out").arg(self.path("out")).args(["--engine", "native", "--cap", "4"]);
        command
    }
}

/// Every file below a directory.
fn files(dir: &Path) -> Vec<PathBuf> {
    let (mut found, mut dirs) = (Vec::new(), vec![dir.to_path_buf()]);
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { dirs.push(path) } else { found.push(path) }
        }
    }
    found
}

#[test]
fn the_names_of_shards_stay_in_the_directory() {
    let desk = Desk::new();
    let weights = desk.path("model/model.safetensors");
    fs::rename(&weights, desk.path("outside.safetensors")).unwrap();
    let absolute = desk.path("outside.safetensors").display().to_string();
    fs::create_dir(desk.path("model/sub")).unwrap();
    fs::copy(desk.path("outside.safetensors"), desk.path("model/sub/a.safetensors")).unwrap();
    for name in ["../outside.safetensors", &absolute, "sub/a.safetensors", "..", ".", "", "sub/..", "./a.safetensors"] {
        let index = json!({"metadata": {}, "weight_map": {"model.norm.weight": name}});
        fs::write(desk.path("model/model.safetensors.index.json"), index.to_string()).unwrap();
        desk.eval().assert().code(2).stderr(contains("index.json").and(contains("weight_map")));
        assert!(!desk.path("out").join("samples.jsonl").exists(), "{name}");
    }
}

#[test]
fn templates_read_no_file_and_no_variable_of_the_environment() {
    let desk = Desk::new();
    fs::write(desk.path("secret.txt"), "planted-in-a-file").unwrap();
    let secret = desk.path("secret.txt").display().to_string();
    let templates = [
        format!("{{% include {secret:?} %}}"),
        format!("{{% import {secret:?} as x %}}{{{{ x }}}}"),
        format!("{{% extends {secret:?} %}}"),
        format!("{{{{ open({secret:?}).read() }}}}"),
        "{{ self.__init__.__globals__ }}".to_owned(),
        "{{ ''.__class__.__mro__[1].__subclasses__() }}".to_owned(),
        "{{ env('PLANTED') }}{{ os.environ }}".to_owned(),
    ];
    for template in templates {
        fs::write(desk.path("model/chat_template.jinja"), &template).unwrap();
        let assert = desk.eval().arg("--restart").env("PLANTED", "planted-in-the-environment").assert().failure();
        let said = assert.get_output();
        let said = [&said.stdout[..], &said.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(!said.contains("planted-in") && said.contains("the chat template failed"), "{template}: {said}");
    }
}

#[test]
fn no_code_of_a_model_directory_runs() {
    let desk = Desk::new();
    let ran = desk.path("ran");
    let code = format!("open({:?}, 'w').close()\n", ran.display().to_string());
    for name in
        ["modeling_custom.py", "tokenization_custom.py", "configuration_custom.py", "setup.py", "sitecustomize.py"]
    {
        fs::write(desk.path("model").join(name), &code).unwrap();
    }
    let config = desk.path("model/config.json");
    let mut fields: Value = serde_json::from_slice(&fs::read(&config).unwrap()).unwrap();
    fields["auto_map"] =
        json!({"AutoModelForCausalLM": "modeling_custom.Model", "AutoConfig": "configuration_custom.Config"});
    fs::write(&config, fields.to_string()).unwrap();
    desk.eval().assert().success();
    // a pickle that runs a command when it is loaded: protocol 0, os.system
    let pickle = format!("cposix\nsystem\n(S'touch {}'\ntR.", ran.display());
    fs::remove_file(desk.path("model/model.safetensors")).unwrap();
    for name in ["pytorch_model.bin", "model.pt", "model.pth"] {
        fs::write(desk.path("model").join(name), &pickle).unwrap();
        desk.eval().arg("--restart").assert().code(2).stderr(contains("safetensors"));
    }
    assert!(!ran.exists(), "code of a model ran");
}

/// Secrets by the place where they are planted.
const SECRETS: [(&str, &str); 5] = [
    ("variable of the key", "sk-planted-in-the-variable"),
    ("header", "planted-in-a-header"),
    ("password of the URL", "planted-in-the-password"),
    ("query of the URL", "planted-in-the-query"),
    ("token of the hub", "hf_planted-in-the-token"),
];

/// A command with every secret, on a server that repeats all it was told.
fn with_secrets(command: &mut Command) -> &mut Command {
    let secret = |of: &str| SECRETS.iter().find(|(place, _)| *place == of).unwrap().1;
    command.env("OPENAI_API_KEY", secret("variable of the key")).env("HF_TOKEN", secret("token of the hub"));
    command.env("RUST_BACKTRACE", "full").env("HF_HUB_OFFLINE", "1")
}

fn assert_hidden(dir: &Path, said: &std::process::Output, context: &str) {
    let said = [&said.stdout[..], &said.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    for (place, secret) in SECRETS {
        assert!(!said.contains(secret), "{context}: the {place} is shown: {said}");
        for file in files(dir) {
            let bytes = fs::read(&file).unwrap();
            let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "{context}: the {place} is in {}", file.display());
        }
    }
}

#[test]
fn keys_are_in_nothing_that_is_written() {
    let answers: [(&str, &str); 4] = [
        ("200 OK", "fine"),
        ("401 Unauthorized", "your key is wrong"),
        ("500 Internal Server Error", "crashed with"),
        ("200 OK", "garbage"),
    ];
    // side by side: a server that fails is asked again and again, after pauses
    std::thread::scope(|scope| {
        for (status, what) in answers {
            scope.spawn(move || evaluated(status, what));
            scope.spawn(move || of_a_recipe(status, what));
        }
    });
}

/// A server that repeats everything it was told, and its URL with secrets.
fn repeating(status: &'static str, what: &'static str) -> (Server, String) {
    let server = Server::start(move |_, _: &Value| {
        // everything that a server can know: the hub's token is not sent to it
        let told: Vec<&str> = SECRETS[..4].iter().map(|(_, secret)| *secret).collect();
        let told = told.join(" ");
        match what {
            "fine" => {
                let choice = json!({"message": {"content": "An answer."}, "finish_reason": "stop"});
                (status, json!({"choices": [choice], "usage": {"completion_tokens": 3}}).to_string())
            }
            "garbage" => (status, format!("Bearer {told} is not JSON")),
            _ => (status, json!({"error": {"message": format!("{what} {told}")}}).to_string()),
        }
    });
    let address = server.url.strip_prefix("http://").unwrap();
    let url = format!("http://user:planted-in-the-password@{address}?token=planted-in-the-query");
    (server, url)
}

const HEADER: &str = "x-key: planted-in-a-header";

fn evaluated(status: &'static str, what: &'static str) {
    let ((_server, url), desk) = (repeating(status, what), Desk::new());
    let out = tempfile::tempdir().unwrap();
    let mut command = smpo();
    command.arg("eval").arg(&url).args(["--model", "served", "--suite"]).arg(desk.path("suite.jsonl"));
    command.arg("--out").arg(out.path().join("eval")).args(["--header", HEADER]);
    let said = with_secrets(&mut command).output().unwrap();
    assert_hidden(out.path(), &said, &format!("eval, {what}"));
}

/// Records and logs of a recipe's stages.
fn of_a_recipe(status: &'static str, what: &'static str) {
    let ((_server, url), desk) = (repeating(status, what), Desk::new());
    let out = tempfile::tempdir().unwrap();
    let recipe = format!(
        "model = {url:?}\nout = {:?}\n[eval]\nsuites = [{:?}]\nmodel = \"served\"\nheader = {HEADER:?}\n",
        out.path().join("recipe"),
        desk.path("suite.jsonl"),
    );
    let file = desk.path("recipe.toml");
    fs::write(&file, recipe).unwrap();
    let said = with_secrets(smpo().arg("run").arg(&file)).output().unwrap();
    assert_hidden(out.path(), &said, &format!("run, {what}"));
}

/// Lines of Rust with `unsafe` that are no comments, by crate.
fn unsafe_lines() -> BTreeMap<String, usize> {
    let mut lines = BTreeMap::new();
    for entry in fs::read_dir(repository().join("crates")).unwrap() {
        let dir = entry.unwrap().path();
        let name = dir.file_name().unwrap().to_str().unwrap().to_owned();
        let sources =
            files(&dir.join("src")).into_iter().filter(|path| path.extension().is_some_and(|end| end == "rs"));
        let is_unsafe = |line: &&str| {
            let code = line.split("//").next().unwrap_or_default();
            code.split(|c: char| !(c.is_alphanumeric() || c == '_')).any(|word| word == "unsafe")
        };
        let count: usize =
            sources.map(|path| fs::read_to_string(path).unwrap().lines().filter(is_unsafe).count()).sum();
        if count > 0 {
            lines.insert(name, count);
        }
    }
    lines
}

#[test]
fn the_table_of_unsafe_code_is_the_code_s() {
    let path = repository().join("docs/security.md");
    let page = fs::read_to_string(&path).unwrap();
    let counted = unsafe_lines();
    let mut listed = Vec::new();
    let corrected: Vec<String> = page
        .lines()
        .map(|line| {
            let row = line.strip_prefix("| `").and_then(|cells| cells.split_once("` | "));
            let Some((name, rest)) = row.filter(|(_, rest)| rest.starts_with(|c: char| c.is_ascii_digit())) else {
                return line.to_owned();
            };
            listed.push(name.to_owned());
            let rest = rest.trim_start_matches(|c: char| c.is_ascii_digit());
            format!("| `{name}` | {}{rest}", counted.get(name).unwrap_or(&0))
        })
        .collect();
    assert!(counted.keys().eq(listed.iter()), "crates with unsafe code: {:?}; listed: {listed:?}", counted.keys());
    let corrected = corrected.join("\n") + "\n";
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, corrected).unwrap();
    } else {
        assert!(
            page == corrected,
            "docs/security.md counts otherwise than the code, {counted:?}: UPDATE_DOCS=1 writes it"
        );
    }
}

/// Evaluates a licence expression: names joined by AND, OR and parentheses, `/` as OR.
fn is_allowed(expression: &str, allowed: &[&str]) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    let value = any(&words, &mut at, allowed);
    value && at == words.len()
}

fn any(words: &[&str], at: &mut usize, allowed: &[&str]) -> bool {
    let mut value = all(words, at, allowed);
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        value |= all(words, at, allowed);
    }
    value
}

fn all(words: &[&str], at: &mut usize, allowed: &[&str]) -> bool {
    let mut value = one(words, at, allowed);
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        value &= one(words, at, allowed);
    }
    value
}

fn one(words: &[&str], at: &mut usize, allowed: &[&str]) -> bool {
    let Some(word) = words.get(*at) else { return false };
    *at += 1;
    if *word == "(" {
        let value = any(words, at, allowed);
        *at += 1;
        return value;
    }
    if words.get(*at) == Some(&"WITH") {
        let with = format!("{word} WITH {}", words.get(*at + 1).unwrap_or(&""));
        *at += 2;
        return allowed.contains(&with.as_str()) || allowed.contains(word);
    }
    allowed.contains(word)
}

/// The part of `cargo deny check licenses bans sources` that needs no program: every crate that a build on Linux links.
#[test]
fn every_crate_has_an_allowed_licence_and_comes_from_crates_io() {
    let deny = fs::read_to_string(repository().join("deny.toml")).unwrap();
    let list = |key: &str| -> Vec<&str> {
        let (_, rest) = deny.split_once(&format!("\n{key} = [")).unwrap();
        let list = rest.split("\n]").next().unwrap();
        list.lines().filter(|line| !line.trim().starts_with('#')).filter_map(|line| line.split('"').nth(1)).collect()
    };
    let (allowed, banned) = (list("allow"), list("deny"));
    assert!(allowed.contains(&"MIT") && banned.contains(&"openssl-sys"), "{allowed:?} {banned:?}");
    let mut command = std::process::Command::new(env!("CARGO"));
    command.current_dir(repository()).args(["metadata", "--format-version", "1", "--locked", "--offline"]);
    command.args(["--filter-platform", "x86_64-unknown-linux-gnu"]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let linked: Vec<&str> =
        metadata["resolve"]["nodes"].as_array().unwrap().iter().map(|node| node["id"].as_str().unwrap()).collect();
    let mut wrong = Vec::new();
    for package in metadata["packages"].as_array().unwrap() {
        let (name, id) = (package["name"].as_str().unwrap(), package["id"].as_str().unwrap());
        if !linked.contains(&id) {
            continue;
        }
        if !package["license"].as_str().is_some_and(|licence| is_allowed(licence, &allowed)) {
            wrong.push(format!("{name}: licence {}", package["license"]));
        }
        let source = package["source"].as_str().unwrap_or_default();
        if !(name.starts_with("smpo") || source == "registry+https://github.com/rust-lang/crates.io-index") {
            wrong.push(format!("{name}: from {source:?}"));
        }
        if banned.contains(&name) {
            wrong.push(format!("{name}: banned"));
        }
    }
    assert!(linked.len() > 300 && wrong.is_empty(), "{} crates: {wrong:#?}", linked.len());
}

#[test]
fn expressions_of_licences_are_read_as_they_bind() {
    let allowed = ["MIT", "Apache-2.0"];
    for (expression, expected) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("MIT/GPL-3.0", true),
        ("GPL-3.0 OR MIT AND GPL-2.0", false),
        ("(GPL-3.0 OR MIT) AND Apache-2.0", true),
        ("Apache-2.0 WITH LLVM-exception", true),
    ] {
        assert_eq!(is_allowed(expression, &allowed), expected, "{expression}");
    }
}
