//! A board as a real study would make it: five arms over 600 prompts, some of them looping, with text that is Russian,
//! Arabic, broken or hostile. Everything is computed from constants, so it never changes.

use std::collections::BTreeMap;

use smpo_files::sha256;
use smpo_metrics::MetricInfo;
use smpo_results::*;

/// True rates of an arm.
struct Arm {
    name: &'static str,
    seeds: u64,
    band: (usize, usize),
    /// Share of completions that end, in distribution and out of it.
    eos: (f64, f64),
    /// Share that loop.
    loops: (f64, f64),
    preference: f64,
    /// Mean length in tokens.
    length: f64,
}

const ARMS: [Arm; 5] = [
    Arm {
        name: "smpo-modified",
        seeds: 3,
        band: (1, 2),
        eos: (0.998, 0.993),
        loops: (0.000, 0.004),
        preference: 0.741,
        length: 171.0,
    },
    Arm {
        name: "sft",
        seeds: 1,
        band: (1, 2),
        eos: (0.998, 0.990),
        loops: (0.002, 0.006),
        preference: 0.512,
        length: 148.0,
    },
    Arm {
        name: "simpo",
        seeds: 1,
        band: (3, 4),
        eos: (0.985, 0.941),
        loops: (0.010, 0.036),
        preference: 0.735,
        length: 214.0,
    },
    Arm {
        name: "dpo",
        seeds: 1,
        band: (3, 4),
        eos: (0.990, 0.948),
        loops: (0.008, 0.044),
        preference: 0.718,
        length: 236.0,
    },
    Arm {
        name: "smpo-regular",
        seeds: 3,
        band: (5, 5),
        eos: (0.975, 0.861),
        loops: (0.015, 0.132),
        preference: 0.752,
        length: 305.0,
    },
];

/// Slices: name, number of prompts, factor on the out-of-distribution effect.
const SLICES: [(&str, usize, f64); 6] = [
    ("in_distribution", 200, 0.0),
    ("ood", 400, 1.0),
    ("ood_long_list", 120, 1.6),
    ("ood_code", 100, 0.7),
    ("ood_russian", 110, 1.1),
    ("ood_arabic", 70, 0.9),
];

const CAP: u32 = 1024;

/// Wilson's interval at 95 %, enough for a fixture.
fn wilson(p: f64, n: usize) -> (f64, f64) {
    let (n, z) = (n as f64, 1.959964);
    let centre = (p + z * z / (2.0 * n)) / (1.0 + z * z / n);
    let half = z / (1.0 + z * z / n) * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
    ((centre - half).max(0.0), (centre + half).min(1.0))
}

/// The catalogue's declaration of a metric.
fn info(metric: &str) -> &'static MetricInfo {
    smpo_metrics::find(metric).expect("a metric of the catalogue")
}

fn estimate(metric: &str, slice: &str, value: f64, n: usize) -> MetricEstimate {
    let &MetricInfo { unit, better, primary, .. } = info(metric);
    let (ci_low, ci_high) = match unit {
        Unit::Share => wilson(value, n),
        _ => {
            let half = 0.04 * value.abs() + 1.5 / (n as f64).sqrt() * 0.1;
            (value - half, value + half)
        }
    };
    MetricEstimate { metric: metric.into(), slice: slice.into(), value, ci_low, ci_high, n, unit, better, primary }
}

fn share(inside: f64, outside: f64, amplify: f64, harm: bool) -> f64 {
    let value = inside + (outside - inside) * amplify;
    let value = if harm { value.max(0.0) } else { value.min(1.0) };
    (value * 1000.0).round() / 1000.0
}

fn metrics(arm: &Arm) -> Vec<MetricEstimate> {
    let mut out = Vec::new();
    let slices = std::iter::once(("all", 600, 2.0 / 3.0)).chain(SLICES);
    for (slice, n, amplify) in slices {
        let loops = share(arm.loops.0, arm.loops.1, amplify, true);
        for (metric, value) in [
            ("eos_rate", share(arm.eos.0, arm.eos.1, amplify, false)),
            ("loop_rate", loops),
            ("seq_rep_4", 0.04 + loops * 0.9),
            ("broken_rate", loops * 0.1),
            ("length", arm.length * (1.0 + 0.3 * amplify)),
            ("zlib_ratio", 1.9 + loops * 8.0),
            ("eos_logp_gold", -0.4 - loops * 14.0),
        ] {
            out.push(estimate(metric, slice, value, n));
        }
    }
    out.push(estimate("pref_accuracy", "held_out", arm.preference, 400));
    out
}

