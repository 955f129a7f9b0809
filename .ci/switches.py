"""Sources of a crate with every mutant behind a switch. Which one is on, an environment variable says when a test runs."""

import collections
import re

import tree_sitter
import tree_sitter_rust

RUST = tree_sitter.Parser(tree_sitter.Language(tree_sitter_rust.language()))
SWITCH = "crate::__mutant"

# Goes into lib.rs. SMPO_MUTANT: the number of the mutant that is on. SMPO_MUTANTS_REACHED: a file that takes the number of each
# mutant that is reached.
RUNTIME = """
#[doc(hidden)]
#[allow(warnings, clippy::all)]
pub fn __mutant(n: usize) -> bool {
    use std::io::Write;
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicBool, Ordering};
    static ON: LazyLock<usize> =
        LazyLock::new(|| std::env::var("SMPO_MUTANT").ok().and_then(|n| n.parse().ok()).unwrap_or(usize::MAX));
    static REACHED: LazyLock<Option<String>> = LazyLock::new(|| std::env::var("SMPO_MUTANTS_REACHED").ok());
    static SEEN: [AtomicBool; COUNT] = [const { AtomicBool::new(false) }; COUNT];
    if let Some(path) = &*REACHED && !SEEN[n].swap(true, Ordering::Relaxed) {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        file.write_all(format!("{n}\\n").as_bytes()).unwrap();
    }
    *ON == n
}
"""


class Source:
    """One file and its mutants, rows of `cargo mutants --list --json` with a number `n`."""

    def __init__(self, text, mutants):
        self.text = text
        self.root = RUST.parse(text).root_node
        self.lines = [0]
        for line in text.split(b"\n"):
            self.lines.append(self.lines[-1] + len(line) + 1)
        self.at = collections.defaultdict(list)  # node -> its mutants
        self.without_place = []
        for mutant in mutants:
            node = self.node_of(mutant)
            if node is None:
                self.without_place.append(mutant["n"])
            else:
                self.at[key(node)].append(mutant)

    def offset(self, position):
        """Byte of a line and column, both from 1, the column in characters."""
        begin = self.lines[position["line"] - 1]
        line = self.text[begin : self.lines[position["line"]] - 1].decode()
        return begin + len(line[: position["column"] - 1].encode())

    def node_of(self, mutant):
        """The node that takes the mutant's switch; None where there is no place for one."""
        start, end = mutant["range"] = tuple(self.offset(mutant["span"][side]) for side in ("start", "end"))
        fits = {
            "BinaryOperator": self.has_sign, "UnaryOperator": self.has_sign, "FnValue": self.has_body,
            "MatchArmGuard": self.has_guard, "MatchArm": self.is_arm, "StructField": self.is_struct,
        }[mutant["genre"]]
        node = self.root.descendant_for_byte_range(start, max(start, end - 1))
        while node:
            if found := fits(node, start, end):
                return found if self.is_open(found, mutant) else None
            node = node.parent
        return None

    def has_sign(self, node, start, end):
        if node.type not in ("binary_expression", "compound_assignment_expr", "unary_expression"):
            return None
        sign = node.child_by_field_name("operator") or node.children[0]
        return node if (sign.start_byte, sign.end_byte) == (start, end) else None

    def has_body(self, node, start, end):
        body = node.child_by_field_name("body") if node.type == "function_item" else None
        return body if body and body.start_byte <= start and end <= body.end_byte else None

    def has_guard(self, node, start, end):
        guard = node.child_by_field_name("condition") if node.type == "match_pattern" else None
        return guard if guard and (guard.start_byte, guard.end_byte) == (start, end) else None

    def is_arm(self, node, start, _):
        return node.child_by_field_name("pattern") if node.type == "match_arm" and node.start_byte == start else None

    def is_struct(self, node, *_):
        return node if node.type == "struct_expression" else None

    def is_open(self, node, mutant):
        """False for a function that is constant or whose result is opaque (two types would be one), and for guards with `let`."""
        if mutant["genre"] == "FnValue":
            modifiers = [child for child in node.parent.children if child.type == "function_modifiers"]
            constant = any(b"const" in self.text[m.start_byte : m.end_byte].split() for m in modifiers)
            return not constant and "impl " not in mutant["function"]["return_type"]
        return mutant["genre"] != "MatchArmGuard" or node.type not in ("let_condition", "let_chain")

    def switched(self, left_out):
        """The file's text with a switch for every mutant but those whose numbers are left out."""
        return self.emit(self.root, left_out)

    def slice(self, start, end):
        return self.text[start:end].decode()

    def inside(self, node, left_out):
        """The node's text with the switches of what is below it."""
        text, at = [], node.start_byte
        for child in node.children:
            text += [self.slice(at, child.start_byte), self.emit(child, left_out)]
            at = child.end_byte
        return "".join(text) + self.slice(at, node.end_byte)

    def emit(self, node, left_out):
        """The node's text with its own switches too: operators first, a guard may be one."""
        mutants = collections.defaultdict(list)
        for m in self.at.get(key(node), []):
            if m["n"] not in left_out:
                mutants[m["genre"]].append(m)
        text = self.inside(node, left_out)
        if switches := "".join(f" if {SWITCH}({m['n']}) {{ return {m['replacement']}; }}" for m in mutants["FnValue"]):
            text = "{" + switches + text[1:]
        others = ""
        for m in mutants["BinaryOperator"] + mutants["UnaryOperator"] + mutants["StructField"]:
            start, end = m["range"]
            before, after = self.slice(node.start_byte, start), self.slice(end, node.end_byte)
            if node.type == "binary_expression":  # its operands stay operands, whatever binds tighter than the new operator
                before, after = f"({before})", f"({after})"
            others += f"if {SWITCH}({m['n']}) {{ {before} {m['replacement']} {after} }} else "
        if others:
            text = f"({others}{{ {text} }})"
        for m in mutants["MatchArmGuard"]:
            on = f"{SWITCH}({m['n']})"
            text = f"({on} || ({text}))" if m["replacement"] == "true" else f"(!{on} && ({text}))"
        if off := " && ".join(f"!{SWITCH}({m['n']})" for m in mutants["MatchArm"]):
            guard = node.child_by_field_name("condition")
            if guard is None:
                return f"{text} if {off}"
            return f"{self.slice(node.start_byte, guard.start_byte)}{off} && ({self.emit(guard, left_out)})"
        return text


