//! The table of losses: one entry per loss, made from the line in [`loss`](crate::loss) and the constants of its file.

use schemars::{Schema, SchemaGenerator};
use serde_json::{Map, Value};

use crate::config::flat::{FlatError, FlatTable};
use crate::function::LossFunction;
use crate::loss::Loss;

/// One loss of the table.
pub struct LossEntry {
    /// Value of `kind`.
    pub kind: &'static str,
    /// Keys and spellings in the flat configuration files of other trainers.
    pub flat_keys: FlatKeys,
    /// Usual ranges of its numbers.
    pub usual: &'static [UsualRange],
    /// Highest published learning rates.
    pub learning_rates: PublishedRates,
    /// The loss with its defaults.
    pub default: fn() -> Loss,
    /// One configuration per branch of the formula.
    pub variants: fn() -> Vec<Loss>,
    /// JSON schema of its own keys, documented with usual ranges.
    pub(crate) schema: fn(&mut SchemaGenerator) -> Schema,
    /// Takes its own keys out of a `[loss]` table.
    pub(crate) read: fn(&mut FlatTable) -> Result<Loss, FlatError>,
}

impl LossEntry {
    pub(crate) const fn of<L: LossFunction>() -> Self {
        Self {
            kind: L::KIND,
            flat_keys: L::FLAT_KEYS,
            usual: L::USUAL,
            learning_rates: L::LEARNING_RATES,
            default: || L::default().into(),
            variants: || L::variants().into_iter().map(Into::into).collect(),
            schema: documented_schema::<L>,
            read: |table| Ok(table.take::<L>()?.into()),
        }
    }

    /// True if the transforms have an effect: for a comparison of log-probs.
    pub fn takes_transforms(&self) -> bool {
        (self.default)().pairing().takes_transforms()
    }
}

/// Keys of a loss in the flat configuration files of effective_llm_alignment and TRL.
#[derive(Debug, Clone, Copy)]
pub struct FlatKeys {
    /// Every key of the loss, some under several spellings.
    pub spellings: &'static [Spelling],
    /// Keys that the files of no other loss have.
    pub distinctive: &'static [&'static str],
    /// Keys that tell the loss in a file without a distinctive key of another one.
    pub suggestive: &'static [&'static str],
    /// Values of `loss_type` that name the loss itself and no variant of it.
    pub loss_types: &'static [&'static str],
}

/// One key of a flat file, and the key of `[loss]` that it sets.
#[derive(Debug, Clone, Copy)]
pub struct Spelling {
    /// Key in the file.
    pub theirs: &'static str,
    /// Key in `[loss]`.
    pub ours: &'static str,
    /// Conversion of the value, given the keys of `[loss]` before it in the list; `None` for a value of another type.
    pub convert: Option<Convert>,
}

/// Conversion of a value, given the keys of `[loss]` before it in the list; `None` for a value of another type.
pub type Convert = fn(&Value, &Map<String, Value>) -> Option<Value>;

impl Spelling {
    /// A key that is spelled as in `[loss]`.
    pub const fn same(key: &'static str) -> Self {
        Self { theirs: key, ours: key, convert: None }
    }

    /// Another name for a key of `[loss]`.
    pub const fn renamed(theirs: &'static str, ours: &'static str) -> Self {
        Self { theirs, ours, convert: None }
    }

    /// A key that sets one of `[loss]` through a conversion.
    pub const fn converted(theirs: &'static str, ours: &'static str, convert: Convert) -> Self {
        Self { theirs, ours, convert: Some(convert) }
    }
}

/// The range in which papers and recipes set a number.
#[derive(Debug, Clone, Copy)]
pub struct UsualRange {
    /// Key in `[loss]`.
    pub key: &'static str,
    /// Smallest usual value.
    pub from: f64,
    /// Largest usual value.
    pub to: f64,
    /// Papers, recipes or documentation that use it.
    pub source: &'static str,
}

impl UsualRange {
    fn sentence(&self) -> String {
        let Self { from, to, source, .. } = self;
        if from == to { format!("Usually {from} ({source}).") } else { format!("Usually {from} to {to} ({source}).") }
    }
}

/// Highest peak learning rates of published recipes, by the weights that are trained. Models of these recipes have more
/// than a billion parameters.
#[derive(Debug, Clone, Copy)]
pub struct PublishedRates {
    /// All weights.
    pub full: Option<PublishedRate>,
    /// LoRA adapters.
    pub lora: Option<PublishedRate>,
}

/// A learning rate with its source.
#[derive(Debug, Clone, Copy)]
pub struct PublishedRate {
    /// Peak of the schedule.
    pub highest: f64,
    /// Papers or recipes that use it.
    pub source: &'static str,
}

impl PublishedRates {
    fn sentence(&self) -> Option<String> {
        let named = [(self.full, "on all weights"), (self.lora, "with LoRA")];
        let parts: Vec<String> = named
            .into_iter()
            .filter_map(|(rate, weights)| rate.map(|rate| format!("{:e} {weights} ({})", rate.highest, rate.source)))
            .collect();
        (!parts.is_empty()).then(|| format!("Highest published learning rate: {}.", parts.join(", ")))
    }
}