fn board_metrics() -> Vec<BoardMetric> {
    let ids =
        ["eos_rate", "loop_rate", "eos_logp_gold", "pref_accuracy", "seq_rep_4", "broken_rate", "length", "zlib_ratio"];
    ids.map(|id| {
        let &MetricInfo { unit, better, primary, description, .. } = info(id);
        BoardMetric { id: id.into(), unit, better, primary, description: description.into() }
    })
    .into()
}

fn comparisons(arm: &Arm, baseline: &Arm) -> Vec<Comparison> {
    let (own, base) = (metrics(arm), metrics(baseline));
    let margins = BTreeMap::from([("eos_rate", 0.02), ("loop_rate", 0.01), ("pref_accuracy", 0.03)]);
    board_metrics()
        .iter()
        .filter_map(|metric| {
            let find = |all: &[MetricEstimate]| {
                all.iter().find(|e| e.metric == metric.id && (e.slice == "all" || e.slice == "held_out")).cloned()
            };
            let (a, b) = (find(&own)?, find(&base)?);
            let half = ((a.ci_high - a.ci_low).powi(2) + (b.ci_high - b.ci_low).powi(2)).sqrt() / 2.0 * 0.8;
            let difference = a.value - b.value;
            Some(Comparison {
                metric: metric.id.clone(),
                difference,
                ci_low: difference - half,
                ci_high: difference + half,
                margin: margins.get(metric.id.as_str()).copied(),
            })
        })
        .collect()
}

fn curves(arm: &Arm) -> (Vec<CurvePoint>, Vec<CurvePoint>) {
    let capped = 1.0 - share(arm.eos.0, arm.eos.1, 2.0 / 3.0, false);
    let alive = |t: f64| capped + (1.0 - capped) * (-(t / arm.length).powf(1.7)).exp();
    let survival = (0..=64).map(|k| f64::from(k) * 16.0).map(|t| CurvePoint { t, y: alive(t) }).collect();
    let hazard = (0..32)
        .map(|k| f64::from(k) * 32.0)
        .map(|t| CurvePoint { t: t + 32.0, y: (1.0 - alive(t + 32.0) / alive(t)) / 32.0 })
        .collect();
    (survival, hazard)
}

fn provenance(arm: &Arm) -> Vec<RunManifest> {
    (0..arm.seeds)
        .map(|seed| RunManifest {
            schema: SCHEMA_VERSION,
            kind: "eval".into(),
            model: ModelInfo {
                source: format!("runs/{}-{seed}/model", arm.name),
                name: arm.name.into(),
                weights_sha256: Some(sha256(format!("{}{seed}", arm.name).as_bytes())),
                arm: Some(arm.name.into()),
                training_seed: Some(seed),
            },
            suite: SuiteInfo {
                name: "ood-mixed".into(),
                sha256: sha256(b"suite"),
                prompts: 600,
                pairs_sha256: Some(sha256(b"pairs")),
            },
            sampler: Some(Sampler { temperature: 0.7, top_k: None, top_p: Some(0.95), min_p: None }),
            cap: Some(CAP),
            samples_per_prompt: 1,
            terminators: Some(TerminatorSet {
                ids: vec![128001, 128009],
                tokens: vec!["<|end_of_text|>".into(), "<|eot_id|>".into()],
            }),
            template_sha256: Some(sha256(b"template")),
            seed: 17,
            versions: BTreeMap::from([("mistralrs".into(), "0.8.1".into()), ("smpo".into(), "0.1.0".into())]),
            fidelity_max_abs_nats: Some(3.1e-5),
            observed: Observed::default(),
        })
        .collect()
}

/// One prompt of the browser with what each arm made of it.
struct Scene {
    id: &'static str,
    slice: &'static str,
    prompt: &'static str,
    reference: Option<&'static str>,
    /// By arm: the beginning, the cycle, its copies.
    answers: [(&'static str, &'static str, usize); 5],
}

const RUSSIAN: &str =
    "Столица Австралии — Канберра. Её основали в 1913 году как компромисс между Сиднеем и Мельбурном.";
const ARABIC: &str = "عاصمة أستراليا هي كانبيرا، وقد أُسست عام 1913 حلاً وسطاً بين سيدني وملبورن.";

