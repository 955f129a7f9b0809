//! Numbers of a loss that change over training.

use smpo_losses::{Batch, Completion, LossConfig, LossState, Objective, Pair};

const END: [bool; 3] = [false, false, true];

fn read(toml: &str) -> LossConfig {
    toml::from_str(toml).unwrap_or_else(|error| panic!("{toml}: {error}"))
}

fn complaint(toml: &str) -> String {
    match toml::from_str::<LossConfig>(toml) {
        Err(error) => error.to_string(),
        Ok(config) => Objective::new(config).expect_err("it is refused").to_string(),
    }
}

/// The objective at a step of ten, on one pair.
fn value(toml: &str, step: u64) -> f64 {
    let pairs = [Pair::new(Completion::new(&[-0.5, -1.0, -0.1], &END), Completion::new(&[-0.7, -4.0, -0.2], &END))];
    let batch = Batch { step, steps: Some(10), ..Batch::new(&pairs) };
    Objective::new(read(toml)).unwrap().evaluate(&batch, &mut LossState::default()).unwrap().value
}

#[test]
fn a_scheduled_number_is_the_number_at_each_step() {
    let scheduled = "kind = \"simpo\"\nbeta = { from = 1.0, to = 2.8 }";
    for step in 0..10 {
        let beta = 1.0 + 0.2 * step as f64;
        let constant = value(&format!("kind = \"simpo\"\nbeta = {beta:?}"), step);
        assert!((value(scheduled, step) - constant).abs() < 1e-12, "step {step}");
    }
}

#[test]
fn transforms_can_be_scheduled_too() {
    let scheduled = "kind = \"smpo\"\nmin_log_prob = { from = -4.5, to = -2.3, warmup = 0.5 }";
    // the floor reaches −2.3 after half of the steps, and cuts the token at −4 deeper than at the start
    assert_eq!(value(scheduled, 5), value("kind = \"smpo\"\nmin_log_prob = -2.3", 5));
    assert_eq!(value(scheduled, 0), value("kind = \"smpo\"\nmin_log_prob = -4.5", 0));
}

#[test]
fn the_margin_schedule_of_smpo_is_one_of_them() {
    let own = "kind = \"smpo\"\ntarget_margin = 5.0\ninitial_margin = 0.2";
    let scheduled = "kind = \"smpo\"\ntarget_margin = { from = 0.2, to = 5.0, schedule = \"linear\" }";
    for step in 0..10 {
        assert!((value(own, step) - value(scheduled, step)).abs() < 1e-12, "step {step}");
    }
}

#[test]
fn a_schedule_is_written_as_it_was_read() {
    let config =
        read("kind = \"dpo\"\nloss_type = \"shift\"\nshift_lambda = { from = 0.5, to = 1.0, schedule = \"cosine\" }");
    let json = serde_json::to_string(&config).unwrap();
    assert!(
        json.contains("\"shift_lambda\":{\"from\":0.5,\"to\":1.0,\"schedule\":\"cosine\",\"warmup\":1.0}"),
        "{json}"
    );
    assert_eq!(serde_json::from_str::<LossConfig>(&json).unwrap(), config);
    assert_eq!(read(&toml::to_string(&config).unwrap()), config);
}

#[test]
fn a_fixed_margin_replaces_its_schedule() {
    let config = read("kind = \"simpo\"\ngamma = { from = 0.1, to = 1.0 }\nbeta = { from = 1.0, to = 2.0 }");
    let fixed = Objective::new(config).unwrap().with_target_margin(0.4).unwrap();
    assert_eq!(fixed.config().schedules.keys().collect::<Vec<_>>(), ["beta"]);
}

#[test]
fn complaints_name_the_key() {
    for (toml, expected) in [
        ("kind = \"smpo\"\nbeta = { from = 1.0 }", "`beta`: a schedule: missing field `to`"),
        ("kind = \"smpo\"\nbeta = { from = 1.0, to = 2.0, warm = 1 }", "unknown field `warm`"),
        ("kind = \"smpo\"\nbeta = { from = 0.0, to = 2.0 }", "`beta` must be finite and greater than 0, got 0"),
        ("kind = \"smpo\"\nbeta = { from = 1.0, to = 2.0, warmup = 1.5 }", "`warmup` in (0, 1]"),
        ("kind = \"smpo\"\nbeta = { from = 1.0, to = 2.0, warmup = 0.0 }", "`warmup` in (0, 1]"),
        ("kind = \"smpo\"\nloss_type = { from = 1.0, to = 2.0 }", "`loss_type`"),
        ("kind = \"smpo\"\nbet = { from = 1.0, to = 2.0 }", "did you mean `beta`"),
    ] {
        let got = complaint(toml);
        assert!(got.contains(expected), "{toml}: {got}");
    }
}

/// SMPO's own schedule is part of the loss, and ends with the margin that is set.
#[test]
fn a_fixed_margin_stays_at_every_step() {
    let smpo = || read("kind = \"smpo\"\ntarget_margin = 0.5\ninitial_margin = 0.1");
    let at = |config: &LossConfig, step| config.at_step(step, 5).unwrap().loss.target_margin().unwrap();
    assert!((at(&smpo(), 2) - 0.3).abs() < 1e-12);
    let at_a_step = smpo().at_step(2, 5).unwrap();
    let fixed = Objective::new(smpo()).unwrap().with_target_margin(0.25).unwrap();
    for step in 0..5 {
        assert_eq!(at(&at_a_step, step), at(&smpo(), 2));
        assert_eq!(at(fixed.config(), step), 0.25);
    }
}
