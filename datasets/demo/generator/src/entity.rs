//! Entities to describe: their names in requests, and their facts.

use rand::Rng;

use crate::phrase::with_article;
use crate::words::{ANIMALS, CITIES, FOODS, PEOPLE, TOOLS};
use crate::{Stream, World};

/// Kind of an entity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Kind {
    Animal,
    Food,
    Tool,
    Person,
    City,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 5] = [Kind::Animal, Kind::Food, Kind::Tool, Kind::Person, Kind::City];

    fn names(self) -> &'static [&'static str] {
        match self {
            Kind::Animal => &ANIMALS,
            Kind::Food => &FOODS,
            Kind::Tool => &TOOLS,
            Kind::Person => &PEOPLE,
            Kind::City => &CITIES,
        }
    }
}

/// An entity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entity {
    /// Its kind.
    pub kind: Kind,
    index: usize,
}

impl Entity {
    /// A random entity of a kind.
    pub fn random(rng: &mut Stream, kind: Kind) -> Self {
        Entity { kind, index: rng.random_range(0..kind.names().len()) }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        self.kind.names()[self.index]
    }

    /// Name in a request: "the owl", "Anna".
    pub fn subject(self) -> String {
        match self.kind {
            Kind::Person | Kind::City => self.name().to_owned(),
            Kind::Animal | Kind::Food | Kind::Tool => format!("the {}", self.name()),
        }
    }

    /// The sentence that a description starts with.
    pub fn first_sentence(self, world: &World) -> String {
        let name = self.name();
        match self.kind {
            Kind::Animal => {
                let facts = world.animal(self.index);
                format!("The {name} is {} {} animal.", with_article(facts.size), facts.colour)
            }
            Kind::Food => {
                let facts = world.food(self.index);
                format!("The {name} is {} {} food.", with_article(facts.size), facts.colour)
            }
            Kind::Tool => {
                let facts = world.tool(self.index);
                format!("The {name} is {} {} tool.", with_article(facts.size), facts.colour)
            }
            Kind::Person => {
                let facts = world.person(self.index);
                format!("{name} is {} from {}.", with_article(facts.job), facts.city)
            }
            Kind::City => {
                let facts = world.city(self.index);
                format!("{name} is {} city near the {}.", with_article(facts.size), facts.place)
            }
        }
    }

    /// Other facts, as sentences in any order.
    pub fn further_sentences(self, world: &World) -> Vec<String> {
        let name = self.name();
        match self.kind {
            Kind::Animal => {
                let facts = world.animal(self.index);
                vec![
                    format!("It lives in the {}.", facts.home),
                    format!("It likes to eat {}.", facts.food),
                    format!("It can {} very well.", facts.action),
                    format!("It is known to be {}.", facts.character),
                    format!("Its friend is the {}.", facts.friend),
                ]
            }
            Kind::Food => {
                let facts = world.food(self.index);
                vec![
                    format!("It comes from the {}.", facts.origin),
                    format!("It tastes good with {}.", facts.goes_with),
                    format!("The {} buys it every day.", facts.buyer),
                    "Many people keep it at home.".to_owned(),
                ]
            }
            Kind::Tool => {
                let facts = world.tool(self.index);
                vec![
                    format!("It is made of {}.", facts.material),
                    format!("People use it in the {}.", facts.room),
                    format!("Every {} has one.", facts.owner),
                    "It is easy to carry.".to_owned(),
                ]
            }
            Kind::Person => {
                let facts = world.person(self.index);
                vec![
                    format!("{name} has {} at home.", with_article(facts.pet)),
                    format!("The best colour for {name} is {}.", facts.colour),
                    format!("{name} likes {} for lunch.", facts.food),
                    format!("Friends say {name} is {}.", facts.character),
                    format!("On Sunday {name} goes out to {}.", facts.action),
                ]
            }
            Kind::City => {
                let facts = world.city(self.index);
                vec![
                    format!("People in {name} eat {}.", facts.food),
                    format!("You can see {} there.", with_article(facts.animal)),
                    format!("The people are {}.", facts.character),
                    "Many visitors come in summer.".to_owned(),
                ]
            }
        }
    }

    /// Colour, for entities that have one.
    pub fn colour(self, world: &World) -> Option<&'static str> {
        match self.kind {
            Kind::Animal => Some(world.animal(self.index).colour),
            Kind::Food => Some(world.food(self.index).colour),
            Kind::Tool => Some(world.tool(self.index).colour),
            Kind::Person | Kind::City => None,
        }
    }

    /// City of a person.
    pub fn residence(self, world: &World) -> Option<&'static str> {
        (self.kind == Kind::Person).then(|| world.person(self.index).city)
    }

    /// Job of a person.
    pub fn job(self, world: &World) -> Option<&'static str> {
        (self.kind == Kind::Person).then(|| world.person(self.index).job)
    }

    /// Size of an animal.
    pub fn size(self, world: &World) -> Option<&'static str> {
        (self.kind == Kind::Animal).then(|| world.animal(self.index).size)
    }
}
