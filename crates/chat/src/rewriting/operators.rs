//! Operators that the engine computes otherwise than Python, as calls of functions: `~`, `/`, `//`, `%` and comparisons. Sums
//! and products stay, and their operands are checked.
//!
//! `a // b ~ c` becomes `__concat(__divide(a, '//', b), c)`. A literal tells at times that the engine is right, as in
//! `role == 'user'`, and nothing is rewritten.

use crate::rewriting::tags::{Piece, map_code};
use crate::rewriting::tokens::{Kind, Token, tokens};

/// The function for `~`.
pub(crate) const CONCAT: &str = "__concat";
/// The function for `/`, `//` and `%`.
pub(crate) const DIVIDE: &str = "__divide";
/// The function for comparisons and chains of them.
pub(crate) const COMPARE: &str = "__compare";
/// The function that checks an operand of `+` and `*`.
pub(crate) const ADDEND: &str = "__addend";

/// Levels of operators, the loosest first.
const LEVELS: usize = 4;
const COMPARISON: usize = 0;
const SUM: usize = 1;
const CONCATENATION: usize = 2;
const PRODUCT: usize = 3;

/// Writes such operators as calls.
pub(crate) fn rewrite(source: &str) -> String {
    map_code(source, rewrite_code)
}

fn rewrite_code(piece: Piece<'_>) -> String {
    let code = piece.text();
    let mut rewriting = Rewriting { code, frames: vec![Frame::default()], edits: Vec::new() };
    let all: Vec<Token> = tokens(piece).collect();
    let mut reader = Reader { code, tokens: &all, at: 0, name: piece.tag_name(), in_target: false };
    reader.in_target = reader.name == Some("for");
    while let Some((token, role)) = reader.next(&rewriting) {
        rewriting.take(token, role);
    }
    while let Some(mut frame) = rewriting.frames.pop() {
        rewriting.close(&mut frame, 0);
    }
    rewriting.written()
}

/// Role of a token in an expression.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Role {
    /// An operator of a level.
    Operator(usize),
    /// A part of an operand, and whether that may end with it.
    Part(bool),
    Open,
    Close,
    /// Anything that ends an expression, or is looser than all levels.
    Separator,
}

/// Reads tokens with their roles.
struct Reader<'a> {
    code: &'a str,
    tokens: &'a [Token],
    at: usize,
    name: Option<&'a str>,
    /// Before the `in` of a loop.
    in_target: bool,
}

impl Reader<'_> {
    fn text(&self, index: Option<usize>) -> &str {
        index.and_then(|index| self.tokens.get(index)).map_or("", |token| &self.code[token.start..token.end])
    }

    fn next(&mut self, so_far: &Rewriting<'_>) -> Option<(Token, Role)> {
        let mut token = *self.tokens.get(self.at)?;
        let role = match token.kind {
            Kind::Word => self.word(so_far),
            Kind::Number | Kind::Quoted => Role::Part(true),
            Kind::Symbol => self.symbol(so_far),
        };
        if role == Role::Operator(COMPARISON) && self.text(Some(self.at)) == "not" {
            self.at += 1;
            token.end = self.tokens.get(self.at)?.end;
        }
        self.at += 1;
        Some((token, role))
    }

    fn word(&mut self, so_far: &Rewriting<'_>) -> Role {
        let before = |count: usize| self.text(self.at.checked_sub(count));
        let is_name = matches!(before(1), "." | "|")
            || before(1) == "is" && before(2) != "."
            || before(1) == "not" && before(2) == "is" && before(3) != ".";
        let is_outer = so_far.frames.len() == 1;
        match self.text(Some(self.at)) {
            _ if self.at == 0 && self.name.is_some() => Role::Separator,
            _ if is_name => Role::Part(true),
            "in" if self.in_target && is_outer => {
                self.in_target = false;
                Role::Separator
            }
            "in" => Role::Operator(COMPARISON),
            "not" if self.text(Some(self.at + 1)) == "in" => Role::Operator(COMPARISON),
            "and" | "or" | "not" | "if" | "else" => Role::Separator,
            "recursive" if self.name == Some("for") && is_outer => Role::Separator,
            _ => Role::Part(true),
        }
    }

    fn symbol(&self, so_far: &Rewriting<'_>) -> Role {
        let has_operand = so_far.frames.last().is_some_and(|frame| frame.has_operand);
        match self.text(Some(self.at)) {
            "(" | "[" | "{" => Role::Open,
            ")" | "]" | "}" => Role::Close,
            "==" | "!=" | "<" | "<=" | ">" | ">=" => Role::Operator(COMPARISON),
            "+" | "-" if has_operand => Role::Operator(SUM),
            "+" | "-" => Role::Part(false),
            "~" => Role::Operator(CONCATENATION),
            "*" | "/" | "//" | "%" => Role::Operator(PRODUCT),
            "**" if has_operand => Role::Part(false),
            "." | "|" => Role::Part(false),
            _ => Role::Separator,
        }
    }
}