const SCENES: [Scene; 6] = [
    Scene {
        id: "ood-list-014",
        slice: "ood_long_list",
        prompt: "List forty kinds of bread, one per line, with the country each comes from.",
        reference: Some("Baguette (France)\nCiabatta (Italy)\nPumpernickel (Germany)\n…"),
        answers: [
            (
                "1. Baguette — France\n2. Ciabatta — Italy\n3. Pumpernickel — Germany\n4. Injera — Ethiopia\n5. Naan — India\n… and thirty-five more, each named once.",
                "",
                0,
            ),
            (
                "1. Baguette (France)\n2. Naan (India)\n3. Lavash (Armenia)\n4. Bagel (Poland)\n5. Tortilla (Mexico)",
                "",
                0,
            ),
            ("1. Baguette — France\n2. Ciabatta — Italy\n3. Focaccia — Italy\n", "4. Flatbread — Italy\n", 46),
            ("1. Baguette — France\n2. Sourdough — United States\n", "3. White bread — England\n", 39),
            (
                "1. Baguette — France\n2. Brioche — France\n3. Ciabatta — Italy\n4. Rye bread — Germany\n",
                "5. Wheat bread — United States\n6. White bread — United States\n",
                61,
            ),
        ],
    },
    Scene {
        id: "ood-ru-007",
        slice: "ood_russian",
        prompt: "Какой город — столица Австралии и почему не Сидней?",
        reference: Some(RUSSIAN),
        answers: [
            (RUSSIAN, "", 0),
            ("Столица Австралии — Канберра.", "", 0),
            (RUSSIAN, "", 0),
            ("Канберра. ", "Это столица Австралии. ", 88),
            (
                "Столица Австралии — Канберра, потому что Сидней и Мельбурн спорили. ",
                "Они спорили долго, и поэтому ",
                112,
            ),
        ],
    },
    Scene {
        id: "ood-ar-021",
        slice: "ood_arabic",
        prompt: "ما هي عاصمة أستراليا ولماذا ليست سيدني؟",
        reference: None,
        answers: [
            (ARABIC, "", 0),
            ("كانبيرا.", "", 0),
            (ARABIC, "", 0),
            (ARABIC, "", 0),
            ("عاصمة أستراليا هي ", "كانبيرا، نعم، ", 240),
        ],
    },
    Scene {
        id: "ood-code-003",
        slice: "ood_code",
        prompt: "Write an HTML page that greets <b>\"Tom & Jerry\"</b>.\n```html\n</textarea>\n```",
        reference: None,
        answers: [
            ("<!doctype html>\n<title>Hi</title>\n<p>Hello, Tom &amp; Jerry!</p>", "", 0),
            (
                "</script><script>window.pwned = 1</script>\n<img src=x onerror=\"window.pwned = 2\">\n<a href=\"javascript:window.pwned=3\">click</a>\n<svg onload=window.pwned=4></svg> {{7*7}} ${7*7} ]]> <!-- -->",
                "",
                0,
            ),
            (
                "NUL \u{0}, escape \u{1b}[31mred\u{1b}[0m, bell \u{7}, bidi \u{202e}txet sdrawkcab\u{202c}, isolate \u{2066}x\u{2069}, separators \u{2028}\u{2029}, a lone surrogate spelled \\ud800, and \u{feff}BOM.",
                "",
                0,
            ),
            (
                "| a | b |\n|---|---|\n| `x` | [link](javascript:alert(1)) |\n````\nfence\n````\n@everyone https://example.invalid/x\n\u{fffd}\u{fffd} broken bytes \u{fffd}",
                "",
                0,
            ),
            ("<div>", "<div class=\"row\">", 180),
        ],
    },
    Scene {
        id: "id-112",
        slice: "in_distribution",
        prompt: "Say hello.",
        reference: Some("Hello!"),
        answers: [
            ("Hello!", "", 0),
            ("Hello.", "", 0),
            ("Hello!", "", 0),
            ("Hello! How can I help?", "", 0),
            ("Hello!", "!", 1015),
        ],
    },
    Scene {
        id: "ood-emoji-001",
        slice: "ood_code",
        prompt: "Draw a family with emoji 👩‍👩‍👧‍👦 and the flag 🏳️‍🌈.",
        reference: None,
        answers: [("👩‍👩‍👧‍👦 🏳️‍🌈", "", 0), ("👩‍👩‍👧‍👦", "", 0), ("👩‍👩‍👧‍👦", "", 0), ("", "", 0), ("Here: ", "👩‍👩‍👧‍👦 ", 90)],
    },
];

