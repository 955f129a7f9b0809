/// The 1-based line of a byte offset: for errors of parsers that report spans, TOML's among them.
pub fn line_at(text: &str, offset: usize) -> usize {
    text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_count_from_one_and_end_with_the_text() {
        assert_eq!([0, 1, 2, 99].map(|offset| line_at("a\nb\n", offset)), [1, 1, 2, 3]);
    }
}