/// The schema of a loss's keys, with usual ranges in the descriptions.
fn documented_schema<L: LossFunction>(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = L::json_schema(generator);
    if let Some(sentence) = L::LEARNING_RATES.sentence() {
        append(schema.ensure_object(), &sentence);
    }
    for usual in L::USUAL {
        let property = schema.get_mut("properties").and_then(|keys| keys.get_mut(usual.key));
        if let Some(property) = property.and_then(Value::as_object_mut) {
            append(property, &usual.sentence());
        }
    }
    schema
}

fn append(schema: &mut Map<String, Value>, sentence: &str) {
    let description = match schema.get("description").and_then(Value::as_str) {
        Some(text) => format!("{text} {sentence}"),
        None => sentence.to_owned(),
    };
    schema.insert("description".to_owned(), Value::from(description));
}

/// Makes [`Loss`] and its table from one line per loss.
macro_rules! losses {
    ($($(#[$doc:meta])* $variant:ident($module:ident::$keys:ident)),+ $(,)?) => {
        $(pub use $module::$keys;)+

        /// A loss with its own keys.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Loss {
            $($(#[$doc])* $variant($keys),)+
        }

        /// The table of losses, in the order of the documentation.
        pub static LOSSES: &[LossEntry] = &[$(LossEntry::of::<$keys>()),+];

        $(impl From<$keys> for Loss {
            fn from(keys: $keys) -> Self {
                Self::$variant(keys)
            }
        })+

        impl Loss {
            /// The values of `kind`.
            pub const KINDS: &'static [&'static str] = &[$(<$keys as LossFunction>::KIND),+];

            /// The value of `kind`.
            pub fn kind(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => <$keys as LossFunction>::KIND,)+
                }
            }

            /// Comparison that the loss makes, and the function that makes it.
            pub fn pairing(&self) -> Pairing<'_> {
                match self {
                    $(Self::$variant(keys) => keys.pairing(),)+
                }
            }

            /// True if completions must come with the reference model's log-probs.
            pub fn needs_reference(&self) -> bool {
                match self {
                    $(Self::$variant(keys) => keys.needs_reference(),)+
                }
            }

            /// Weights of the cross-entropy parts.
            pub fn sft_weights(&self) -> SftWeights {
                match self {
                    $(Self::$variant(keys) => keys.sft_weights(),)+
                }
            }

            /// A function of single tokens beside the function of scores.
            pub fn token_loss(&self) -> Option<TokenLoss> {
                match self {
                    $(Self::$variant(keys) => keys.token_loss(),)+
                }
            }

            /// The entropy that completions must come with.
            pub fn needs_entropy(&self) -> Option<TokenEntropy> {
                match self {
                    $(Self::$variant(keys) => keys.needs_entropy(),)+
                }
            }

            /// Factors of the pair loss that are constants of its gradient.
            pub fn factors(&self) -> Factors {
                match self {
                    $(Self::$variant(keys) => keys.factors(),)+
                }
            }

            /// The loss of a token of chosen, where cross-entropy is the whole objective.
            pub fn likelihood(&self) -> Likelihood {
                match self {
                    $(Self::$variant(keys) => keys.likelihood(),)+
                }
            }

            /// Sign of the pair loss's gradient on rejected tokens, transforms aside.
            pub fn direction(&self) -> Direction {
                match self {
                    $(Self::$variant(keys) => keys.direction(),)+
                }
            }

            /// The key of γ, for a loss with a margin.
            pub fn margin_key(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => <$keys as LossFunction>::MARGIN_KEY,)+
                }
            }

            /// Highest published learning rates.
            pub fn learning_rates(&self) -> PublishedRates {
                match self {
                    $(Self::$variant(_) => <$keys as LossFunction>::LEARNING_RATES,)+
                }
            }

            /// γ, at the end of its schedule; `None` for a loss without a margin.
            pub fn target_margin(&self) -> Option<f64> {
                match self {
                    $(Self::$variant(keys) => keys.target_margin(),)+
                }
            }

            pub(crate) fn validate(&self) -> Result<(), ConfigError> {
                match self {
                    $(Self::$variant(keys) => keys.validate(),)+
                }
            }

            pub(crate) fn at_step(&self, step: u64, steps: u64) -> Self {
                match self {
                    $(Self::$variant(keys) => keys.at_step(step, steps).into(),)+
                }
            }

            pub(crate) fn with_target_margin(&self, margin: f64) -> Option<Self> {
                match self {
                    $(Self::$variant(keys) => keys.with_target_margin(margin).map(Into::into),)+
                }
            }
        }

        /// One flat table: `kind`, then the loss's own keys.
        impl Serialize for Loss {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                #[derive(Serialize)]
                struct Tagged<'a, L> {
                    kind: &'static str,
                    #[serde(flatten)]
                    keys: &'a L,
                }
                match self {
                    $(Self::$variant(keys) => Tagged { kind: self.kind(), keys }.serialize(serializer),)+
                }
            }
        }
    };
}
pub(crate) use losses;