def key(node):
    return node.start_byte, node.end_byte, node.type


def numbers(pattern, text):
    return {int(n) for n in re.findall(pattern, text)}


def blamed(text, errors):
    """Mutants that compiler errors at these bytes of a switched text belong to: those in whose branch one is, and those around one."""
    root = RUST.parse(text).root_node
    within, around = set(), set()
    for start, end in errors:
        node = root.descendant_for_byte_range(start, max(start, end - 1))
        while node:
            body = node.child_by_field_name("body")
            if node.type == "match_expression" and end <= body.start_byte:  # without that arm it does not cover all values
                patterns = [arm.child_by_field_name("pattern") for arm in body.named_children if arm.type == "match_arm"]
                for pattern in patterns:
                    within |= numbers(rb"!crate::__mutant\((\d+)\)", text[pattern.start_byte : pattern.end_byte])
                break
            if node.type == "if_expression":
                condition, branch = node.child_by_field_name("condition"), node.child_by_field_name("consequence")
                if number := re.fullmatch(rb"crate::__mutant\((\d+)\)", text[condition.start_byte : condition.end_byte]):
                    is_within = branch.start_byte <= start and end <= branch.end_byte
                    (within if is_within else around).add(int(number[1]))
                    break
            node = node.parent
        else:
            line = text[text.rfind(b"\n", 0, start) + 1 : text.find(b"\n", end)]
            around |= numbers(rb"crate::__mutant\((\d+)\)", line)
    return within, around - within
