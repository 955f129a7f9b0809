//! Token ids as text, and the text of single tokens as ids.

use crate::encode::failed;
use crate::{ChatTokenizer, TokenizerError};

impl ChatTokenizer {
    /// Ids as text, special tokens included.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub fn decode(&self, ids: &[u32]) -> Result<String, TokenizerError> {
        self.tokenizer.decode(ids, false).map_err(failed)
    }

    /// The text of a completion of `prompt`: its last token left out where that is a terminator, white space untouched,
    /// other special tokens shown. Decoders strip the space before a text's first word; it is kept by decoding after
    /// the prompt's last token.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub fn decode_completion(&self, prompt: &[u32], completion: &[u32]) -> Result<String, TokenizerError> {
        let ids = match completion.split_last() {
            Some((&last, rest)) if self.is_terminator(last) => rest,
            _ => completion,
        };
        let mut anchored = Vec::with_capacity(ids.len() + 1);
        anchored.extend(prompt.last());
        let before = self.decode(&anchored)?;
        anchored.extend_from_slice(ids);
        let whole = self.decode(&anchored)?;
        match whole.strip_prefix(&before) {
            Some(text) => Ok(text.to_owned()),
            None => self.decode(ids),
        }
    }

    /// Ids of a completion of which a server shows `pieces`, the text of each token; `None` where they do not determine
    /// the ids (halves of characters, for one).
    pub fn ids_of_pieces(&self, pieces: &[String]) -> Option<Vec<u32>> {
        let one = |piece: &String| {
            if let Some(id) = self.tokenizer.token_to_id(piece).filter(|id| self.is_terminator(*id)) {
                return Some(id);
            }
            match self.encode_text(piece).ok()?[..] {
                [id] if self.shows_as(id, piece) => Some(id),
                _ => None,
            }
        };
        pieces.iter().map(one).collect::<Option<_>>().or_else(|| self.ids_of_joined(pieces))
    }

    /// Tokenizers that mark the beginnings of words (SentencePiece) lose them in single pieces: the ids of the whole
    /// text, where it falls into the same pieces.
    fn ids_of_joined(&self, pieces: &[String]) -> Option<Vec<u32>> {
        let ids = self.encode_text(&pieces.concat()).ok()?;
        let same = ids.len() == pieces.len() && ids.iter().zip(pieces).all(|(id, piece)| self.shows_as(*id, piece));
        same.then_some(ids)
    }

    fn shows_as(&self, id: u32, piece: &str) -> bool {
        let blank = |c: char| c == ' ' || c == '▁';
        let decoded = self.decode(&[id]).unwrap_or_default();
        decoded.trim_start_matches(blank) == piece.trim_start_matches(blank) && !decoded.contains('\u{fffd}')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_become_the_ids_they_were() {
        let model = smpo_fixtures::demo("base");
        let tokenizer = ChatTokenizer::from_model_dir(&model).expect("valid");
        let text = "Oslo is a short city, near the beach.";
        let ids = tokenizer.encode_text(text).expect("encodes");
        let piece = |id: &u32| tokenizer.decode(&[*id]).expect("decodes");
        let mut pieces: Vec<String> = ids.iter().map(piece).collect();
        assert!(pieces.len() > 5);
        assert_eq!(tokenizer.ids_of_pieces(&pieces), Some(ids.clone()));
        pieces.push(tokenizer.terminators().tokens()[0].to_owned());
        let with_end = tokenizer.ids_of_pieces(&pieces).expect("all known");
        assert_eq!(with_end.last(), Some(&tokenizer.terminator_ids()[0]));
        // Another cut of the same text than the tokenizer's own is its own sequence.
        assert_eq!(tokenizer.ids_of_pieces(&["O".into(), "s".into()]).map(|ids| ids.len()), Some(2));
        for unclear in ["Oslo is", "\u{fffd}"] {
            assert_eq!(tokenizer.ids_of_pieces(&["a".into(), unclear.into()]), None, "{unclear:?}");
        }
    }
}
