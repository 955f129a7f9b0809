//! The `[loss]` table: accepted and refused keys and values, and the messages.

use smpo_losses::loss::smpo::{SmpoConfig, SmpoLossType};
use smpo_losses::loss::{DpoConfig, KtoConfig};
use smpo_losses::{EosTerm, Loss, LossConfig, Objective, Transforms, WinsorScope};

fn parse(text: &str) -> Result<LossConfig, String> {
    toml::from_str(text).map_err(|error| error.message().to_owned())
}

/// The message of the first complaint, wherever it is raised.
fn complaint(text: &str) -> String {
    match parse(text) {
        Err(message) => message,
        Ok(config) => Objective::new(config).expect_err(text).to_string(),
    }
}

#[test]
fn the_documented_table_reads_as_documented() {
    let config = parse(
        r#"
        kind = "smpo"
        loss_type = "smooth_lower_bound"
        beta = 1.2
        target_margin = 0.35
        chosen_sft_ratio = 0.8
        use_margin_schedule = true
        eos_term = "invert"
        lower_clip_percentile = 0.02
        winsor_scope = { window = 4096 }
        min_log_prob = -2.3
        upper_clip_percentile = 0.97
        "#,
    )
    .unwrap();
    assert_eq!(config.loss, Loss::Smpo(SmpoConfig::default()));
    let expected = Transforms {
        winsor_scope: WinsorScope::Window(4096),
        upper_clip_percentile: Some(0.97),
        ..Transforms::modified()
    };
    assert_eq!(config.transforms, expected);
    assert_eq!(
        parse("kind = \"smpo\"\nwinsor_scope = \"window:7\"").unwrap().transforms.winsor_scope,
        WinsorScope::Window(7)
    );
}

#[test]
fn a_kind_alone_is_the_regular_loss() {
    for &kind in Loss::KINDS {
        let config = parse(&format!("kind = \"{kind}\"")).unwrap();
        assert_eq!((config.loss.kind(), config.transforms.is_active()), (kind, false));
        Objective::new(config).unwrap();
    }
}

#[test]
fn every_config_survives_a_round_trip_through_toml_and_json() {
    let configs = [
        LossConfig::from(Loss::Smpo(SmpoConfig::default())).with_transforms(Transforms {
            winsor_scope: WinsorScope::Window(64),
            eos_term: EosTerm::Bounded,
            ..Transforms::modified()
        }),
        Loss::Dpo(DpoConfig { ld_alpha: Some(0.5), rpo_alpha: Some(1.0), ..DpoConfig::default() }).into(),
        Loss::Kto(KtoConfig::default()).into(),
        LossConfig::from(Loss::Sft(Default::default())),
    ];
    for config in configs {
        let text = toml::to_string(&config).unwrap();
        assert_eq!(parse(&text).unwrap(), config, "{text}");
        let text = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<LossConfig>(&text).unwrap(), config, "{text}");
    }
}

#[test]
fn old_spellings_are_accepted() {
    let config = parse(
        "kind = \"smpo\"\nloss_type = \"smooth_double_bound\"\nmargin_min = 0.5\nmargin_delta = 0.3\n\
         lower_trim_percentile = 0.02\nupper_trim_percentile = 0.97",
    )
    .unwrap();
    let expected = SmpoConfig {
        loss_type: SmpoLossType::SmoothDoubleBound,
        target_margin: 0.5,
        margin_delta: 0.3,
        ..SmpoConfig::default()
    };
    assert_eq!(config.loss, Loss::Smpo(expected));
    assert_eq!(config.transforms.lower_clip_percentile, Some(0.02));
    assert_eq!(config.transforms.upper_clip_percentile, Some(0.97));
    let both = parse("kind = \"smpo\"\nmargin_min = 0.5\ntarget_margin = 0.5").unwrap_err();
    assert!(both.contains("duplicate field"), "{both}");
}