/// The operators of one level between the same operands.
#[derive(Debug, Default, Clone)]
struct Run {
    /// Start of its first operand.
    start: Option<usize>,
    operators: Vec<Operator>,
}

#[derive(Debug, Clone)]
struct Operator {
    start: usize,
    end: usize,
    /// The end of the operand before it.
    before: usize,
}

/// Inside of one bracket.
#[derive(Debug, Default)]
struct Frame {
    runs: [Run; LEVELS],
    /// The end of the last token.
    end: usize,
    has_operand: bool,
}

/// A text to put in place of a part of the code, which may be empty.
struct Edit {
    at: usize,
    /// The order of edits at one place.
    rank: usize,
    end: usize,
    text: String,
}

struct Rewriting<'a> {
    code: &'a str,
    frames: Vec<Frame>,
    edits: Vec<Edit>,
}

impl Rewriting<'_> {
    fn take(&mut self, token: Token, role: Role) {
        let Some(mut frame) = self.frames.pop() else { return };
        match role {
            Role::Operator(level) => {
                self.close(&mut frame, level + 1);
                let before = frame.end;
                // One without an operand before it unpacks an argument, or is an error of the template for the engine to tell.
                if frame.runs[level].start.is_some() {
                    frame.runs[level].operators.push(Operator { start: token.start, end: token.end, before });
                }
                frame.has_operand = false;
            }
            Role::Part(is_whole) => {
                frame.begin(token.start);
                frame.has_operand = is_whole;
            }
            Role::Separator => {
                self.close(&mut frame, 0);
                frame.has_operand = false;
            }
            Role::Open => {
                frame.begin(token.start);
                frame.has_operand = false;
            }
            Role::Close => {
                self.close(&mut frame, 0);
                // A bracket that was never opened is an error of the template, for the engine to tell.
                frame = self.frames.pop().unwrap_or_default();
                frame.has_operand = true;
            }
        }
        frame.end = token.end;
        self.frames.push(frame);
        if role == Role::Open {
            self.frames.push(Frame::default());
        }
    }

    /// Ends the runs of some levels.
    fn close(&mut self, frame: &mut Frame, from: usize) {
        for level in (from..LEVELS).rev() {
            let run = std::mem::take(&mut frame.runs[level]);
            if let (Some(start), false) = (run.start, run.operators.is_empty()) {
                self.write(level, start, &run.operators, frame.end);
            }
        }
    }

    fn write(&mut self, level: usize, start: usize, operators: &[Operator], end: usize) {
        let starts = std::iter::once(start).chain(operators.iter().map(|operator| operator.end));
        let ends = operators.iter().map(|operator| operator.before).chain([end]);
        let operands: Vec<(usize, usize)> = starts.zip(ends).collect();
        let code = self.code;
        let symbol = |operator: &Operator| &code[operator.start..operator.end];
        let is_scalar = |&(start, end): &(usize, usize)| is_scalar(&code[start..end]);
        match level {
            COMPARISON => {
                let only = (operators.len() == 1).then(|| symbol(&operators[0]));
                let is_right = match only {
                    Some("==" | "!=") => operands.iter().any(is_scalar),
                    Some("in" | "not in") => is_list_of_scalars(&code[operands[1].0..operands[1].1]),
                    _ => false,
                };
                if !is_right {
                    for operator in operators {
                        let name = if symbol(operator).starts_with("not") { "not in" } else { symbol(operator) };
                        self.replace(operator, format!(", '{name}',"));
                    }
                    self.call(COMPARE, level, start, end);
                }
            }
            CONCATENATION => {
                operators.iter().for_each(|operator| self.replace(operator, ",".into()));
                self.call(CONCAT, level, start, end);
            }
            SUM | PRODUCT => {
                let checked = |operator: &Operator| matches!(symbol(operator), "+" | "*");
                // What is added to a number or a string is none but such; what a number multiplies may be a tuple.
                let tells = |&(start, end): &(usize, usize)| {
                    is_scalar(&(start, end)) && (level == SUM || code[start..end].trim().starts_with(['\'', '"']))
                };
                if !operands.iter().any(tells) {
                    let left = operators.first().into_iter().map(|operator| (0, operator));
                    for (index, _) in left.chain((1..).zip(operators)).filter(|(_, operator)| checked(operator)) {
                        self.check(level, operands[index]);
                    }
                }
                for (index, operator) in (1..).zip(operators) {
                    if matches!(symbol(operator), "/" | "//" | "%") {
                        self.replace(operator, format!(", '{}',", symbol(operator)));
                        self.call(DIVIDE, level, start, operands[index].1);
                    }
                }
            }
            _ => {}
        }
    }

    /// Checks an operand where it is not a list that is written out.
    fn check(&mut self, level: usize, (start, end): (usize, usize)) {
        let (code, text) = (self.code, self.code[start..end].trim_start());
        let is_list = text.starts_with('[') && text.find(']') == Some(text.len() - 1);
        if !is_list && !is_scalar(text) {
            let start = start + (code[start..end].len() - text.len());
            self.around(ADDEND, 2 * level + 1, start, end);
        }
    }

    fn call(&mut self, function: &str, level: usize, start: usize, end: usize) {
        self.around(function, 2 * level, start, end);
    }

    /// Puts a call around a part; the deeper it is, the further inside.
    fn around(&mut self, function: &str, depth: usize, start: usize, end: usize) {
        self.edits.push(Edit { at: end, rank: 0, end, text: ")".into() });
        self.edits.push(Edit { at: start, rank: depth, end: start, text: format!("{function}(") });
    }

    fn replace(&mut self, operator: &Operator, text: String) {
        self.edits.push(Edit { at: operator.start, rank: usize::MAX, end: operator.end, text });
    }

    fn written(mut self) -> String {
        self.edits.sort_by_key(|edit| (edit.at, edit.rank));
        let (mut out, mut done) = (String::with_capacity(self.code.len()), 0);
        for edit in self.edits {
            out.push_str(&self.code[done..edit.at]);
            out.push_str(&edit.text);
            done = edit.end;
        }
        out + &self.code[done..]
    }
}