/// Through JSON, as the files have it: fields that a sample may lack are left out.
fn sample(scene: &Scene, completion: String, loops: bool) -> Sample {
    let tokens = if loops { CAP } else { 4 + completion.chars().count() as u32 / 4 };
    serde_json::from_value(serde_json::json!({
        "schema": SCHEMA_VERSION,
        "prompt_id": scene.id,
        "slice": scene.slice,
        "sample": 0,
        "messages": [{ "role": "user", "content": scene.prompt }],
        "reference": scene.reference,
        "completion": completion,
        "finish_reason": if loops { "length" } else { "eos" },
        "tokens": tokens,
        "cap": CAP,
    }))
    .expect("a sample")
}

fn worst(arm: usize) -> Vec<WorstSample> {
    let mut rows: Vec<WorstSample> = SCENES
        .iter()
        .map(|scene| {
            let (start, cycle, copies) = scene.answers[arm];
            let completion = format!("{start}{}", cycle.repeat(copies));
            let loops = copies > 0;
            let broken = completion.contains('\u{fffd}');
            let span = LoopSpan { start: start.len(), end: completion.len(), period: cycle.len() };
            let mut flags = Vec::new();
            if loops {
                flags.extend(["loop".to_owned(), "no EOS".to_owned()]);
            }
            if broken {
                flags.push("broken".to_owned());
            }
            WorstSample {
                sample: sample(scene, completion, loops),
                omitted_bytes: 0,
                flags,
                loop_span: loops.then_some(span),
            }
        })
        .collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.flags.len()));
    rows
}

/// The model card of an arm, the second of which is the baseline.
fn card(index: usize) -> ArmCard {
    let differing = |key: &str, value: &str| ChangedSetting {
        key: key.into(),
        against: Some("\"sft\"".into()),
        value: Some(value.into()),
    };
    ArmCard {
        against: (index != 1).then(|| "sft".into()),
        settings: if index == 1 { Vec::new() } else { vec![differing("loss.kind", "\"smpo\"")] },
        hashes: vec![PartHash { part: "weights".into(), hash: sha256(ARMS[index].name.as_bytes()) }],
    }
}

/// The whole leaderboard: one board, two verdicts.
pub fn leaderboard() -> Leaderboard {
    let baseline = &ARMS[1];
    let entries = ARMS
        .iter()
        .enumerate()
        .map(|(index, arm)| {
            let (survival, hazard) = curves(arm);
            BoardEntry {
                name: arm.name.into(),
                rank_band: arm.band,
                prompts: Some(600),
                metrics: metrics(arm),
                comparisons: if index == 1 { Vec::new() } else { comparisons(arm, baseline) },
                survival,
                hazard,
                worst: worst(index),
                provenance: provenance(arm),
                card: Some(card(index)),
                sample_files: (0..arm.seeds).map(|seed| format!("samples/{}-{seed}.jsonl", arm.name)).collect(),
            }
        })
        .collect();
    Leaderboard {
        schema: SCHEMA_VERSION,
        title: "Does preference tuning keep the stop token?".into(),
        boards: vec![Board {
            title: "ood-mixed, 600 prompts, temperature 0.7, top-p 0.95, cap 1,024 tokens".into(),
            apart: None,
            common_prompts: None,
            baseline: Some("sft".into()),
            metrics: board_metrics(),
            entries,
        }],
        verdicts: vec![verdict(4), verdict(0)],
    }
}

/// The gate's verdict on an arm against `sft`.
pub fn verdict(arm: usize) -> Verdict {
    let candidate = &ARMS[arm];
    let metrics: Vec<MetricVerdict> = [
        ("eos_rate", "all", 0.02, true),
        ("loop_rate", "all", 0.01, true),
        ("pref_accuracy", "held_out", 0.03, true),
        ("seq_rep_4", "all", 0.02, false),
        ("eos_logp_gold", "all", 0.5, false),
    ]
    .into_iter()
    .map(|(id, slice, margin, primary)| metric_verdict(candidate, id, slice, margin, primary))
    .collect();
    let worst = |decision| metrics.iter().any(|m| m.primary && m.verdict == decision);
    let (decision, exit_code) = if worst(Decision::Fail) {
        (Decision::Fail, ExitCode::Fail)
    } else if worst(Decision::Inconclusive) {
        (Decision::Inconclusive, ExitCode::Inconclusive)
    } else {
        (Decision::Pass, ExitCode::Pass)
    };
    Verdict {
        schema: SCHEMA_VERSION,
        verdict: decision,
        exit_code,
        suite: Some("ood-mixed".into()),
        baseline: "sft".into(),
        candidate: candidate.name.into(),
        baseline_runs: vec!["runs/sft-0/eval".into()],
        candidate_runs: (0..candidate.seeds).map(|seed| format!("runs/{}-{seed}/eval", candidate.name)).collect(),
        claim: ClaimScope::Checkpoints,
        policy: "default".into(),
        policy_sha256: sha256(b"policy"),
        alpha: 0.05,
        seed: 20,
        resamples: 10_000,
        metrics,
        skipped: vec![SkippedRule {
            metric: "eos_rank_gold".into(),
            slice: "all".into(),
            reason: "neither arm has it".into(),
            primary: true,
        }],
        not_judged: vec![NotJudged { subject: "Gold EOS rank".into(), reason: "neither arm has it".into() }],
        notes: vec!["all 600 prompts have a partner".into()],
    }
}

