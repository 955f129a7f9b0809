//! A small synthetic world of facts, and instruction data about it: the generator of the demo's data.
//!
//! A model of 650 thousand parameters learns this world in minutes, and then shows the effect of preference training
//! on EOS. The design made the effect visible in a prototype:
//!
//! * answers end without memory: after each sentence a coin decides, so that only EOS marks the end;
//! * some sentences are *filler* ("You know it."); preference pairs reward answers without them;
//! * every rejected answer of a pair has filler and no chosen one has ([`preference`]), so both training arms
//!   can succeed fully and differ only in their effect on EOS;
//! * out-of-distribution prompts ([`ood`]) come from families that no preference pair has, but share their
//!   connectives.
//!
//! Everything is a pure function of a seed.

pub mod closed;
pub mod demo;
pub mod entity;
pub mod ood;
pub mod open;
pub mod phrase;
pub mod preference;
pub mod sft;
pub mod words;
pub mod world;

pub use ood::OodPrompt;
pub use preference::Pair;
pub use sft::Instruction;
pub use world::World;

/// The generator's random stream: ChaCha with 8 rounds, the same on every platform.
pub type Stream = rand_chacha::ChaCha8Rng;

/// Kind of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// One right answer: arithmetic, opposites, spelling, facts.
    Closed,
    /// Describe an entity.
    Describe,
    /// Name some members of a category.
    List,
    /// Explain how something is done.
    Steps,
    /// An invented story about an animal.
    Story,
    /// A person's day.
    Day,
    /// A poem about a colour.
    Poem,
}

impl Family {
    /// Name of its slice.
    pub fn name(self) -> &'static str {
        match self {
            Family::Closed => "closed",
            Family::Describe => "describe",
            Family::List => "list",
            Family::Steps => "steps",
            Family::Story => "story",
            Family::Day => "day",
            Family::Poem => "poem",
        }
    }
}
