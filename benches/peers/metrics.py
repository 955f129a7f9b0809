"""smpo's metrics as one writes them in Python: the peer of `smpo score` on AlpacaEval files.

    pip install regex==2026.11.19 deflate==0.9.0         # libdeflate, as smpo; zlib compresses otherwise
    python benches/peers/metrics.py TIMES FILE... [--against scored.json]

Prints megabytes of completion per second on one core, reading not counted. With the output of
`smpo score --format json` it compares every number.
"""
import collections, json, math, sys, time
import deflate, regex

ALONE = r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U00031fff"
FIRST = r"\u0400-\u0481\u048a-\u052f\u0900-\u0963\u0966-\u0dff"  # letters, whatever Unicode says
LETTER = rf"[{FIRST}\p{{Alphabetic}}\p{{N}}\u0300-\u036f\u200c\u200d]--[{ALONE}]"
WORD = regex.compile(rf"(?V1)[{LETTER}]+|[{ALONE}]|[^\s\x00-\x1f]")
SCRIPTS = ("Latin Cyrillic Greek Han Hiragana Katakana Hangul Arabic Hebrew Devanagari Bengali Tamil Telugu Gujarati "
           "Gurmukhi Kannada Malayalam Oriya Sinhala Thai Lao Khmer Myanmar Tibetan Georgian Armenian Ethiopic Mongolian "
           "Thaana Syriac Cherokee Bopomofo").split()
SCRIPT = {name: regex.compile(rf"(?V1)[\p{{Script={name}}}&&\p{{Alphabetic}}]") for name in SCRIPTS}
LETTERS = regex.compile(r"(?V1)[\p{Alphabetic}--[\p{Script=Common}\p{Script=Inherited}\p{Script=Unknown}]]")
SPECIAL = regex.compile(r"<s>|</s>|<bos>|<eos>|<pad>|<unk>|<mask>|<start_of_turn>|<end_of_turn>|<end_of_utterance>|<<SYS>>|"
                        r"<</SYS>>|\[INST\]|\[/INST\]|\[BOS\]|\[EOS\]|\[PAD\]|<\|[A-Za-z0-9_\-▁]{1,40}\|>|"
                        r"<｜[A-Za-z0-9_\-▁]{1,40}｜>|<0x[0-9A-Fa-f]{2}>")


def periodic_tail(text, copies=3, characters=128):
    for period in range(1, len(text) // copies + 1):
        covered = period
        while covered < len(text) and text[-1 - covered] == text[-1 - covered + period]:
            covered += 1
        if covered >= characters and covered >= copies * period:
            return True
    return False


def loops(text):
    text = text.rstrip("\ufffd")
    return periodic_tail(text) or periodic_tail(text.rstrip())


def scripts_of(text):
    return {name for name, pattern in SCRIPT.items() if pattern.search(text)}


def foreign_share(prompt, text):
    allowed = scripts_of(prompt) | {"Latin", "Greek"}
    if allowed & {"Hiragana", "Katakana"}:
        allowed |= {"Han", "Hiragana", "Katakana"}
    total = len(LETTERS.findall(text))
    own = sum(len(SCRIPT[name].findall(text)) for name in allowed)
    return (total - own) / total if total else 0.0


def broken(prompt, text, foreign):
    if "\ufffd" in text.rstrip("\ufffd"):
        return True
    if any(token not in prompt for token in SPECIAL.findall(text)):
        return True
    return foreign >= 0.02


def per_sample(prompt, text):
    words = WORD.findall(text)
    foreign = foreign_share(prompt, text)
    values = {"loop_rate": float(loops(text)), "foreign_script": foreign, "broken_rate": float(broken(prompt, text, foreign))}
    for n in range(1, 5):
        grams = [tuple(words[i:i + n]) for i in range(len(words) - n + 1)]
        if grams:
            values[f"seq_rep_{n}"] = 1.0 - len(set(grams)) / len(grams)
    tail = text.encode()[-32768:]
    if tail:
        values["zlib_ratio"] = len(tail) / len(deflate.zlib_compress(tail, 1))
    return values


def spread(items, limit):
    take = min(len(items), limit)
    return [items[i * len(items) // take] for i in range(take)]


def distinct(texts, n):
    grams = [tuple(words[i:i + n]) for words in texts for i in range(len(words) - n + 1)]
    return len(set(grams)) / len(grams) if grams else None


def self_bleu(texts):
    texts = [words for words in texts if words]
    if len(texts) < 2:
        return None
    counts = [[collections.Counter(tuple(w[i:i + n]) for i in range(len(w) - n + 1)) for n in range(1, 5)] for w in texts]
    scores = []
    for a, words in enumerate(texts):
        log = 0.0
        for n in range(4):
            most = collections.Counter()
            for b in range(len(texts)):
                if b != a:
                    most |= counts[b][n]
            matched = sum(min(count, most[gram]) for gram, count in counts[a][n].items())
            smoothing = float(n > 0)
            top, bottom = matched + smoothing, sum(counts[a][n].values()) + smoothing
            log += (math.log(top / bottom) if top else -math.inf) / 4
        closest = min((len(other) for b, other in enumerate(texts) if b != a), key=lambda l: (abs(l - len(words)), l))
        scores.append((1.0 if len(words) >= closest else math.exp(1 - closest / len(words))) * math.exp(log))
    return sum(scores) / len(scores)


def measure(rows):
    by_metric = collections.defaultdict(list)
    for prompt, text in rows:
        for metric, value in per_sample(prompt, text).items():
            by_metric[metric].append(value)
    means = {metric: sum(values) / len(values) for metric, values in by_metric.items()}
    first_words = lambda rows: [WORD.findall(text)[:128] for _, text in rows]
    for n in range(1, 4):
        means[f"distinct_{n}"] = distinct(first_words(spread(rows, 200)), n)
    means["self_bleu"] = self_bleu(first_words(spread(rows, 100)))
    return {metric: value for metric, value in means.items() if value is not None}


def compare(mine, path):
    worst, numbers = 0.0, 0
    for model in json.load(open(path)):
        theirs = {m["metric"]: m["value"] for m in model["metrics"] if m["slice"] == "all"}
        for metric, value in mine[model["model"]].items():
            numbers += 1
            difference = abs(value - theirs[metric])
            worst = max(worst, difference)
            if difference > 1e-9:
                print(f"{model['model']} {metric}: here {value}, smpo {theirs[metric]}")
    print(f"{numbers} numbers compared, largest difference {worst:.2e}")


def main():
    arguments = sys.argv[1:]
    against = arguments[arguments.index("--against") + 1] if "--against" in arguments else None
    times, files = int(arguments[0]), [a for a in arguments[1:] if a not in ("--against", against)]
    means, size, seconds, completions = {}, 0, 0.0, 0
    for file in files:
        rows = json.load(open(file))
        name, rows = rows[0]["generator"], [(row["instruction"], row["output"]) for row in rows]
        started = time.perf_counter()
        for _ in range(times):
            means[name] = measure(rows)
        seconds += time.perf_counter() - started
        completions += times * len(rows)
        size += times * sum(len(text.encode()) for _, text in rows)
    print(f"{completions} completions, {size / 1e6:.1f} MB in {seconds:.2f} s = {size / 1e6 / seconds:.2f} MB/s on one core")
    if against:
        compare(means, against)


main()
