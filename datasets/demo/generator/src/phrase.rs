//! Wordings of requests, and the small grammar of answers.

use rand::Rng;
use rand::seq::IndexedRandom;

use crate::Stream;

/// Usual wordings of a request and unusual ones; `{}` stands for the subject.
#[derive(Debug, Clone, Copy)]
pub struct Wordings {
    /// Wordings of preference pairs.
    pub usual: &'static [&'static str],
    /// Wordings of some SFT examples and of the out-of-distribution suite only.
    pub unusual: &'static [&'static str],
}

/// Describe an entity.
pub const DESCRIBE: Wordings = Wordings {
    usual: &[
        "Tell me about {}.",
        "Describe {}.",
        "What do you know about {}?",
        "Can you tell me about {}?",
        "Please describe {} for me.",
    ],
    unusual: &[
        "I would like to hear about {}.",
        "Say something about {}, please.",
        "Hello! Could you describe {} in a few words?",
        "I am writing a letter to my friend. Tell me what you know about {}.",
        "My teacher asked me yesterday. What do you know about {}?",
    ],
};
/// Name some members of a category.
pub const LIST: Wordings = Wordings {
    usual: &["List some {}.", "Name some {}.", "Give me a list of {}.", "Which {} do you know?"],
    unusual: &[
        "I need a few {} for a game. Name some.",
        "Please write down some {} for me.",
        "Hello! Which {} can you name?",
        "Can you list {}?",
    ],
};
/// Explain how something is done.
pub const STEPS: Wordings = Wordings {
    usual: &["How do I {}?", "Tell me how to {}.", "Explain how to {}.", "What are the steps to {}?"],
    unusual: &[
        "My friend wants to {}. What should we do?",
        "Hello! Please help me to {}.",
        "I have never tried to {}. How is it done?",
    ],
};
/// A story.
pub const STORY: Wordings = Wordings {
    usual: &["Tell me a story about a {}.", "Write a short story about a {}.", "I want a story about a {}."],
    unusual: &[
        "My son cannot sleep. Tell him a story about a {}.",
        "Please make up a tale about a {}.",
        "Hello! A story about a {} would be nice.",
    ],
};
/// A person's day.
pub const DAY: Wordings = Wordings {
    usual: &["What did {} do today?", "Tell me about the day of {}.", "How was the day of {}?"],
    unusual: &["I did not see {} today. What happened?", "Hello! Do you know what {} did?"],
};
/// A poem.
pub const POEM: Wordings = Wordings {
    usual: &["Write a poem with the colour {}.", "Make a {} poem.", "I want a poem about {}."],
    unusual: &["My friend likes {}. Can you write a poem?", "Please sing something {} for us."],
};

/// A request about `subject`.
pub fn ask(rng: &mut Stream, wordings: Wordings, unusual: bool, subject: &str) -> String {
    let pool = if unusual { wordings.unusual } else { wordings.usual };
    pick(rng, pool).replace("{}", subject)
}

/// One of a non-empty pool.
pub fn pick<T: Copy>(rng: &mut Stream, pool: &[T]) -> T {
    *pool.choose(rng).expect("pools are constants and not empty")
}

/// Number of sentences: `least`, and further ones while a coin of probability `stop` fails, at most `most`.
pub fn sentence_count(rng: &mut Stream, least: usize, most: usize, stop: f64) -> usize {
    let mut count = least;
    while count < most && !rng.random_bool(stop) {
        count += 1;
    }
    count
}

/// "a small", "an orange".
pub fn with_article(word: &str) -> String {
    let vowel = word.starts_with(['a', 'e', 'i', 'o', 'u', 'A', 'E', 'I', 'O', 'U']);
    format!("{} {word}", if vowel { "an" } else { "a" })
}

/// "a", "a and b", "a, b and c".
pub fn join_and(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [only] => (*only).to_owned(),
        [head @ .., last] => format!("{} and {last}", head.join(", ")),
    }
}