#[test]
fn a_null_is_an_absent_key() {
    let config: LossConfig =
        serde_json::from_str(r#"{"kind": "dpo", "min_log_prob": null, "ld_alpha": null}"#).unwrap();
    assert_eq!(config, Loss::Dpo(DpoConfig::default()).into());
}

#[test]
fn complaints_say_what_where_and_what_instead() {
    let kinds: Vec<String> = Loss::KINDS.iter().map(|kind| format!("`{kind}`")).collect();
    let kinds = kinds.join(", ");
    for (text, expected) in [
        ("beta = 1.0", "`kind` is missing: expected one of `sft`, `distill`, `smpo`"),
        ("kind = \"smpoo\"", &format!("unknown loss `smpoo`: expected one of {kinds} (did you mean `smpo`?)")),
        ("kind = \"smpo\"\nbetta = 1.0", "loss `smpo`: unknown key `betta` (did you mean `beta`?)"),
        ("kind = \"dpo\"\nmin_logprob = -2.3", "loss `dpo`: unknown key `min_logprob` (did you mean `min_log_prob`?)"),
        ("kind = \"dpo\"\nchosen_sft_ratio = 0.5", "loss `dpo`: unknown key `chosen_sft_ratio`"),
        ("kind = \"smpo\"\nbeta = \"x\"", "`beta`: invalid type: string \"x\", expected f64"),
        ("kind = \"smpo\"\nloss_type = \"smooth\"", "`loss_type`: expected one of `smooth_lower_bound`"),
        ("kind = \"smpo\"\neos_term = \"inverted\"", "got `inverted` (did you mean `invert`?)"),
        (
            "kind = \"smpo\"\nwinsor_scope = \"steps\"",
            "`winsor_scope`: expected `microbatch`, `step` or { window = N }, got `steps`",
        ),
        ("kind = \"smpo\"\nbeta = 0", "loss `smpo`: `beta` must be finite and greater than 0, got 0"),
        ("kind = \"smpo\"\nbeta = nan", "`beta` must be finite and greater than 0, got NaN"),
        ("kind = \"smpo\"\ntarget_margin = -0.1", "`target_margin` must be finite and at least 0, got -0.1"),
        ("kind = \"smpo\"\nchosen_sft_ratio = 1.5", "`chosen_sft_ratio` must be in [0, 1], got 1.5"),
        ("kind = \"smpo\"\nmargin_delta = 0", "`margin_delta` must be finite and greater than 0, got 0"),
        (
            "kind = \"simpo\"\nlower_clip_percentile = 2",
            "loss `simpo`: `lower_clip_percentile` must be a quantile in (0, 1), got 2",
        ),
        (
            "kind = \"orpo\"\nmin_log_prob = 2.3",
            "`min_log_prob` must be a finite log-prob of at most 0, in nats, got 2.3",
        ),
        ("kind = \"orpo\"\nlambda = inf", "`lambda` must be finite and greater than 0, got inf"),
        ("kind = \"cpo\"\neos_penalty_cap = 0", "`eos_penalty_cap` must be finite and greater than 0, in nats, got 0"),
        ("kind = \"cpo\"\nwinsor_scope = { window = 0 }", "`winsor_scope` must be a window of at least 1 token, got 0"),
        ("kind = \"dpo\"\nlabel_smoothing = 0.5", "`label_smoothing` must be in [0, 0.5), got 0.5"),
        (
            "kind = \"dpo\"\nlabel_smoothing = 0.1\nloss_type = \"ipo\"",
            "`label_smoothing` has no effect unless `loss_type` is \"sigmoid\"",
        ),
        ("kind = \"dpo\"\nld_alpha = 0.1\nsampo_seed = 3", "`sampo_seed` has no effect beside `ld_alpha`"),
        ("kind = \"dpo\"\nsampo_seed = -3", "`sampo_seed`: invalid value: integer `-3`, expected u64"),
        ("kind = \"dpo\"\ndiscopop_tau = 0.1", "`discopop_tau` has no effect unless `loss_type` is \"discopop\""),
        (
            "kind = \"dpo\"\nloss_type = [\"sigmoid\", \"sft\"]\nshift_lambda = 0.5",
            "`shift_lambda` has no effect unless `loss_type` is \"shift\"",
        ),
        (
            "kind = \"dpo\"\nf_divergence_type = \"forward_kl\"\nf_alpha_divergence_coef = 0.7",
            "`f_alpha_divergence_coef` has no effect unless `f_divergence_type` is \"alpha_divergence\"",
        ),
        (
            "kind = \"smpo\"\nmin_log_prob = -2.3\nwinsor_scope = \"step\"",
            "loss `smpo`: `winsor_scope` has no effect without `lower_clip_percentile` or `upper_clip_percentile`",
        ),
        (
            "kind = \"gpo\"\neos_term = \"invert\"\neos_penalty_cap = 0.4",
            "`eos_penalty_cap` has no effect unless `eos_term` is \"bounded\"",
        ),
        ("kind = \"kto\"\ndesirable_weight = -1", "`desirable_weight` must be finite and at least 0, got -1"),
        ("kind = \"sft\"\nmin_log_prob = -2.3", "loss `sft`: `min_log_prob` has no effect without a pair loss"),
        ("kind = \"cpo\"\nloss_type = \"hinge\"\nlabel_smoothing = 0.1", "`label_smoothing` has no effect unless"),
        ("kind = \"distill\"\njs_beta = 0.5", "`js_beta` has no effect unless `loss_type` is \"jensen_shannon\""),
        (
            "kind = \"classification\"\nlabels = [\"a\", \" \"]",
            "the names of two labels or more, each once, got an empty name",
        ),
    ] {
        let got = complaint(text);
        assert!(got.contains(expected), "{text}\n  expected {expected}\n  got      {got}");
    }
}

/// Files that list every key have them: those of this project, and of TRL's releases (α was 1 before 1.0).
#[test]
fn a_default_without_effect_is_no_complaint() {
    for text in [
        "kind = \"dpo\"\ndiscopop_tau = 0.05\nshift_lambda = 0.75\nf_alpha_divergence_coef = 0.5",
        "kind = \"dpo\"\nf_alpha_divergence_coef = 1.0",
        "kind = \"smpo\"\nwinsor_scope = \"microbatch\"\neos_penalty_cap = 2.3",
        "kind = \"dpo\"\nloss_type = [\"sigmoid\", \"discopop\"]\ndiscopop_tau = 0.1",
        "kind = \"dpo\"\nloss_type = \"shift\"\nshift_lambda = 0.5",
        "kind = \"smpo\"\nupper_clip_percentile = 0.97\nwinsor_scope = \"step\"",
    ] {
        Objective::new(parse(text).unwrap()).unwrap();
    }
}

/// Numbers at the ends of their ranges: `(` and `)` are ends that are refused, `[` and `]` ends that are taken.
#[test]
fn numbers_at_the_ends_of_their_ranges() {
    let ranges = [
        ("smpo", "beta margin_delta", "(0"),
        ("smpo", "target_margin initial_margin", "[0"),
        ("smpo", "chosen_sft_ratio", "[0 1]"),
        ("simpo", "beta eos_penalty_cap", "(0"),
        ("simpo", "gamma sft_weight eos_anchor", "[0"),
        ("simpo", "lower_clip_percentile upper_clip_percentile", "(0 1)"),
        ("simpo", "min_log_prob", "0]"),
        ("cpo", "beta", "(0"),
        ("cpo", "cpo_alpha", "[0"),
        ("cpo", "label_smoothing", "[0 0.5)"),
        ("kto", "beta", "(0"),
        ("kto", "desirable_weight undesirable_weight", "[0"),
        ("lmpo", "beta", "(0"),
        ("lmpo", "gamma margin_weight", "[0"),
        ("npo", "beta", "(0"),
        ("npo", "sft_weight", "[0"),
        ("orpo", "lambda", "(0"),
        ("repo", "gamma", "[0"),
        ("reward", "center_rewards_coefficient", "[0"),
        ("sft", "eaft_alpha", "[0"),
        ("slime", "hard_margin steepness", "(0"),
        ("slime", "soft_margin chosen_weight floor_weight floor_threshold", "[0"),
        ("slime", "floor_power", "[1"),
        ("unlikelihood", "rank_alpha", "(0"),
        ("unlikelihood", "sft_weight", "[0"),
        ("dpo", "beta f_alpha_divergence_coef discopop_tau gate_alpha", "(0"),
        ("dpo", "rpo_alpha dpop_lambda", "[0"),
        ("dpo", "shift_lambda balance", "(0 1]"),
        ("dpo", "bdpo_lambda", "(0 1)"),
        ("dpo", "gate_tau ld_alpha", "[0 1]"),
        ("dpo", "label_smoothing", "[0 0.5)"),
        ("distill", "temperature", "(0"),
        ("distill", "alpha", "[0 1]"),
        ("gpo", "advantage_clip", "(0"),
        ("gpo", "kl_beta", "[0"),
    ];
    let ends = ranges.iter().flat_map(|(kind, fields, range)| {
        let ends = range.split(' ').map(move |end| (*kind, *fields, end));
        ends.flat_map(|(kind, fields, end)| fields.split(' ').map(move |field| (kind, field, end)))
    });
    for (kind, field, end) in ends {
        let number: f64 = end.trim_matches(['(', '[', ')', ']']).parse().unwrap();
        let beyond = if end.starts_with(['(', '[']) { number - 0.25 } else { number + 0.25 };
        for (given, taken) in [(number, end.contains(['[', ']'])), (beyond, false)] {
            let text = format!("kind = \"{kind}\"\n{field} = {given:?}");
            let told = parse(&text).and_then(|config| Objective::new(config).map(drop).map_err(|e| e.to_string()));
            let refused = told.is_err_and(|told| told.contains(&format!("`{field}` must be")));
            assert_eq!(refused, !taken, "{text}");
        }
    }
}

/// Keys of DPO that contradict each other, or that nothing reads beside the others.
#[test]
fn combinations_of_dpo_without_an_effect_are_refused() {
    for (keys, expected) in [
        (
            "loss_type = 3",
            "`loss_type`: invalid type: integer `3`, expected the name of a loss type, or a list of names",
        ),
        (
            "loss_type = \"apo_zero\"\nf_divergence_type = \"squared\"",
            "`f_divergence_type` has no effect with a loss type",
        ),
        (
            "loss_type = [\"sigmoid\", \"nca_pair\"]\nf_divergence_type = \"forward_kl\"",
            "`f_divergence_type` has no effect with a loss type",
        ),
        (
            "loss_type = \"ipo_norm\"\naverage_log_prob = true",
            "`average_log_prob` has no effect beside a loss type that is per token",
        ),
        (
            "loss_type = \"sigmoid_norm\"\naverage_log_prob = true",
            "`average_log_prob` has no effect beside a loss type that is per token",
        ),
        ("loss_type = \"aot\"\ndpop_lambda = 1.0", "`dpop_lambda` has no effect beside `aot`"),
        ("loss_type = \"aot_unpaired\"\nbdpo_lambda = 0.5", "`bdpo_lambda` has no effect beside `aot`"),
        (
            "average_log_prob = true\nld_alpha = 0.5",
            "`average_log_prob` has no effect beside `ld_alpha` or `sampo_seed`",
        ),
        (
            "average_log_prob = true\nsampo_seed = 1",
            "`average_log_prob` has no effect beside `ld_alpha` or `sampo_seed`",
        ),
        ("loss_type = \"aot\"\nuse_weighting = true", "`use_weighting`: expected false beside `aot`"),
        (
            "loss_type = [\"sigmoid\", \"sft\"]\nuse_weighting = true",
            "`use_weighting`: expected false beside the loss type `sft`",
        ),
        ("gate_alpha = 20.0", "`gate_tau`: expected a number beside `gate_alpha`, got nothing"),
        ("gate_tau = 0.1", "`gate_alpha`: expected a number beside `gate_tau`, got nothing"),
        ("gate_estimate = \"q10\"", "`gate_estimate` has no effect without `gate_alpha` and `gate_tau`"),
    ] {
        let got = complaint(&format!("kind = \"dpo\"\n{keys}"));
        assert!(got.contains(expected), "{keys}\n  expected {expected}\n  got      {got}");
    }
    for keys in [
        "loss_type = [\"ipo\", \"discopop\"]\nf_divergence_type = \"squared\"",
        "average_log_prob = true\nloss_type = \"ipo\"",
        "gate_alpha = 20.0\ngate_tau = 0.1\ngate_estimate = \"q10\"",
        "use_weighting = true\nrpo_alpha = 0.5",
    ] {
        Objective::new(parse(&format!("kind = \"dpo\"\n{keys}")).unwrap()).unwrap();
    }
}

/// A mixture of nothing but one of the two is none.
#[test]
fn the_share_of_the_teacher_is_between_none_and_all() {
    let refused = |beta: f64| {
        let table = format!("kind = \"distill\"\nloss_type = \"jensen_shannon\"\njs_beta = {beta:?}");
        Objective::new(parse(&table).unwrap())
            .is_err_and(|error| error.to_string().contains("`js_beta` must be in (0, 1)"))
    };
    assert_eq!([-0.1, 0.0, 0.1, 0.9, 1.0, 1.1].map(refused), [true, true, false, false, true, true]);
}
