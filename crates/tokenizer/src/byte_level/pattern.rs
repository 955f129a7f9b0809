//! The patterns that cut a text into words, as automata.

use regex_automata::meta::{self, Cache, Regex};
use regex_automata::{Anchored, Input, PatternID};
use tokenizers::SplitDelimiterBehavior;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::split::SplitPattern;

/// End of most patterns: the last character of white space before a word belongs to the word.
const SPACES: &str = r"|\s+(?!\S)|\s+";

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

/// Patterns for which the automata are known to agree with the library's regex engine (`tests.rs`). Any other goes
/// through the library.
pub(crate) const KNOWN: [&str; 12] = [
    GPT2,
    // cl100k_base with digits by three, and Llama 3
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    // Qwen 2, 2.5 and 3
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    // Qwen 3.5
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    // o200k_base
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    // Tekken (Mistral Nemo)
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    // DeepSeek V3, its three stages
    r"\p{N}{1,3}",
    "[一-龥\u{3040}-ゟ゠-ヿ]+",
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+",
    // single digits, and digits by three, as stages of their own
    r"\p{N}",
    r"\d{1,3}",
];

/// A pattern whose matches are words; the text between two matches is a word too.
#[derive(Debug)]
pub(crate) struct Pattern {
    regex: Regex,
    /// True if the last character of white space before a word belongs to the word.
    spaces: bool,
    /// True if the text between two matches is dropped.
    matches_only: bool,
}

/// Buffers of a search.
pub(crate) type Scratch = Cache;

impl Pattern {
    /// The pattern of a pre-tokenizer; `None` where it is not known.
    pub fn of(pre_tokenizer: &PreTokenizerWrapper) -> Option<Self> {
        let PreTokenizerWrapper::Split(split) = pre_tokenizer else { return None };
        let SplitPattern::Regex(source) = &split.pattern else { return None };
        match (split.behavior, split.invert) {
            (SplitDelimiterBehavior::Isolated, false) => Self::known(source),
            (SplitDelimiterBehavior::Removed, true) => Some(Self { matches_only: true, ..Self::known(source)? }),
            _ => None,
        }
    }

    /// The pattern of a byte-level pre-tokenizer that brings none.
    pub fn gpt2() -> Option<Self> {
        Self::known(GPT2)
    }

    fn known(source: &str) -> Option<Self> {
        if !KNOWN.contains(&source) {
            return None;
        }
        // an automaton looks at nothing behind a match, so `(?!\S)` becomes a rule on how much white space is taken
        let (words, spaces) = match source.strip_suffix(SPACES) {
            Some(words) => (vec![words, r"\s+"], true),
            None => (vec![source], false),
        };
        let regex = Regex::builder().configure(meta::Config::new().nfa_size_limit(None)).build_many(&words).ok()?;
        Some(Self { regex, spaces, matches_only: false })
    }

    pub fn scratch(&self) -> Scratch {
        self.regex.create_cache()
    }

    /// The first match at or after `from` in `text[..to]`, which ends there for the pattern.
    fn find(&self, scratch: &mut Scratch, text: &str, from: usize, to: usize) -> Option<(usize, usize)> {
        let input = Input::new(&text[..to]).range(from..);
        let here = self.regex.search_half_with(scratch, &input.clone().anchored(Anchored::Yes));
        let (start, end, pattern) = match here {
            Some(found) => (from, found.offset(), found.pattern()),
            None => {
                let found = self.regex.search_with(scratch, &input)?;
                (found.start(), found.end(), found.pattern())
            }
        };
        if self.spaces && pattern == PatternID::must(1) && end < to {
            // `\s+(?!\S)` leaves one character to what follows, unless it would then match nothing
            let last = text[start..end].chars().next_back().map_or(0, char::len_utf8);
            if start + last < end {
                return Some((start, end - last));
            }
        }
        Some((start, end))
    }
}

/// A text being cut by one pattern after the other.
pub(crate) struct Cuts<'a> {
    pub patterns: &'a [Pattern],
    pub scratch: &'a mut [Scratch],
    pub text: &'a str,
}

impl Cuts<'_> {
    /// Calls `take` with the words of `text[start..end]` as the patterns from `stage` on cut it; `None` as soon as `take`
    /// returns it, or where text would be dropped.
    pub fn each(
        &mut self,
        stage: usize,
        start: usize,
        end: usize,
        take: &mut dyn FnMut(usize, usize) -> Option<()>,
    ) -> Option<()> {
        let Some(pattern) = self.patterns.get(stage) else { return take(start, end) };
        let mut at = start;
        while at < end {
            let (from, to) = pattern.find(&mut self.scratch[stage], self.text, at, end).unwrap_or((end, end));
            if at < from {
                if pattern.matches_only {
                    return None;
                }
                self.each(stage + 1, at, from, take)?;
            }
            if from < to {
                self.each(stage + 1, from, to, take)?;
            }
            at = to;
        }
        Some(())
    }
}
