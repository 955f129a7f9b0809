//! Python's classes of characters. Where its tables say more than Rust's, the answer is known for the scripts that are named
//! here, and refused for others.

use minijinja::Error;

use crate::python::arguments::refused;
use crate::python::text::is_space;

/// Digits zero of scripts, each followed by one to nine: the decimal digits of Unicode beyond ASCII.
const ZEROS: [u32; 65] = [
    0x660, 0x6f0, 0x7c0, 0x966, 0x9e6, 0xa66, 0xae6, 0xb66, 0xbe6, 0xc66, 0xce6, 0xd66, 0xde6, 0xe50, 0xed0, 0xf20,
    0x1040, 0x1090, 0x17e0, 0x1810, 0x1946, 0x19d0, 0x1a80, 0x1a90, 0x1b50, 0x1bb0, 0x1c40, 0x1c50, 0xa620, 0xa8d0,
    0xa900, 0xa9d0, 0xa9f0, 0xaa50, 0xabf0, 0xff10, 0x104a0, 0x10d30, 0x11066, 0x110f0, 0x11136, 0x111d0, 0x112f0,
    0x11450, 0x114d0, 0x11650, 0x116c0, 0x11730, 0x118e0, 0x11950, 0x11c50, 0x11d50, 0x11da0, 0x16a60, 0x16ac0,
    0x16b50, 0x1d7ce, 0x1d7d8, 0x1d7e2, 0x1d7ec, 0x1d7f6, 0x1e140, 0x1e2f0, 0x1e950, 0x1fbf0,
];

/// Letters of title case, `ǅ` and its like: cased, and neither upper nor lower.
pub(crate) fn is_title_letter(c: char) -> bool {
    matches!(u32::from(c), 0x1c5 | 0x1c8 | 0x1cb | 0x1f2 | 0x1f88..=0x1f8f | 0x1f98..=0x1f9f | 0x1fa8..=0x1faf
        | 0x1fbc | 0x1fcc | 0x1ffc)
}

pub(crate) fn is_cased(c: char) -> bool {
    c.is_lowercase() || c.is_uppercase() || is_title_letter(c)
}

/// One of the methods `isalpha`, `isdigit` and so on; `None` for another one.
pub(crate) fn is(method: &str, text: &str) -> Result<Option<bool>, Error> {
    let all = |class: fn(char) -> Option<bool>| {
        let mut every = !text.is_empty();
        for c in text.chars() {
            let known = class(c).ok_or_else(|| refused(method, &format!("cannot tell of {c:?} what Python tells")));
            every &= known?;
        }
        Ok(Some(every))
    };
    let no_other = |wanted: fn(char) -> bool, other: fn(char) -> bool| {
        text.chars().any(wanted) && !text.chars().any(|c| other(c) || is_title_letter(c))
    };
    match method {
        "isspace" => all(|c| Some(is_space(c))),
        "isalpha" => all(is_letter),
        "isalnum" => all(is_alphanumeric),
        "isdecimal" => all(|c| Some(is_decimal(c))),
        "isdigit" => all(is_digit),
        "isnumeric" => all(is_numeric),
        "isascii" => Ok(Some(text.is_ascii())),
        "islower" => Ok(Some(no_other(char::is_lowercase, char::is_uppercase))),
        "isupper" => Ok(Some(no_other(char::is_uppercase, char::is_lowercase))),
        "istitle" => Ok(Some(is_title(text))),
        "isidentifier" if text.is_ascii() => {
            let starts = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
            Ok(Some(starts && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')))
        }
        "isidentifier" => Err(refused(method, "expected ASCII, got another character")),
        _ => Ok(None),
    }
}

fn is_decimal(c: char) -> bool {
    c.is_ascii_digit() || ZEROS.iter().any(|zero| (*zero..zero + 10).contains(&u32::from(c)))
}

/// Python knows digits from other numbers, which Rust does not.
fn is_digit(c: char) -> Option<bool> {
    match c {
        _ if is_decimal(c) => Some(true),
        '²' | '³' | '¹' => Some(true),
        '¼' | '½' | '¾' => Some(false),
        _ if c.is_numeric() => None,
        _ => Some(false),
    }
}

/// Some ideographs are numbers to Python.
fn is_numeric(c: char) -> Option<bool> {
    match u32::from(c) {
        _ if c.is_numeric() => Some(true),
        0x3400..=0x9fff | 0xf900..=0xfaff | 0x20000..=0x3ffff => None,
        _ => Some(false),
    }
}

/// Letters are alphabetic; so are some marks and symbols, which are no letters to Python, outside of these scripts.
fn is_letter(c: char) -> Option<bool> {
    match u32::from(c) {
        _ if !c.is_alphabetic() => Some(false),
        0..=0x344
        | 0x370..=0x58f
        | 0x10a0..=0x10ff
        | 0x1100..=0x11ff
        | 0x1e00..=0x1fff
        | 0x3041..=0x30ff
        | 0x3400..=0x9fff
        | 0xac00..=0xd7a3
        | 0xf900..=0xfaff
        | 0xff21..=0xff9f => Some(true),
        _ => None,
    }
}

pub(crate) fn is_alphanumeric(c: char) -> Option<bool> {
    match is_letter(c) {
        Some(false) => is_numeric(c),
        letter => letter,
    }
}

/// Each upper case letter after one without case, each lower case letter after a cased one.
fn is_title(text: &str) -> bool {
    let (mut after_cased, mut any) = (false, false);
    for c in text.chars() {
        let starts = c.is_uppercase() || is_title_letter(c);
        if starts && after_cased || c.is_lowercase() && !after_cased {
            return false;
        }
        after_cased = is_cased(c);
        any |= after_cased;
    }
    any
}
