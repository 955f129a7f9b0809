//! The stages of a recipe.

use std::path::{Path, PathBuf};

use toml::{Table, Value};

use crate::recipe::{Arm, Evaluation, Gate, Recipe, START, Training};
use crate::{RecipeError, options};

/// Kind of a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Fine-tuning before the arms.
    Sft,
    /// Pairs from the model's own completions.
    Pairs,
    /// Training of an arm.
    Train,
    /// An adapter merged into its base, to be merged further.
    Export,
    /// Linear merge with the model before.
    Merge,
    /// Evaluation of one model on one suite.
    Eval,
    /// An arm against the baseline, on one suite.
    Gate,
    /// The leaderboard.
    Board,
}

impl Kind {
    /// True if the command writes a directory at once and refuses one that is there: there is nothing to resume.
    pub(crate) fn refuses_its_output(self) -> bool {
        matches!(self, Kind::Export | Kind::Merge)
    }
}

/// One command.
#[derive(Debug, Clone, PartialEq)]
pub struct Stage {
    /// Unique, `KIND/RUN`.
    pub name: String,
    /// Kind.
    pub kind: Kind,
    /// Arguments of this program.
    pub arguments: Vec<String>,
    /// Files and directories from outside that it reads.
    pub inputs: Vec<PathBuf>,
    /// Earlier stages whose results it reads, by index.
    pub after: Vec<usize>,
    /// File or directory that it writes.
    pub output: PathBuf,
}

/// All stages; a stage follows those it depends on.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Output directory.
    pub out: PathBuf,
    /// Stages side by side.
    pub jobs: usize,
    /// Stages.
    pub stages: Vec<Stage>,
}

/// Facts about a training configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// It saves an adapter.
    pub adapter: bool,
    /// Data files and models that it reads.
    pub inputs: Vec<PathBuf>,
    /// Data files among them that are not there.
    pub missing: Vec<PathBuf>,
}

/// Reads a training configuration under settings (`key=value`).
pub type Reader<'a> = dyn Fn(&Path, &[String]) -> Result<Facts, String> + 'a;

/// A model, and the stage that makes it.
#[derive(Debug, Clone)]
struct Model {
    /// Directory or name.
    source: String,
    stage: Option<usize>,
    /// Arm and seed for reports.
    arm: String,
    run: String,
    seed: Option<u64>,
    adapter: bool,
}

impl Plan {
    /// The stages of a recipe. `facts` reads a training configuration under settings (`key=value`).
    ///
    /// # Errors
    /// A table with a value that is no option, or a training configuration that cannot be read.
    pub fn of(recipe: &Recipe, facts: &Reader<'_>) -> Result<Plan, RecipeError> {
        let mut planner =
            Planner { recipe, plan: Plan { out: recipe.out(), jobs: recipe.jobs, stages: Vec::new() }, facts };
        planner.all().map_err(|problem| RecipeError::Whole { path: recipe.path.clone(), problem })?;
        Ok(planner.plan)
    }

    /// Indices of all stages: those of later kinds first, else in the plan's order.
    pub fn later_kinds_first(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.stages.len()).collect();
        order.sort_by_key(|&index| std::cmp::Reverse(self.stages[index].kind));
        order
    }
}

struct Planner<'a> {
    recipe: &'a Recipe,
    plan: Plan,
    facts: &'a Reader<'a>,
}

