//! Recipes, and the stages they make.

#![no_main]

use std::sync::LazyLock;

use smpo_fuzz::{Files, target};
use smpo_recipe::{Facts, Plan, Recipe};

static FILES: LazyLock<Files> = LazyLock::new(Files::new);

target!(data, {
    let path = FILES.write("recipe.toml", data);
    match Recipe::read(&path) {
        Ok(recipe) => drop(Plan::of(&recipe, &|_, _| Ok(Facts::default())).map_err(|error| error.to_string())),
        Err(error) => drop(error.to_string()),
    }
});
