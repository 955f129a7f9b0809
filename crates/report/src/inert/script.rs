//! JSON inside a `<script type="application/json">` element.

use serde::Serialize;

use crate::Error;

/// JSON in which `<`, `>`, `&`, U+2028 and U+2029 are written as escapes, so that no `</script>`, `<!--` or `]]>`
/// can appear whatever the strings hold. Outside strings JSON uses none of these characters.
pub(crate) fn json<T: Serialize>(what: &'static str, value: &T) -> Result<String, Error> {
    let text = serde_json::to_string(value).map_err(|source| Error::Json { what, source })?;
    let mut out = String::with_capacity(text.len() + text.len() / 64);
    for c in text.chars() {
        match c {
            '<' => out.push_str("\\u003c"),
            '>' => out.push_str("\\u003e"),
            '&' => out.push_str("\\u0026"),
            '\u{2028}' => out.push_str("\\u2028"),
            '\u{2029}' => out.push_str("\\u2029"),
            _ => out.push(c),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_closing_tag_cannot_be_spelled_and_the_value_survives() {
        let hostile = "</script><!-- ]]> & \u{2028}\u{0} \\ud800 \"";
        let embedded = super::json("text", &hostile).unwrap();
        assert!(!embedded.contains(['<', '>', '&', '\u{2028}', '\0']));
        assert_eq!(serde_json::from_str::<String>(&embedded).unwrap(), hostile);
    }
}
