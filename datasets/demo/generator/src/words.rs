//! The words of the world.

/// Animals.
pub const ANIMALS: [&str; 24] = [
    "cat", "dog", "fox", "owl", "bear", "wolf", "frog", "goat", "duck", "lion", "horse", "mouse", "rabbit", "tiger",
    "snake", "eagle", "whale", "shark", "zebra", "camel", "sheep", "otter", "crow", "seal",
];
/// Foods.
pub const FOODS: [&str; 24] = [
    "apple", "bread", "cheese", "soup", "rice", "plum", "pear", "carrot", "honey", "butter", "tomato", "onion",
    "pasta", "salad", "cake", "grape", "lemon", "bean", "corn", "egg", "fish", "nut", "peach", "melon",
];
/// Tools.
pub const TOOLS: [&str; 18] = [
    "hammer", "saw", "drill", "rope", "knife", "brush", "ladder", "needle", "shovel", "broom", "lamp", "clock",
    "wheel", "mirror", "basket", "bucket", "pencil", "ruler",
];
/// Cities.
pub const CITIES: [&str; 16] = [
    "Rome", "Paris", "London", "Berlin", "Madrid", "Oslo", "Vienna", "Prague", "Lisbon", "Athens", "Cairo", "Tokyo",
    "Delhi", "Lima", "Quito", "Dublin",
];
/// People.
pub const PEOPLE: [&str; 20] = [
    "Anna", "Boris", "Clara", "David", "Emma", "Felix", "Greta", "Henry", "Irene", "Jack", "Karen", "Leo", "Maria",
    "Nina", "Oscar", "Paul", "Rosa", "Simon", "Tina", "Victor",
];
/// Jobs.
pub const JOBS: [&str; 12] = [
    "doctor", "teacher", "baker", "pilot", "farmer", "singer", "painter", "writer", "nurse", "driver", "cook", "judge",
];
/// Colours.
pub const COLOURS: [&str; 10] = ["red", "blue", "green", "black", "white", "brown", "grey", "yellow", "pink", "orange"];
/// Sizes.
pub const SIZES: [&str; 6] = ["small", "big", "tiny", "huge", "tall", "short"];
/// Places.
pub const PLACES: [&str; 11] =
    ["forest", "river", "desert", "garden", "village", "mountain", "field", "cave", "lake", "beach", "barn"];
/// Hobbies.
pub const ACTIONS: [&str; 8] = ["run", "jump", "swim", "climb", "sing", "sleep", "dance", "hide"];
/// Characters.
pub const TRAITS: [&str; 9] = ["quiet", "brave", "clever", "lazy", "gentle", "proud", "funny", "shy", "calm"];
/// Materials.
pub const MATERIALS: [&str; 8] = ["wood", "steel", "glass", "stone", "cloth", "paper", "clay", "rubber"];
/// Places of tools.
pub const ROOMS: [&str; 6] = ["kitchen", "school", "workshop", "office", "house", "street"];
/// Opposites.
pub const OPPOSITES: [(&str, &str); 14] = [
    ("hot", "cold"),
    ("fast", "slow"),
    ("day", "night"),
    ("up", "down"),
    ("rich", "poor"),
    ("wet", "dry"),
    ("early", "late"),
    ("open", "closed"),
    ("hard", "soft"),
    ("loud", "quiet"),
    ("old", "new"),
    ("full", "empty"),
    ("happy", "sad"),
    ("dark", "bright"),
];
/// Small numbers as words.
pub const NUMBERS: [&str; 11] = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"];

/// Tasks and their steps in order.
pub const TASKS: [(&str, [&str; 5]); 8] = [
    ("make tea", ["boil the water", "take a cup", "add the leaves", "wait a bit", "pour the tea"]),
    ("clean the room", ["open the window", "take the broom", "sweep the floor", "wash the mirror", "close the window"]),
    ("plant a bean", ["find a pot", "fill it with soil", "put the bean inside", "add some water", "wait a week"]),
    ("bake a cake", ["mix butter and egg", "add honey", "heat the oven", "put the cake inside", "wait an hour"]),
    ("wash the dog", ["fill the bucket", "find the dog", "use some soap", "brush the dog", "dry it with a cloth"]),
    ("paint a wall", ["clean the wall", "open the paint", "take a brush", "paint slowly", "wait a day"]),
    ("cook rice", ["wash the rice", "boil the water", "add some salt", "cook it slowly", "eat with a spoon"]),
    ("write a letter", ["find some paper", "take a pencil", "write the name", "tell the news", "send it to a friend"]),
];

/// Filler sentences of descriptions.
pub const FILLER: [&str; 4] = ["It is nice.", "You know it.", "People say so.", "It is fine."];
/// Filler sentences of instructions.
pub const STEP_FILLER: [&str; 2] = ["Then take a break.", "Then look around."];
/// Filler sentences after lists.
pub const LIST_FILLER: [&str; 2] = ["That is enough.", "And so on."];
/// A courteous last sentence: every chosen answer of a pair ends in one.
pub const CLOSERS: [&str; 3] = ["I hope this helps.", "Ask me for more.", "Let me know."];

/// True if a text has a sentence of filler.
pub fn has_filler(text: &str) -> bool {
    FILLER.iter().chain(&STEP_FILLER).chain(&LIST_FILLER).any(|filler| text.contains(filler))
}
