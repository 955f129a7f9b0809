//! The table of docs/json.md against what the commands print.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use assert_cmd::cargo::cargo_bin;
use serde_json::Value;
use smpo_fixtures::repository;

use crate::world::World;

/// Commands by their row, with arguments. Behind `!` stands the reason for which one is not run here.
const COMMANDS: [(&str, &str); 33] = [
    ("demo", "! takes minutes"),
    ("run", "recipe.toml"),
    ("run --dry-run", "recipe.toml"),
    ("train", "dpo.toml --set output_dir=runs/other"),
    ("train --check", "dpo.toml --set output_dir=runs/third"),
    ("doctor", "MODEL"),
    ("watch", "metrics.jsonl"),
    ("track", "! needs a server: tests/track.rs"),
    ("import", "their-dpo.yaml"),
    ("plot", "runs/dpo --out curves.html"),
    ("eval", "MODEL --suite suite.toml --out eval"),
    ("score", "answers.jsonl --out scored"),
    ("gate", "--baseline runs/before --candidate runs/dpo/eval"),
    ("leaderboard", "runs/before runs/dpo/eval --out board"),
    ("generate", "MODEL --prompts prompts.jsonl --out conversations.jsonl"),
    ("pairs", "MODEL --prompts prompts.jsonl --out pairs --samples 8"),
    ("prompt optimize", "MODEL rows.jsonl --out prompts --steps 2"),
    ("reward score", "runs/reward/model heldout.jsonl"),
    ("logps", "MODEL pairs.jsonl --out other-logps.jsonl"),
    ("explain", "smpo.toml logps.jsonl"),
    ("data check", "pairs.jsonl"),
    ("data stats", "pairs.jsonl"),
    ("data convert", "pairs.jsonl --out converted.jsonl"),
    ("data dedup", "pairs.jsonl --out unique.jsonl"),
    ("data ches", "pairs.jsonl --model MODEL --out ranked.jsonl"),
    ("model info", "MODEL"),
    ("convert", "model.gguf converted"),
    ("merge", "MODEL models/baseline --out merged"),
    ("export", "MODEL --out exported"),
    ("bench step", "--steps 1 --warmup 0"),
    ("bench decode", "--steps 1 --warmup 0 --batch-size 2 --context 8"),
    ("selftest", "! takes half a minute"),
    // a second form of one that is above
    ("eval", "runs/dpo/model --suite suite.toml --out eval-dpo"),
];

const RECIPE: &str = "model = \"MODEL\"\nseeds = [1]\n[[arm]]\nname = \"a\"\nconfig = \"smpo.toml\"\n[eval]\nsuites = [\"suite.toml\"]\n\
                      [gate]\npolicy = \"smoke\"\n";

/// Fields of a row by name, true for those that may be absent. What stands in brackets is inside of another.
fn fields(row: &str) -> BTreeMap<String, bool> {
    let (mut outside, mut depth) = (String::new(), 0);
    for c in row.chars() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ if depth == 0 => outside.push(c),
            _ => {}
        }
    }
    let parts: Vec<&str> = outside.split('`').collect();
    let named = parts.iter().enumerate().filter(|(index, name)| index % 2 == 1 && !name.starts_with('-'));
    named.map(|(index, name)| ((*name).to_owned(), parts[index - 1].ends_with('*'))).collect()
}

/// Rows of the table by command.
fn rows() -> BTreeMap<String, BTreeMap<String, bool>> {
    let page = fs::read_to_string(repository().join("docs/json.md")).unwrap();
    let row = |line: &str| {
        let (command, text) = line.strip_prefix("| `smpo ")?.split_once("` | ")?;
        Some((command.to_owned(), fields(text)))
    };
    page.lines().filter_map(row).collect()
}

/// Keys of the object that a command prints, or of the first of several.
fn printed(command: &str, arguments: &str, dir: &Path) -> BTreeSet<String> {
    let mut smpo = Command::new(cargo_bin("smpo"));
    smpo.args(command.split(' ')).args(arguments.split(' ')).args(["--format", "json"]).current_dir(dir);
    let output = smpo.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(matches!(output.status.code(), Some(0 | 1 | 3)), "{command}: {said}");
    let text = String::from_utf8(output.stdout).unwrap();
    let value = serde_json::Deserializer::from_str(&text).into_iter::<Value>().next().expect(command).unwrap();
    let object = value.as_array().map_or(&value, |list| &list[0]);
    object.as_object().expect(command).keys().cloned().collect()
}

#[test]
fn the_table_of_output_is_what_commands_print() {
    let rows = rows();
    let named: BTreeSet<&str> = COMMANDS.iter().map(|(command, _)| *command).collect();
    assert_eq!(named, rows.keys().map(String::as_str).collect(), "rows of docs/json.md, and commands of this test");
    let world = World::new();
    let dir = world.copy("docs/json.md");
    fs::write(dir.path().join("recipe.toml"), RECIPE).unwrap();
    let step = |step| format!("{{\"step\": {step}, \"logps/chosen\": -1.0, \"eos_logp/rejected\": -{step}.0}}\n");
    fs::write(dir.path().join("metrics.jsonl"), (1..31).map(step).collect::<String>()).unwrap();
    for (command, arguments) in COMMANDS.iter().filter(|(_, arguments)| !arguments.starts_with('!')) {
        let printed = printed(command, arguments, dir.path());
        let described = &rows[*command];
        let unknown: Vec<_> = printed.iter().filter(|key| !described.contains_key(*key)).collect();
        let missing: Vec<_> = described.iter().filter(|(key, absent)| !**absent && !printed.contains(*key)).collect();
        assert!(
            unknown.is_empty() && missing.is_empty(),
            "smpo {command}: not described {unknown:?}, not there {missing:?}"
        );
    }
}

#[test]
fn a_row_is_read() {
    let row = fields("a list: `schema`, *`model`* (`path`), `rows` (null without `--csv`), `--check` |");
    assert_eq!(
        row.into_iter().collect::<Vec<_>>(),
        [("model".into(), true), ("rows".into(), false), ("schema".into(), false)]
    );
}
