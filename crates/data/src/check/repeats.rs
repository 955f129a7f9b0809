//! Rows that say what an earlier row said, or the contrary of it, or have its id. In memory that does not grow with the rows.

use std::hash::{BuildHasher, RandomState};
use std::io;

use crate::check::sorter::{Event, Sorter};
use crate::check::tally::{SHOWN, Sample};
use crate::check::{Inspection, Rule};

/// The rows so far, by content and by id.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    rows: u64,
    contents: Sorter,
    ids: Sorter,
    hasher: RandomState,
}

/// Rows that break a rule: their number, and the first of them.
#[derive(Debug, Default)]
pub(super) struct Repeated {
    pub count: u64,
    first: Vec<(u64, Sample)>,
}

impl Repeated {
    fn add(&mut self, event: &Event, detail: impl FnOnce() -> String) {
        self.count += 1;
        if self.first.len() < SHOWN || self.first.last().is_some_and(|(row, _)| event.row < *row) {
            let place = self.first.partition_point(|(row, _)| *row < event.row);
            self.first.insert(place, (event.row, Sample { line: Some(event.line), detail: detail() }));
            self.first.truncate(SHOWN);
        }
    }

    /// The first rows, in their order.
    pub fn first(self) -> Vec<Sample> {
        self.first.into_iter().map(|(_, sample)| sample).collect()
    }
}

impl Repeats {
    /// Adds a record.
    pub fn add(&mut self, line: u64, inspection: &Inspection) -> io::Result<()> {
        let Inspection { id, content, swapped, .. } = inspection;
        let (content, swapped, row) = (*content, *swapped, self.rows);
        self.rows += 1;
        // A pair and the one with its sides swapped have the same key.
        let key = swapped.map_or(content, |swapped| content.min(swapped));
        self.contents.push(Event { key, row, line, content, swapped, text: String::new() })?;
        if *id == format!("{content:016x}") {
            return Ok(());
        }
        let key = self.hasher.hash_one(id.as_str());
        self.ids.push(Event { key, row, line, content, swapped: None, text: id.clone() })
    }

    /// The rows that break each rule.
    pub fn find(self) -> io::Result<[(Rule, Repeated); 3]> {
        let [mut duplicates, mut contradictions, mut ids] =
            [Repeated::default(), Repeated::default(), Repeated::default()];
        let mut key = None;
        // The first row with each content of a key, which are two at most but for collisions of hashes.
        let mut first: Vec<(u64, u64)> = Vec::new();
        self.contents.sorted(|event| {
            if key.replace(event.key) != Some(event.key) {
                first.clear();
            }
            let line_of = |content: u64| first.iter().find(|(known, _)| *known == content).map(|(_, line)| *line);
            match (line_of(event.content), event.swapped.and_then(line_of)) {
                (Some(earlier), _) => duplicates.add(&event, || format!("as line {earlier}")),
                (None, contrary) => {
                    if let Some(earlier) = contrary {
                        contradictions.add(&event, || format!("against line {earlier}"));
                    }
                    first.push((event.content, event.line));
                }
            }
        })?;
        let mut known: Option<Event> = None;
        self.ids.sorted(|event| match &known {
            Some(first) if first.key == event.key => {
                if first.content != event.content {
                    ids.add(&event, || format!("{:?}, as line {}", event.text, first.line));
                }
            }
            _ => known = Some(event),
        })?;
        Ok([(Rule::DuplicateRow, duplicates), (Rule::Contradiction, contradictions), (Rule::DuplicateId, ids)])
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;
    use crate::record::RecordKind;

    /// A rule's rows: their number, and the first of them.
    type Found = Vec<(Rule, u64, Vec<Sample>)>;

    /// The definition, with everything in memory.
    fn by_definition(rows: &[Inspection]) -> Found {
        let mut found: Found =
            [Rule::DuplicateRow, Rule::Contradiction, Rule::DuplicateId].map(|rule| (rule, 0, Vec::new())).into();
        let mut add = |rule: usize, line: u64, detail: String| {
            found[rule].1 += 1;
            if found[rule].2.len() < SHOWN {
                found[rule].2.push(Sample { line: Some(line), detail });
            }
        };
        let (mut contents, mut ids) = (HashMap::new(), HashMap::new());
        for (line, Inspection { id, content, swapped, .. }) in (1..).zip(rows) {
            match contents.get(content) {
                Some(earlier) => add(0, line, format!("as line {earlier}")),
                None => {
                    if let Some(earlier) = swapped.and_then(|swapped| contents.get(&swapped)) {
                        add(1, line, format!("against line {earlier}"));
                    }
                    contents.insert(*content, line);
                }
            }
            if *id != format!("{content:016x}") {
                let (said, earlier) = *ids.entry(id.clone()).or_insert((*content, line));
                if said != *content {
                    add(2, line, format!("{id:?}, as line {earlier}"));
                }
            }
        }
        found
    }

    fn row(pair: u64, side: u64, id: Option<u8>) -> Inspection {
        // Contents 2n and 2n + 1 are each other's contrary; those from 8 on have none.
        let content = 2 * pair + side;
        Inspection {
            kind: RecordKind::Pair,
            id: id.map_or_else(|| format!("{content:016x}"), |id| format!("id {id}")),
            content,
            swapped: (pair < 4).then_some(content ^ 1),
            label: None,
            broken: Vec::new(),
            unread: Vec::new(),
        }
    }

    proptest! {
        #[test]
        fn rows_sorted_on_disk_give_what_tables_in_memory_give(
            rows in prop::collection::vec((0u64..6, 0u64..2, prop::option::of(0u8..4)), 0..60),
            room in 1usize..70,
        ) {
            let rows: Vec<Inspection> = rows.into_iter().map(|(pair, side, id)| row(pair, side, id)).collect();
            let mut repeats =
                Repeats { contents: Sorter::with_room(room), ids: Sorter::with_room(room), ..Repeats::default() };
            for (line, row) in (1..).zip(&rows) {
                repeats.add(line, row).unwrap();
            }
            let found = repeats.find().unwrap();
            let found: Found = found.into_iter().map(|(rule, found)| (rule, found.count, found.first())).collect();
            prop_assert_eq!(found, by_definition(&rows));
        }
    }
}
