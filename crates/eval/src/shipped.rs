//! Suites that ship inside the program, by their names.

use std::path::Path;

/// A suite's file and that of its prompts.
pub(crate) struct Shipped {
    name: &'static str,
    pub suite: &'static str,
    pub prompts: &'static str,
}

/// Embeds `evals/<name>.toml` and `evals/<name>.jsonl` under each name.
macro_rules! shipped {
    ($($name:literal),*) => {
        &[$(Shipped {
            name: $name,
            suite: include_str!(concat!("../../../evals/", $name, ".toml")),
            prompts: include_str!(concat!("../../../evals/", $name, ".jsonl")),
        }),*]
    };
}

const SHIPPED: &[Shipped] = shipped!["ood-smoke", "ood-chat"];

/// True for the name of a suite that ships, rather than a file: it has no ending, and no file has that name.
pub fn is_name(path: &Path) -> bool {
    path.extension().is_none() && !path.exists()
}

/// The suite of a name.
pub(crate) fn suite(name: &Path) -> Option<&'static Shipped> {
    SHIPPED.iter().find(|shipped| name == Path::new(shipped.name))
}

/// Names of the shipped suites, as errors list them.
pub(crate) fn list() -> String {
    names().collect::<Vec<_>>().join(", ")
}

/// Names of the shipped suites.
pub fn names() -> impl Iterator<Item = &'static str> {
    SHIPPED.iter().map(|shipped| shipped.name)
}