impl Planner<'_> {
    fn all(&mut self) -> Result<(), String> {
        let mut models = Vec::new();
        for start in self.starts()? {
            let pairs = self.pairs(&start)?;
            models.push(start.clone());
            for arm in &self.recipe.arms {
                for &seed in &self.recipe.seeds {
                    models.push(self.arm(arm, seed, &start, pairs.as_ref())?);
                }
            }
        }
        let Some(eval) = &self.recipe.eval else { return Ok(()) };
        let mut evaluations = Vec::new();
        for suite in &eval.suites {
            let of_suite =
                models.iter().map(|model| self.evaluate(eval, suite, model)).collect::<Result<Vec<_>, _>>()?;
            evaluations.extend(of_suite);
        }
        let verdicts = match &self.recipe.gate {
            Some(gate) => self.gates(gate, eval, &models, &evaluations)?,
            None => Vec::new(),
        };
        if let Some(board) = &self.recipe.board {
            let mut options = options::arguments(board)?;
            // the margins that the page draws are those that were judged by
            let of_gate = self.recipe.gate.as_ref().and_then(|gate| gate.options.get("policy")?.as_str());
            if !board.contains_key("policy") {
                options.extend(of_gate.map(|policy| format!("--policy={policy}")));
            }
            self.board(options, &evaluations, &verdicts);
        }
        Ok(())
    }

    fn push(&mut self, stage: Stage) -> usize {
        self.plan.stages.push(stage);
        self.plan.stages.len() - 1
    }

    fn path(&self, name: &str) -> String {
        self.plan.out.join(name).to_string_lossy().into_owned()
    }

    /// The models that the arms start from.
    fn starts(&mut self) -> Result<Vec<Model>, String> {
        let model = self.recipe.model.clone();
        let start = |source: String, stage, run: String, seed, adapter| Model {
            source,
            stage,
            arm: START.to_owned(),
            run,
            seed,
            adapter,
        };
        let Some(sft) = &self.recipe.sft else {
            return Ok(vec![start(model, None, START.to_owned(), None, false)]);
        };
        let mut starts = Vec::new();
        for &seed in &sft.seeds {
            let run = if sft.seeds.len() > 1 { format!("{START}-{seed}") } else { START.to_owned() };
            let (source, stage, adapter) = self.train(Kind::Sft, &format!("sft/{run}"), sft, seed, &model, &[])?;
            starts.push(start(source, Some(stage), run, Some(seed), adapter));
        }
        Ok(starts)
    }

    /// Training as a stage: the model directory that it saves, its index, and whether that is an adapter.
    fn train(
        &mut self,
        kind: Kind,
        name: &str,
        training: &Training,
        seed: u64,
        model: &str,
        after: &[(usize, Option<String>)],
    ) -> Result<(String, usize, bool), String> {
        let output = self.path(name);
        let mut settings = vec![format!("model_name_or_path={model:?}")];
        let dataset = after.iter().find_map(|(_, dataset)| dataset.clone());
        settings.extend(dataset.map(|dataset| format!("dataset={dataset:?}")));
        settings.extend(options::settings(&training.set)?);
        settings.extend([format!("seed={seed}"), format!("output_dir={output:?}")]);
        let facts = (self.facts)(&training.config, &settings).map_err(|problem| format!("{name}: {problem}"))?;
        let mut inputs = vec![training.config.clone()];
        // what earlier stages write is told by their keys
        let written = |input: &PathBuf| self.plan.stages.iter().any(|stage| input.starts_with(&stage.output));
        if let Some(missing) = facts.missing.iter().find(|input| !written(input)) {
            return Err(format!("{name}: {}: expected a data file, got none", missing.display()));
        }
        inputs.extend(facts.inputs.into_iter().filter(|input| !written(input)));
        let mut arguments = vec!["train".to_owned(), training.config.to_string_lossy().into_owned()];
        arguments.extend(settings.into_iter().map(|setting| format!("--set={setting}")));
        let after = after.iter().map(|(stage, _)| *stage).collect();
        let stage = Stage { name: name.to_owned(), kind, arguments, inputs, after, output: output.clone().into() };
        Ok((format!("{output}/model"), self.push(stage), facts.adapter))
    }

    /// Pairs of a start model: the stage and its rows.
    fn pairs(&mut self, start: &Model) -> Result<Option<(usize, String)>, String> {
        let Some(table) = &self.recipe.pairs else { return Ok(None) };
        let name = format!("pairs/{}", start.run);
        let output = self.path(&name);
        let mut arguments = vec!["pairs".to_owned(), start.source.clone(), format!("--out={output}")];
        arguments.extend(options::arguments(table)?);
        let mut inputs = paths_of(table);
        if start.stage.is_none() {
            inputs.push(start.source.clone().into());
        }
        let after = start.stage.into_iter().collect();
        let rows = match table.get("policy").and_then(|policy| policy.as_str()) {
            Some("groups") => "groups.jsonl",
            _ => "pairs.jsonl",
        };
        let rows = format!("{output}/{rows}");
        Ok(Some((self.push(Stage { name, kind: Kind::Pairs, arguments, inputs, after, output: output.into() }), rows)))
    }

    /// Training and merge of an arm.
    fn arm(&mut self, arm: &Arm, seed: u64, start: &Model, pairs: Option<&(usize, String)>) -> Result<Model, String> {
        let of_start = start.run.strip_prefix(START).filter(|rest| !rest.is_empty());
        let run = format!("{}{}-{seed}", arm.name, of_start.unwrap_or_default());
        let training = Training { config: arm.config.clone(), set: arm.set.clone(), seeds: vec![seed] };
        let mut after: Vec<(usize, Option<String>)> = start.stage.map(|stage| (stage, None)).into_iter().collect();
        after.extend(pairs.map(|(stage, rows)| (*stage, Some(rows.clone()))));
        let (source, stage, adapter) =
            self.train(Kind::Train, &format!("train/{run}"), &training, seed, &start.source, &after)?;
        let seed = Some(self.seed_of_run(start.seed, seed));
        let trained = Model { source, stage: Some(stage), arm: arm.name.clone(), run, seed, adapter };
        match arm.merge {
            None => Ok(trained),
            Some(weight) => Ok(self.merge(trained, start, weight)),
        }
    }

    /// The seed that evaluations of a run are told by, no other run of its arm has it: of several SFT seeds and one of the arms
    /// the SFT seed, by which the start model is told too; of several of both the digits of both.
    fn seed_of_run(&self, of_start: Option<u64>, seed: u64) -> u64 {
        let several = self.recipe.sft.as_ref().is_some_and(|sft| sft.seeds.len() > 1);
        let Some(of_start) = of_start.filter(|_| several) else { return seed };
        let longest = self.recipe.seeds.iter().max().map_or(1, |seed| seed.to_string().len());
        match self.recipe.seeds.len() {
            1 => of_start,
            _ => format!("{of_start}{seed:0longest$}").parse().unwrap_or(seed),
        }
    }

    fn merge(&mut self, trained: Model, start: &Model, weight: f64) -> Model {
        let full = self.full(&trained);
        let start = self.full(start);
        let name = format!("merge/{}", trained.run);
        let output = self.path(&name);
        let arguments = vec![
            "merge".to_owned(),
            start.source.clone(),
            full.source.clone(),
            format!("--weights={},{weight}", 1.0 - weight),
            format!("--out={output}"),
        ];
        let inputs = if start.stage.is_none() { vec![start.source.clone().into()] } else { Vec::new() };
        let after = start.stage.into_iter().chain(full.stage).collect();
        let stage =
            self.push(Stage { name, kind: Kind::Merge, arguments, inputs, after, output: output.clone().into() });
        Model { source: output, stage: Some(stage), adapter: false, ..trained }
    }

    /// A model with full weights: an adapter is exported, once.
    fn full(&mut self, model: &Model) -> Model {
        if !model.adapter {
            return model.clone();
        }
        let name = format!("export/{}", model.run);
        let output = self.path(&name);
        let known = self.plan.stages.iter().position(|stage| stage.name == name);
        let stage = known.unwrap_or_else(|| {
            let arguments = vec!["export".to_owned(), model.source.clone(), format!("--out={output}")];
            let after = model.stage.into_iter().collect();
            let output = output.clone().into();
            self.push(Stage { name, kind: Kind::Export, arguments, inputs: Vec::new(), after, output })
        });
        Model { source: output, stage: Some(stage), adapter: false, ..model.clone() }
    }

    fn evaluate(&mut self, eval: &Evaluation, suite: &Path, model: &Model) -> Result<usize, String> {
        let name = format!("eval/{}/{}", stem(suite), model.run);
        let output = self.path(&name);
        let mut arguments = vec!["eval".to_owned(), model.source.clone()];
        arguments.push(format!("--suite={}", suite.display()));
        arguments.push(format!("--out={output}"));
        arguments.push(format!("--name={}", model.run));
        arguments.push(format!("--arm={}", model.arm));
        arguments.extend(model.seed.map(|seed| format!("--training-seed={seed}")));
        arguments.extend(options::arguments(&eval.options)?);
        // A name without ending is that of a suite inside the program.
        let of_file = suite.exists() || suite.extension().is_some();
        let mut inputs: Vec<PathBuf> = if of_file { with_files_of_suite(suite) } else { Vec::new() };
        inputs.extend(paths_of(&eval.options));
        if model.stage.is_none() {
            inputs.push(model.source.clone().into());
        }
        let after = model.stage.into_iter().collect();
        Ok(self.push(Stage { name, kind: Kind::Eval, arguments, inputs, after, output: output.into() }))
    }

    /// One gate for each arm but the baseline and each suite.
    fn gates(
        &mut self,
        gate: &Gate,
        eval: &Evaluation,
        models: &[Model],
        evaluations: &[usize],
    ) -> Result<Vec<usize>, String> {
        let extra = options::arguments(&gate.options)?;
        let policy = gate.options.get("policy").and_then(|policy| policy.as_str()).map(PathBuf::from);
        let mut verdicts = Vec::new();
        for (suite, of_suite) in eval.suites.iter().zip(evaluations.chunks_exact(models.len())) {
            let of_arm = |arm: &str| -> Vec<usize> {
                models.iter().zip(of_suite).filter(|(model, _)| model.arm == arm).map(|(_, stage)| *stage).collect()
            };
            let baseline = of_arm(&gate.baseline);
            let arms = self.recipe.arms.iter().map(|arm| arm.name.as_str());
            for arm in arms.filter(|arm| *arm != gate.baseline) {
                let candidate = of_arm(arm);
                let name = format!("gate/{}/{arm}", stem(suite));
                let output = self.path(&format!("{name}.json"));
                let mut arguments = vec!["gate".to_owned()];
                for (option, stages) in [("--baseline", &baseline), ("--candidate", &candidate)] {
                    arguments.push(option.to_owned());
                    arguments.extend(stages.iter().map(|&stage| self.output(stage)));
                }
                arguments.push(format!("--out={output}"));
                arguments.extend(extra.clone());
                let inputs = policy.clone().filter(|policy| policy.exists()).into_iter().collect();
                let after = baseline.iter().chain(&candidate).copied().collect();
                verdicts.push(self.push(Stage {
                    name,
                    kind: Kind::Gate,
                    arguments,
                    inputs,
                    after,
                    output: output.into(),
                }));
            }
        }
        Ok(verdicts)
    }

    fn board(&mut self, extra: Vec<String>, evaluations: &[usize], verdicts: &[usize]) {
        let output = self.path("leaderboard");
        let mut arguments = vec!["leaderboard".to_owned()];
        arguments.extend(evaluations.iter().map(|&stage| self.output(stage)));
        arguments.push(format!("--out={output}"));
        if !verdicts.is_empty() {
            arguments.push("--verdict".to_owned());
            arguments.extend(verdicts.iter().map(|&stage| self.output(stage)));
        }
        arguments.extend(extra);
        let after = evaluations.iter().chain(verdicts).copied().collect();
        let output = output.into();
        self.push(Stage { name: "board".into(), kind: Kind::Board, arguments, inputs: Vec::new(), after, output });
    }

    fn output(&self, stage: usize) -> String {
        self.plan.stages[stage].output.to_string_lossy().into_owned()
    }
}

