//! Values of arguments: those of libraries by their names, and numbers within bounds.

use clap::builder::{PossibleValuesParser, RangedU64ValueParser, TypedValueParser};
use smpo_model::WeightDtype;

/// Parses one of `all` by its name.
pub fn named<T, const N: usize>(all: [T; N], name: fn(T) -> &'static str) -> impl TypedValueParser<Value = T>
where
    T: Copy + Send + Sync + 'static,
{
    let find = move |text: String| all.into_iter().find(|one| name(*one) == text).ok_or("no such value");
    PossibleValuesParser::new(all.map(name)).try_map(find)
}

/// Parses a number from 1 to `most`.
pub fn up_to(most: u64) -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..=most)
}

/// Parses a dtype.
pub fn dtype() -> impl TypedValueParser<Value = WeightDtype> {
    named(WeightDtype::ALL, WeightDtype::name)
}