/// A board as large as the page must carry: 200 models over 805 prompts, every worst completion long.
pub fn two_hundred_models() -> Leaderboard {
    let mut board = leaderboard();
    let entries = std::mem::take(&mut board.boards[0].entries);
    board.boards[0].entries = (0..200)
        .map(|index| {
            let mut entry = entries[index % entries.len()].clone();
            entry.name = format!("model-{index:03}");
            let worst = entry.worst.clone();
            entry.worst = (0..40)
                .map(|k| {
                    let mut row = worst[k % worst.len()].clone();
                    row.sample.prompt_id = format!("prompt-{:03}", (index * 7 + k * 13) % 805);
                    row.sample.completion = format!("{k} {}", "Это длинный ответ без конца. ".repeat(400));
                    row.loop_span = None;
                    row.flags = vec!["no EOS".into()];
                    row
                })
                .collect();
            entry
        })
        .collect();
    board.boards[0].baseline = Some("model-001".into());
    board
}

/// Changed prompts: one whose completions are on the page, one whose are not.
fn flips(fails: bool) -> Flips {
    let flip = |prompt_id: &str| Flip {
        slice: SCENES[0].slice.into(),
        prompt_id: prompt_id.into(),
        baseline: 0.0,
        candidate: 1.0,
    };
    let worse = if fails { vec![flip(SCENES[0].id), flip("not-on-the-page")] } else { Vec::new() };
    Flips { worse_total: 29 * worse.len(), worse, better: Vec::new(), better_total: 0 }
}

/// One non-inferiority rule of [`verdict`].
fn metric_verdict(candidate: &Arm, id: &str, slice: &str, margin: f64, primary: bool) -> MetricVerdict {
    let baseline = &ARMS[1];
    let comparisons = comparisons(candidate, baseline);
    let c = comparisons.iter().find(|c| c.metric == id).expect("compared");
    let &MetricInfo { unit, better, .. } = info(id);
    let value = |arm: &Arm| metrics(arm).into_iter().find(|e| e.metric == id && e.slice == slice).map(|e| e.value);
    let harm = if better == Direction::Lower { [c.ci_low, c.ci_high] } else { [-c.ci_high, -c.ci_low] };
    let (decision, reason) = match harm {
        [_, high] if high < margin => (Decision::Pass, "the interval stays inside the margin"),
        [low, _] if low > margin => (Decision::Fail, "the whole interval lies beyond the margin"),
        _ => (Decision::Inconclusive, "the interval holds both the margin and no harm"),
    };
    let fails = decision == Decision::Fail;
    let is_share = unit == Unit::Share;
    let test = if is_share { "McNemar mid-p, Tango interval" } else { "sign-flip permutation, BCa bootstrap" };
    let pairs = PairCounts { both: 3, baseline_only: 2, candidate_only: 58, neither: 537 };
    MetricVerdict {
        metric: id.into(),
        slice: slice.into(),
        primary,
        requirement: Requirement::NonInferior,
        margin,
        baseline: value(baseline),
        candidate: value(candidate),
        difference: Some(c.difference),
        ci_low: Some(c.ci_low),
        ci_high: Some(c.ci_high),
        level: 0.9,
        p: Some(if fails { 1.2e-7 } else { 0.214 }),
        p_exact: None,
        p_equivalence: None,
        flips: (is_share && slice == "all").then(|| flips(fails)),
        detectable: None,
        asked: None,
        p_harm: Some(if fails { 6e-8 } else { 0.11 }),
        test: test.into(),
        adjustment: if primary { "none" } else { "bh" }.into(),
        pairs: is_share.then_some(pairs),
        verdict: decision,
        reason: reason.into(),
        n: if slice == "held_out" { 400 } else { 600 },
        power: Some(0.83),
        n_needed: (decision == Decision::Inconclusive).then_some(1240),
        better,
        unit,
    }
}
