//! Metrics of all completions of a run together.

use std::convert::Infallible;

use smpo_results::{FinishReason, Sample};

use crate::metric::length::Lifetime;
use crate::metric::{distinct_n, self_bleu};
use crate::text::words::hash_first_words;

/// One completion of a corpus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Completion {
    /// Number of its prompt.
    pub prompt: u32,
    /// Its length, where it is known.
    pub lifetime: Option<Lifetime>,
}

impl Completion {
    /// A completion of a prompt; `None` where the engine failed.
    pub fn of(sample: &Sample, prompt: u32) -> Option<Self> {
        let sound = sample.finish_reason != FinishReason::Error;
        sound.then(|| Completion { prompt, lifetime: Lifetime::of(sample) })
    }
}

/// Completions that are measured together: the lengths of all, and the words of some.
#[derive(Debug)]
pub struct Corpus {
    /// Grouped by prompt.
    pub completions: Vec<Completion>,
    /// Hashed first words of the completions at [`distinct_n::places`], for three metrics.
    pub(crate) spread: Vec<Vec<u64>>,
    /// Those at [`self_bleu::places`].
    pub(crate) of_prompts: Vec<Vec<u64>>,
}

impl Corpus {
    /// A corpus of samples grouped by prompt. Those that the engine failed on are left out.
    pub fn new<'a>(samples: impl IntoIterator<Item = &'a Sample>) -> Self {
        let sound: Vec<&Sample> =
            samples.into_iter().filter(|sample| sample.finish_reason != FinishReason::Error).collect();
        let prompts: Vec<&[&Sample]> = sound.chunk_by(|a, b| a.prompt_id == b.prompt_id).collect();
        let numbered = prompts.iter().zip(0..);
        let completions = numbered
            .flat_map(|(samples, prompt)| samples.iter().filter_map(move |sample| Completion::of(sample, prompt)));
        let text = |prompt: u32, index: usize| Ok(prompts[prompt as usize][index].completion.clone());
        let Ok(corpus) = Self::read::<Infallible>(completions.collect(), text);
        corpus
    }

    /// A corpus of completions grouped by ascending prompt; `text` reads one by its prompt and its index among those of
    /// the prompt.
    ///
    /// # Errors
    /// Those of `text`.
    pub fn read<E>(
        completions: Vec<Completion>,
        mut text: impl FnMut(u32, usize) -> Result<String, E>,
    ) -> Result<Self, E> {
        let mut read = |places: Vec<usize>, limit: usize| -> Result<Vec<Vec<u64>>, E> {
            let hashed = places.into_iter().map(|place| {
                let prompt = completions[place].prompt;
                let index = place - completions.partition_point(|completion| completion.prompt < prompt);
                let mut words = Vec::with_capacity(limit);
                hash_first_words(&text(prompt, index)?, limit, &mut words);
                Ok(words)
            });
            hashed.collect()
        };
        let spread = read(distinct_n::places(&completions), distinct_n::MAX_WORDS)?;
        let of_prompts = read(self_bleu::places(&completions), self_bleu::MAX_WORDS)?;
        Ok(Corpus { completions, spread, of_prompts })
    }

    /// The completions of some prompts, without their words: metrics of words have no value on a part.
    pub fn part(&self, wanted: impl Fn(u32) -> bool) -> Corpus {
        let completions = self.completions.iter().copied().filter(|completion| wanted(completion.prompt)).collect();
        Corpus { completions, spread: Vec::new(), of_prompts: Vec::new() }
    }
}

/// At most `limit` places of `count`, evenly spread.
pub(crate) fn spread(count: usize, limit: usize) -> impl Iterator<Item = usize> {
    let take = count.min(limit);
    (0..take).map(move |index| index * count / take)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_evenly_spread() {
        let places: Vec<usize> = spread(1000, 200).collect();
        assert_eq!((places.len(), places[0], places[1], places[199]), (200, 0, 5, 995));
        assert_eq!(spread(3, 200).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(spread(0, 200).count(), 0);
    }
}
