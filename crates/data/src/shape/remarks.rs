//! Remarks on a row that was read: keys that nothing read, and words that nothing knows.

/// Remarks on the reading of one row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Remarks {
    /// Columns and message keys that nothing reads, such as `source` or `chosen[].weight`, each once.
    pub unread: Vec<String>,
    /// Columns of pictures, sound or film, which no text trainer sees.
    pub media: Vec<String>,
    /// Reasons for an answer's end that do not say if it was cut, such as `finish_reason "abort"`.
    pub unclear_end: Vec<String>,
    /// Scores of a pair by which its rejected side is the better one, such as `score_chosen 3, score_rejected 8`.
    pub reversed_scores: Option<String>,
}

impl Remarks {
    pub(super) fn add_unread(&mut self, key: String) {
        add(&mut self.unread, key);
    }

    pub(super) fn add_media(&mut self, column: &str) {
        add(&mut self.media, column.to_string());
    }

    pub(super) fn add_unclear_end(&mut self, word: String) {
        add(&mut self.unclear_end, word);
    }
}

fn add(list: &mut Vec<String>, item: String) {
    if !list.contains(&item) {
        list.push(item);
    }
}
