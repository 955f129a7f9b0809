//! Python's changes of case beyond `upper` and `lower`, which are Rust's.

use minijinja::Error;

use crate::python::arguments::refused;
use crate::python::classes::is_cased;

/// `str.capitalize`, `title`, `swapcase` or `casefold`; `None` for another method.
pub(crate) fn change(method: &str, text: &str) -> Result<Option<String>, Error> {
    match method {
        "capitalize" => capitalize(text).map(Some),
        "title" => title(text).map(Some),
        "swapcase" => swap(text).map(Some),
        "casefold" if text.is_ascii() => Ok(Some(text.to_lowercase())),
        "casefold" => Err(refused(method, "expected ASCII, got another character")),
        _ => Ok(None),
    }
}

/// The first character in title case, the others in lower case.
pub(crate) fn capitalize(text: &str) -> Result<String, Error> {
    let Some(first) = text.chars().next() else { return Ok(String::new()) };
    let mut out = String::with_capacity(text.len());
    push_title(&mut out, first, "capitalize")?;
    // The lower case of a sigma depends on what is before it: both have two bytes.
    let lower = text.to_lowercase();
    out.push_str(&lower[first.to_lowercase().map(char::len_utf8).sum()..]);
    Ok(out)
}

fn title(text: &str) -> Result<String, Error> {
    let mut out = String::with_capacity(text.len());
    let mut after_cased = false;
    for c in text.chars() {
        match after_cased {
            true => out.extend(lower(c, "title")?),
            false => push_title(&mut out, c, "title")?,
        }
        after_cased = is_cased(c);
    }
    Ok(out)
}

fn swap(text: &str) -> Result<String, Error> {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_uppercase() {
            out.extend(lower(c, "swapcase")?);
        } else if c.is_lowercase() {
            out.extend(c.to_uppercase());
        } else {
            out.push(c);
        }
    }
    Ok(out)
}

/// A character's lower case, where it does not depend on its place.
fn lower(c: char, method: &str) -> Result<std::char::ToLowercase, Error> {
    match c {
        'Σ' => Err(refused(method, "the lower case of 'Σ' depends on its place")),
        _ => Ok(c.to_lowercase()),
    }
}

/// A character's title case, which is its upper case but for ligatures and some scripts.
fn push_title(out: &mut String, c: char, method: &str) -> Result<(), Error> {
    let mut upper = c.to_uppercase();
    match (u32::from(c), upper.len()) {
        (0xdf, _) => out.push_str("Ss"),
        // Georgian has upper case letters, and writes titles without them.
        (0x10d0..=0x10ff, _) => out.push(c),
        (0x1c4..=0x1cc | 0x1f1..=0x1f3, _) | (_, 2..) => {
            return Err(refused(method, &format!("the title case of {c:?} is not known")));
        }
        _ => out.extend(upper.by_ref()),
    }
    Ok(())
}
