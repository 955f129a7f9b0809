//! The score of each completion: a weighted sum of scorers.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use smpo_metrics::Scratch;

use crate::Answered;
use crate::rule::Rule;

/// Scorers with their weights; their sum is a completion's score.
#[derive(Debug, Clone, PartialEq)]
pub struct Score {
    /// At least one, the judge at most once.
    terms: Vec<(Scorer, f64)>,
}

/// A source of scores.
#[derive(Debug, Clone, PartialEq)]
pub enum Scorer {
    /// Metrics of the completion.
    Rule(Rule),
    /// The reward model in this directory.
    Reward(PathBuf),
    /// A model's judgement.
    Judge,
}

/// Scores that took a model.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Given {
    /// The judge's, by (prompt, sample).
    pub judged: HashMap<(String, u32), f64>,
    /// Those of each reward model by its directory, in the order of the samples.
    pub rewards: HashMap<PathBuf, Vec<Option<f64>>>,
}

impl Default for Score {
    fn default() -> Self {
        Score { terms: vec![(Scorer::Rule(Rule::default()), 1.0)] }
    }
}

impl Score {
    /// Reads descriptions such as `rule`, `rule:exact_match=2,loop_rate=-1`, `rm:DIR` and `judge@0.5`; the number after `@` is the
    /// weight, 1 if absent. Without any the score is [`Rule::default`].
    ///
    /// # Errors
    /// The description with expected and got.
    pub fn of(descriptions: &[String]) -> Result<Score, String> {
        if descriptions.is_empty() {
            return Ok(Score::default());
        }
        let terms = descriptions.iter().map(|text| term(text).map_err(|problem| format!("{text}: {problem}")));
        let terms = terms.collect::<Result<Vec<_>, _>>()?;
        if terms.iter().filter(|(scorer, _)| *scorer == Scorer::Judge).count() > 1 {
            return Err("judge: given twice; one weight says it".into());
        }
        for (index, (scorer, _)) in terms.iter().enumerate() {
            if let Scorer::Reward(dir) = scorer
                && terms[..index].iter().any(|(other, _)| other == scorer)
            {
                return Err(format!("rm:{}: given twice; one weight says it", dir.display()));
            }
        }
        Ok(Score { terms })
    }

    /// Directories of the reward models that take part.
    pub fn reward_models(&self) -> impl Iterator<Item = &Path> {
        self.terms.iter().filter_map(|(scorer, _)| match scorer {
            Scorer::Reward(dir) => Some(dir.as_path()),
            Scorer::Rule(_) | Scorer::Judge => None,
        })
    }

    /// True if a judge takes part.
    pub fn has_judge(&self) -> bool {
        self.terms.iter().any(|(scorer, _)| *scorer == Scorer::Judge)
    }
}

fn term(text: &str) -> Result<(Scorer, f64), String> {
    let (scorer, weight) = match text.rsplit_once('@') {
        None => (text, 1.0),
        Some((scorer, weight)) => match f64::from_str(weight.trim()) {
            Ok(weight) if weight.is_finite() => (scorer, weight),
            _ => return Err(format!("expected a weight after `@`, got {weight:?}")),
        },
    };
    let scorer = match scorer.trim().split_once(':') {
        Some(("rule", rule)) => Scorer::Rule(rule.parse()?),
        Some(("rm", "")) => return Err("expected the directory of a reward model after `rm:`, got nothing".into()),
        Some(("rm", dir)) => Scorer::Reward(dir.into()),
        None if scorer.trim() == "rule" => Scorer::Rule(Rule::default()),
        None if scorer.trim() == "judge" => Scorer::Judge,
        _ => {
            let hint =
                smpo_suggest::did_you_mean(scorer.split(':').next().unwrap_or_default(), ["rule", "rm", "judge"]);
            return Err(format!("expected rule, rule:METRIC=WEIGHT,…, rm:DIR or judge{hint}"));
        }
    };
    Ok((scorer, weight))
}

/// The score of each sample, in their order; `None` for one that failed or that a model gave no score.
pub fn score(score: &Score, samples: &[Answered<'_>], given: &Given) -> Vec<Option<f64>> {
    let mut scratch = Scratch::default();
    samples
        .iter()
        .enumerate()
        .map(|(index, answered)| {
            let mut sum = 0.0;
            for (scorer, weight) in &score.terms {
                sum += weight
                    * match scorer {
                        Scorer::Rule(rule) => by_rule(rule, answered, &mut scratch)?,
                        Scorer::Reward(dir) => (*given.rewards.get(dir)?.get(index)?)?,
                        Scorer::Judge => {
                            *given.judged.get(&(answered.first.prompt_id.clone(), answered.first.sample))?
                        }
                    };
            }
            Some(sum)
        })
        .collect()
}

/// The mean over the answers.
fn by_rule(rule: &Rule, answered: &Answered<'_>, scratch: &mut Scratch) -> Option<f64> {
    let scores: Option<Vec<f64>> = answered.answers().map(|answer| rule.score(answer, scratch)).collect();
    let scores = scores?;
    Some(scores.iter().sum::<f64>() / scores.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use smpo_results::{FinishReason, Sample};

    fn described(texts: &[&str]) -> Result<Score, String> {
        Score::of(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn scorers_add_up_by_weight() {
        let scores = described(&["rule:eos_rate=1@2", "judge@0.5"]).unwrap();
        assert!(scores.has_judge());
        let ended = |index| Sample { finish_reason: FinishReason::Eos, sample: index, ..Sample::new("p", "yes") };
        let judged = Given { judged: HashMap::from([(("p".to_owned(), 0), 8.0)]), ..Given::default() };
        let samples = [ended(0), ended(1)];
        let answered: Vec<_> = samples.iter().map(|first| Answered { first, follow_up: None }).collect();
        assert_eq!(score(&scores, &answered, &judged), [Some(6.0), None]);
        // a conversation scores the mean of its answers
        let cut = Sample { finish_reason: FinishReason::Length, ..ended(1) };
        let both = Answered { first: &samples[0], follow_up: Some(("and?", &cut)) };
        assert_eq!(score(&described(&["rule:eos_rate=1"]).unwrap(), &[both], &judged), [Some(0.5)]);
    }

    #[test]
    fn rewards_are_taken_by_model_and_place() {
        let scores = described(&["rm:one", "rm:/models/two@-2"]).unwrap();
        assert_eq!(scores.reward_models().collect::<Vec<_>>(), [Path::new("one"), Path::new("/models/two")]);
        let samples = [Sample::new("p", "yes"), Sample::new("p", "no")];
        let answered: Vec<_> = samples.iter().map(|first| Answered { first, follow_up: None }).collect();
        let rewards =
            HashMap::from([("one".into(), vec![Some(0.5), Some(1.5)]), ("/models/two".into(), vec![Some(0.25), None])]);
        assert_eq!(score(&scores, &answered, &Given { rewards, ..Given::default() }), [Some(0.0), None]);
        assert!(described(&["rm:one", "rm:one@2"]).unwrap_err().contains("given twice"));
        assert!(described(&["rm:"]).unwrap_err().contains("directory of a reward model"));
    }

    #[test]
    fn mistakes_are_named() {
        assert!(described(&["rul"]).unwrap_err().contains("did you mean `rule`"), "{:?}", described(&["rul"]));
        assert!(described(&["judge@x"]).unwrap_err().contains("weight after `@`"));
        assert!(described(&["judge", "judge@2"]).unwrap_err().contains("given twice"));
        assert_eq!(described(&[]).unwrap(), Score::default());
    }
}