impl Frame {
    /// Lets runs without an operand begin here.
    fn begin(&mut self, at: usize) {
        for run in &mut self.runs {
            run.start.get_or_insert(at);
        }
    }
}

/// True for a string, a number, or another value that is written out and holds no other.
fn is_scalar(operand: &str) -> bool {
    let text = operand.trim();
    let number = text.strip_prefix('-').unwrap_or(text);
    let is_number = number.starts_with(|c: char| c.is_ascii_digit())
        && number.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_'));
    let is_string =
        text.strip_prefix(['\'', '"']).is_some_and(|rest| rest.find(&text[..1]).is_some_and(|at| at + 1 == rest.len()));
    is_number || is_string || matches!(text, "true" | "false" | "none" | "True" | "False" | "None")
}

/// True for `['a', 1]` and its like.
fn is_list_of_scalars(operand: &str) -> bool {
    let text = operand.trim();
    let within = |open: char, close: char| text.strip_prefix(open)?.strip_suffix(close);
    let items = within('[', ']').or_else(|| within('(', ')').filter(|items| items.contains(',')));
    items.is_some_and(|items| items.trim_end_matches([',', ' ']).split(',').all(is_scalar))
}

#[cfg(test)]
mod tests {
    use super::rewrite;

    #[test]
    fn operators_become_calls() {
        for (source, rewritten) in [
            ("{{ a ~ b ~ 'c' }}", "{{ __concat(a , b , 'c') }}"),
            ("{{-a~-b|f(1~2)-}}", "{{-__concat(a,-b|f(__concat(1,2)))-}}"),
            ("{{ a // b ~ c }}", "{{ __concat(__divide(a , '//', b) , c) }}"),
            ("{{ a * 2 % b * c / d }}", "{{ __divide(__divide(__addend(a) * 2 , '%', b) * __addend(c) , '/', d) }}"),
            (
                "{{ x is not in y < 2 and not a not  in b }}",
                "{{ __compare(x is not in y , '<', 2) and not __compare(a , 'not in', b) }}",
            ),
            (
                "{{ 1 < -a <= 3 if a == b else c[i % 2:-1] }}",
                "{{ __compare(1 , '<', -a , '<=', 3) if __compare(a , '==', b) else c[__divide(i , '%', 2):-1] }}",
            ),
            (
                "{% for a, b in c ~ d if a.in in d recursive %}",
                "{% for a, b in __concat(c , d) if __compare(a.in , 'in', d) recursive %}",
            ),
            ("{% set x = a + b - c %}", "{% set x = __addend(a) + __addend(b) - c %}"),
            ("{{ a * b % (c + [1]) }}", "{{ __divide(__addend(a) * __addend(b) , '%', (__addend(c) + [1])) }}"),
            ("{{ f(*a % b, k=a ~ b, **c) }}", "{{ f(*__divide(a , '%', b), k=__concat(a , b), **c) }}"),
            ("{{ {'a': {'b': 1}} ~ 1 }}", "{{ __concat({'a': {'b': 1}} , 1) }}"),
            ("{{ f(*a ~ b, **c ~ d) }}", "{{ f(*__concat(a , b), **__concat(c , d)) }}"),
            ("{{ recursive ~ a }}", "{{ __concat(recursive , a) }}"),
            ("{{ a.is not in b }}", "{{ __compare(a.is , 'not in', b) }}"),
            ("{{ [0][a] + b[0] }}", "{{ __addend([0][a]) + __addend(b[0]) }}"),
            ("{{ 'a'.b == c }}", "{{ __compare('a'.b , '==', c) }}"),
        ] {
            assert_eq!(rewrite(source), rewritten);
        }
    }

    #[test]
    fn what_the_engine_computes_alike_is_left_alone() {
        for same in [
            "a ~ b {# a ~ b #}",
            "{{ a == 'user' and 1 != a or a in ['x', 'y'] or a not in ('x', 1) }}",
            "{{ '<' + a.role + '>' }}{{ i + 1 }}{{ '=' * n }}{{ -1 - -a }}",
            "{% for x in y %}{% endfor %}{% set a, b = f(*c, **d) %}{% if not a is string %}",
            "{{ a[1:-1] | f(x=-1) ** 2 }}",
            "{{ '%' }}{{ ) }}{{ ( }}",
            "{{ ~ a }}{{ == a }}{{ in a }}{{ (< a) }}{{ a and ~ b }}{% for x in % y %}{{ a ) % ( b }}",
        ] {
            assert_eq!(rewrite(same), same);
        }
    }
}
