"""The pairs of the book's tutorial: the bare answer is preferred to a sentence around it.

    python3 datasets/tutorial/make.py > datasets/tutorial/pairs.jsonl
"""

import json

CAPITALS = """France Paris, Italy Rome, Spain Madrid, Portugal Lisbon, Germany Berlin, Austria Vienna, Poland Warsaw,
Norway Oslo, Sweden Stockholm, Finland Helsinki, Denmark Copenhagen, Ireland Dublin, Greece Athens, Hungary Budapest,
Romania Bucharest, Bulgaria Sofia, Turkey Ankara, Egypt Cairo, Kenya Nairobi, Ghana Accra, Japan Tokyo, China Beijing,
Thailand Bangkok, Vietnam Hanoi, Mongolia Ulaanbaatar, Canada Ottawa, Cuba Havana, Peru Lima, Chile Santiago,
Australia Canberra"""

SYMBOLS = """gold Au, silver Ag, iron Fe, copper Cu, lead Pb, tin Sn, sodium Na, potassium K, helium He, neon Ne, carbon C,
oxygen O, hydrogen H, nitrogen N, zinc Zn, mercury Hg, calcium Ca, silicon Si, chlorine Cl, tungsten W"""

YOUNG = """cow calf, horse foal, sheep lamb, goat kid, pig piglet, cat kitten, dog puppy, hen chick, duck duckling, goose gosling,
swan cygnet, bear cub, deer fawn, frog tadpole, owl owlet"""

OPPOSITES = """hot cold, big small, fast slow, old young, hard soft, full empty, light dark, loud quiet, wet dry, deep shallow,
early late, rich poor, sharp blunt, smooth rough, wide narrow"""

SUMS = [(3, 4), (9, 6), (12, 7), (15, 8), (20, 13), (17, 25), (31, 12), (44, 9), (28, 28), (50, 37), (63, 8), (70, 21), (18, 19), (90, 5),
        (26, 33), (11, 80)]


def table(text):
    return [entry.split() for entry in text.split(",")]


def rows():
    for country, city in table(CAPITALS):
        yield f"What is the capital of {country}?", city, f"The capital of {country} is {city}."
    for element, symbol in table(SYMBOLS):
        yield f"What is the chemical symbol of {element}?", symbol, f"The chemical symbol of {element} is {symbol}."
    for animal, young in table(YOUNG):
        one, child = (f"{'an' if word[0] == 'o' else 'a'} {word}" for word in (animal, young))
        yield f"What is the young of {one} called?", young.capitalize(), f"The young of {one} is called {child}."
    for word, opposite in table(OPPOSITES):
        yield f"What is the opposite of {word}?", opposite.capitalize(), f"The opposite of {word} is {opposite}."
    for a, b in SUMS:
        yield f"What is {a} + {b}?", str(a + b), f"The sum of {a} and {b} is {a + b}."


for prompt, chosen, rejected in rows():
    print(json.dumps({"prompt": prompt, "chosen": chosen, "rejected": rejected}))