/// Options of a stage that name a file that it reads.
const FILES: [&str; 2] = ["prompts", "judge_prompt"];
/// Options that name a model, which may be a directory here.
const MODELS: [&str; 5] = ["judge", "reward_model", "weights", "base", "tokenizer"];

/// Files and directories that options name, those of suites and reward models (`rm:DIR`) included.
fn paths_of(options: &Table) -> Vec<PathBuf> {
    let texts = |key: &str| match options.get(key) {
        Some(Value::Array(values)) => values.iter().filter_map(Value::as_str).collect::<Vec<&str>>(),
        one => one.and_then(Value::as_str).into_iter().collect(),
    };
    let files = FILES.iter().flat_map(|key| texts(key)).map(PathBuf::from);
    let rewards = texts("score").into_iter().filter_map(|score| score.strip_prefix("rm:")?.split('@').next());
    let models =
        MODELS.iter().flat_map(|key| texts(key)).chain(rewards).map(PathBuf::from).filter(|path| path.exists());
    files.flat_map(|file| with_files_of_suite(&file)).chain(models).collect()
}

/// A file, and for a suite the prompts and pairs that it names.
fn with_files_of_suite(path: &Path) -> Vec<PathBuf> {
    let mut files = vec![path.to_owned()];
    let is_suite = path.extension().is_some_and(|ending| ending == "toml");
    let table = is_suite.then(|| std::fs::read_to_string(path).ok()?.parse::<Table>().ok()).flatten();
    let beside = path.parent().unwrap_or(Path::new(""));
    let named =
        table.iter().flat_map(|table| ["prompts", "pairs"].into_iter().filter_map(|key| table.get(key)?.as_str()));
    files.extend(named.map(|name| beside.join(name)));
    files
}

