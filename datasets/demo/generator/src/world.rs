//! The facts: drawn once, the same in every data set.

use rand::SeedableRng;

use crate::Stream;
use crate::phrase::pick;
use crate::words::{
    ACTIONS, ANIMALS, CITIES, COLOURS, FOODS, JOBS, MATERIALS, PEOPLE, PLACES, ROOMS, SIZES, TOOLS, TRAITS,
};

/// Facts of an animal.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs)]
pub struct AnimalFacts {
    pub colour: &'static str,
    pub size: &'static str,
    pub home: &'static str,
    pub food: &'static str,
    pub action: &'static str,
    pub character: &'static str,
    pub friend: &'static str,
}

/// Facts of a food.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs)]
pub struct FoodFacts {
    pub colour: &'static str,
    pub size: &'static str,
    pub origin: &'static str,
    pub goes_with: &'static str,
    pub buyer: &'static str,
}

/// Facts of a tool.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs)]
pub struct ToolFacts {
    pub colour: &'static str,
    pub size: &'static str,
    pub material: &'static str,
    pub room: &'static str,
    pub owner: &'static str,
}

/// Facts of a person.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs)]
pub struct PersonFacts {
    pub city: &'static str,
    pub job: &'static str,
    pub pet: &'static str,
    pub colour: &'static str,
    pub food: &'static str,
    pub action: &'static str,
    pub character: &'static str,
}

/// Facts of a city.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs)]
pub struct CityFacts {
    pub size: &'static str,
    pub place: &'static str,
    pub food: &'static str,
    pub animal: &'static str,
    pub character: &'static str,
}

/// All facts, in the order of the word lists.
#[derive(Debug, Clone)]
pub struct World {
    animals: Vec<AnimalFacts>,
    foods: Vec<FoodFacts>,
    tools: Vec<ToolFacts>,
    people: Vec<PersonFacts>,
    cities: Vec<CityFacts>,
}

/// The seed of the one world that all data sets share.
const WORLD_SEED: u64 = 12_345;

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

impl World {
    /// The world.
    pub fn new() -> Self {
        let rng = &mut Stream::seed_from_u64(WORLD_SEED);
        World {
            animals: ANIMALS
                .map(|_| AnimalFacts {
                    colour: pick(rng, &COLOURS),
                    size: pick(rng, &SIZES),
                    home: pick(rng, &PLACES),
                    food: pick(rng, &FOODS),
                    action: pick(rng, &ACTIONS),
                    character: pick(rng, &TRAITS),
                    friend: pick(rng, &ANIMALS),
                })
                .to_vec(),
            foods: FOODS
                .map(|_| FoodFacts {
                    colour: pick(rng, &COLOURS),
                    size: pick(rng, &SIZES),
                    origin: pick(rng, &PLACES),
                    goes_with: pick(rng, &FOODS),
                    buyer: pick(rng, &JOBS),
                })
                .to_vec(),
            tools: TOOLS
                .map(|_| ToolFacts {
                    colour: pick(rng, &COLOURS),
                    size: pick(rng, &SIZES),
                    material: pick(rng, &MATERIALS),
                    room: pick(rng, &ROOMS),
                    owner: pick(rng, &JOBS),
                })
                .to_vec(),
            people: PEOPLE
                .map(|_| PersonFacts {
                    city: pick(rng, &CITIES),
                    job: pick(rng, &JOBS),
                    pet: pick(rng, &ANIMALS),
                    colour: pick(rng, &COLOURS),
                    food: pick(rng, &FOODS),
                    action: pick(rng, &ACTIONS),
                    character: pick(rng, &TRAITS),
                })
                .to_vec(),
            cities: CITIES
                .map(|_| CityFacts {
                    size: pick(rng, &SIZES),
                    place: pick(rng, &PLACES),
                    food: pick(rng, &FOODS),
                    animal: pick(rng, &ANIMALS),
                    character: pick(rng, &TRAITS),
                })
                .to_vec(),
        }
    }

    /// Facts of an animal, by its place in [`ANIMALS`].
    pub fn animal(&self, index: usize) -> &AnimalFacts {
        &self.animals[index]
    }
    /// Facts of a food, by its place in [`FOODS`].
    pub fn food(&self, index: usize) -> &FoodFacts {
        &self.foods[index]
    }
    /// Facts of a tool, by its place in [`TOOLS`].
    pub fn tool(&self, index: usize) -> &ToolFacts {
        &self.tools[index]
    }
    /// Facts of a person, by their place in [`PEOPLE`].
    pub fn person(&self, index: usize) -> &PersonFacts {
        &self.people[index]
    }
    /// Facts of a city, by its place in [`CITIES`].
    pub fn city(&self, index: usize) -> &CityFacts {
        &self.cities[index]
    }
}
