//! The normal form of a text: what differs only in it is the same text.

use unicode_normalization_alignments::UnicodeNormalization;

/// A text in compatibility form (NFKC) and lower case, with one space in place of any white space and none around it.
pub(crate) fn normal(text: &str) -> String {
    let mut normal = String::with_capacity(text.len());
    let add = |normal: &mut String, c: char| match c {
        c if c.is_whitespace() => {
            if !normal.is_empty() && !normal.ends_with(' ') {
                normal.push(' ');
            }
        }
        // byte order mark and zero-width space, joiner and non-joiner
        '\u{feff}' | '\u{200b}'..='\u{200d}' => {}
        c => normal.extend(c.to_lowercase()),
    };
    if text.is_ascii() {
        text.chars().for_each(|c| add(&mut normal, c));
    } else {
        text.nfkc().for_each(|(c, _)| add(&mut normal, c));
    }
    normal.truncate(normal.trim_end().len());
    normal
}

#[cfg(test)]
mod tests {
    use super::normal;

    #[test]
    fn case_spaces_and_forms_of_characters_are_no_difference() {
        assert_eq!(normal("  What\tis\r\n\n the  CAPITAL? "), "what is the capital?");
        assert_eq!(normal("ﬁne １２\u{200b} Й"), normal("FINE 12 й"));
        assert_eq!(normal(" \u{a0}\n"), "");
    }
}