/// Name of a suite in paths.
pub(crate) fn stem(suite: &Path) -> String {
    suite.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_a_suite_and_the_models_of_options_are_inputs() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("s.toml"), "name = \"s\"\nprompts = \"p.jsonl\"\npairs = \"h.jsonl\"\n").unwrap();
        assert_eq!(with_files_of_suite(&at("s.toml")), ["s.toml", "p.jsonl", "h.jsonl"].map(at));
        assert_eq!(with_files_of_suite(&at("p.jsonl")), [at("p.jsonl")]);
        std::fs::create_dir(at("rm")).unwrap();
        let rm = at("rm").display().to_string();
        let options: Table = format!(
            "judge = [\"http://localhost:1/v1\"]\nscore = [\"rm:{rm}@0.5\", \"rule\"]\nprompts = {:?}\nsamples = 4\n",
            at("s.toml")
        )
        .parse()
        .unwrap();
        assert_eq!(paths_of(&options), ["s.toml", "p.jsonl", "h.jsonl", "rm"].map(at));
    }

    fn planned(text: &str, facts: &Facts) -> Plan {
        let recipe: Recipe = toml::from_str(text).unwrap();
        Plan::of(&recipe, &|_: &Path, _: &[String]| Ok(facts.clone())).unwrap()
    }

    #[test]
    fn runs_of_an_arm_have_seeds_of_their_own() {
        let seeds = |text: &str| -> Vec<String> {
            let plan = planned(text, &Facts::default());
            let seed = |stage: &Stage| {
                stage.arguments.iter().find_map(|word| word.strip_prefix("--training-seed=")).map(str::to_owned)
            };
            plan.stages.iter().filter(|stage| stage.kind == Kind::Eval).filter_map(seed).collect()
        };
        let tail = "[[arm]]\nname = \"a\"\nconfig = \"a.toml\"\n[eval]\nsuites = [\"s\"]\n";
        let recipe = |seeds: &str, sft: &str| format!("model = \"m\"\nout = \"o\"\nseeds = {seeds}\n{sft}{tail}");
        let sft = "[sft]\nconfig = \"sft.toml\"\nseeds = [3, 4]\n";
        assert_eq!(seeds(&recipe("[1, 20]", "")), ["1", "20"]);
        assert_eq!(seeds(&recipe("[7]", sft)), ["3", "3", "4", "4"], "each arm beside its start model");
        assert_eq!(seeds(&recipe("[1, 20]", sft)), ["3", "301", "320", "4", "401", "420"]);
    }

    #[test]
    fn data_in_the_output_directory_is_an_input_unless_a_stage_writes_it() {
        let inputs = ["o/data.jsonl", "o/pairs/start/pairs.jsonl"].map(PathBuf::from).to_vec();
        let text = "model = \"m\"\nout = \"o\"\n[pairs]\n[[arm]]\nname = \"a\"\nconfig = \"a.toml\"\n";
        let plan = planned(text, &Facts { inputs, ..Facts::default() });
        let arm = plan.stages.iter().find(|stage| stage.kind == Kind::Train).unwrap();
        assert_eq!(arm.inputs, ["a.toml", "o/data.jsonl"].map(PathBuf::from));
    }
}
