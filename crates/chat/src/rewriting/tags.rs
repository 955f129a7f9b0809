//! A template's text in pieces: tags and expressions, and what is between them. Comments, raw blocks and the strings inside
//! of tags are stepped over.

/// A part of a template's text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Piece<'a> {
    /// `{% … %}`
    Tag(&'a str),
    /// `{{ … }}`
    Expression(&'a str),
    /// Text, comments, raw blocks.
    Text(&'a str),
}

impl<'a> Piece<'a> {
    /// The piece as it is written.
    pub fn text(self) -> &'a str {
        match self {
            Piece::Tag(text) | Piece::Expression(text) | Piece::Text(text) => text,
        }
    }

    /// The first word of a tag.
    pub fn tag_name(self) -> Option<&'a str> {
        let Piece::Tag(tag) = self else { return None };
        let inner = tag.strip_prefix("{%")?;
        let inner = inner.trim_start_matches(['-', '+']).trim_start();
        let end = inner.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(inner.len());
        Some(&inner[..end])
    }
}

/// The pieces of a template, which together are its text.
pub(crate) fn pieces(source: &str) -> impl Iterator<Item = Piece<'_>> {
    let (mut rest, mut raw) = (source, false);
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let piece = match rest.find('{') {
            Some(0) => opened(rest, raw),
            Some(at) => Piece::Text(&rest[..at]),
            None => Piece::Text(rest),
        };
        match piece.tag_name() {
            Some("endraw") => raw = false,
            Some("raw") => raw = true,
            _ => {}
        }
        rest = &rest[piece.text().len()..];
        Some(piece)
    })
}

/// The piece that a text with `{` at its start begins with.
fn opened(text: &str, raw: bool) -> Piece<'_> {
    match text.as_bytes().get(1) {
        Some(b'#') if !raw => Piece::Text(&text[..text.find("#}").map_or(text.len(), |end| end + 2)]),
        Some(b'{') if !raw => Piece::Expression(&text[..closing(text, "}}")]),
        Some(b'%') => {
            let tag = Piece::Tag(&text[..closing(text, "%}")]);
            // inside a raw block what looks like a tag is text, and may hold an unbalanced quote
            if raw && tag.tag_name() != Some("endraw") { Piece::Text(&text[..1]) } else { tag }
        }
        _ => Piece::Text(&text[..1]),
    }
}

/// The length of a tag up to and with its closing mark, strings and brackets stepped over; all of it when it never closes.
fn closing(tag: &str, mark: &str) -> usize {
    let inside = &tag[mark.len()..];
    let mut open = 0usize;
    let found = unquoted(inside).find(|&(at, byte)| {
        let closes = open == 0 && inside.as_bytes()[at..].starts_with(mark.as_bytes());
        match byte {
            b'(' | b'[' | b'{' => open += 1,
            b')' | b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        closes
    });
    found.map_or(tag.len(), |(at, _)| mark.len() + at + mark.len())
}

/// The bytes of code that are outside of strings, with their places.
pub(crate) fn unquoted(code: &str) -> impl Iterator<Item = (usize, u8)> + '_ {
    let (mut quote, mut escaped) = (None, false);
    code.bytes().enumerate().filter(move |&(_, byte)| match quote {
        Some(_) if escaped => {
            escaped = false;
            false
        }
        Some(open) => {
            escaped = byte == b'\\';
            if byte == open {
                quote = None;
            }
            false
        }
        None => {
            let opens = matches!(byte, b'\'' | b'"');
            if opens {
                quote = Some(byte);
            }
            !opens
        }
    })
}

/// A template with its tags and expressions changed.
pub(crate) fn map_code(source: &str, change: impl Fn(Piece<'_>) -> String) -> String {
    let changed = |piece: Piece<'_>| match piece {
        Piece::Text(text) => text.to_owned(),
        code => change(code),
    };
    pieces(source).map(changed).collect()
}

/// Code with the bytes at some places, of ASCII, replaced.
pub(crate) fn replaced<T: AsRef<str>>(code: &str, places: impl IntoIterator<Item = (usize, T)>) -> String {
    let mut places: Vec<(usize, T)> = places.into_iter().collect();
    places.sort_unstable_by_key(|(at, _)| *at);
    let (mut out, mut done) = (String::with_capacity(code.len()), 0);
    for (at, text) in places {
        out.push_str(&code[done..at]);
        out.push_str(text.as_ref());
        done = at + 1;
    }
    out + &code[done..]
}

/// The words of a piece of code, with their places.
pub(crate) fn words(code: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut bytes = unquoted(code).peekable();
    std::iter::from_fn(move || {
        let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_' || !byte.is_ascii();
        let (start, _) = bytes.by_ref().find(|(_, byte)| is_word(byte))?;
        let mut end = start + 1;
        while let Some((at, _)) = bytes.next_if(|(at, byte)| *at == end && is_word(byte)) {
            end = at + 1;
        }
        Some((start, &code[start..end]))
    })
}
