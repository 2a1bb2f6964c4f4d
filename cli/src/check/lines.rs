//! The lines of the files in which the values of their documents stand.

use std::collections::HashMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

use crate::check::node::Place;

/// Lines by what stands there.
#[derive(Debug, Default)]
pub(crate) struct Lines(HashMap<Place, Line>);

/// A line of a file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Line {
    /// From 1 on.
    number: u64,
    /// Whether the value is a text that stands in the lines below, each as it is: behind `|` in YAML.
    is_block: bool,
}

impl Lines {
    /// Adds all values of a text, of whose documents these are the places. `around` is the line of the value
    /// that the text is, unless it is a file.
    pub(crate) fn add(&mut self, text: &str, documents: &[Place], around: Option<Line>) {
        let Ok(trees) = serde_saphyr::from_multiple::<Spanned<Tree>>(text) else { return };
        // Else it cannot be told which is which.
        if trees.len() != documents.len() {
            return;
        }
        let rows: Vec<_> = text.lines().collect();
        let text = Text { rows: &rows, around };
        for (tree, place) in trees.iter().zip(documents) {
            self.add_below(&tree.value, place, &text);
        }
    }

    /// The line of a value, or of the one around it if it is not there itself.
    pub(crate) fn of(&self, place: &Place) -> Option<u64> {
        let mut around = place.clone();
        while !around.path.is_empty() {
            if let Some(line) = self.at(&around) {
                return Some(line.number);
            }
            // A cut inside of a key in quotes is the path of nothing.
            around.path.truncate(around.path.rfind(['.', '[']).unwrap_or(0));
        }
        None
    }

    /// The line of this very value.
    pub(crate) fn at(&self, place: &Place) -> Option<Line> {
        self.0.get(place).copied()
    }

    /// The values below one place, as if they stood below another.
    pub(crate) fn moved(&self, from: &Place, to: &Place) -> Self {
        let moved = self.0.iter().filter_map(|(place, line)| {
            let is_near = (place.file, place.document) == (from.file, from.document);
            let rest = place.path.strip_prefix(&from.path).filter(|_| is_near)?;
            let below = rest.strip_prefix('.').or_else(|| rest.starts_with('[').then_some(rest))?;
            Some((to.below(below), *line))
        });
        Self(moved.collect())
    }

    fn add_below(&mut self, tree: &Tree, place: &Place, text: &Text<'_>) {
        match tree {
            Tree::Leaf => {}
            Tree::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    let place = place.below(&format!("[{index}]"));
                    self.insert(place.clone(), text.line(item));
                    self.add_below(&item.value, &place, text);
                }
            }
            Tree::Map(fields) => {
                for (key, field) in fields {
                    let place = place.key(&key.value);
                    self.insert(place.clone(), text.line(key));
                    self.add_below(&field.value, &place, text);
                }
            }
        }
    }

    fn insert(&mut self, place: Place, line: Option<Line>) {
        if let Some(line) = line {
            self.0.insert(place, line);
        }
    }
}

/// A text that is being looked through.
struct Text<'a> {
    rows: &'a [&'a str],
    around: Option<Line>,
}

impl Text<'_> {
    /// The line of what begins there: a field's key, or an item.
    fn line<T>(&self, begin: &Spanned<T>) -> Option<Line> {
        let own = begin.referenced.line();
        let row = self.rows.get(usize::try_from(own).ok()?.checked_sub(1)?)?;
        Some(match self.around {
            None => Line { number: own, is_block: is_block(row) },
            Some(Line { number, is_block: true }) => Line { number: number.checked_add(own)?, is_block: is_block(row) },
            Some(around) => around,
        })
    }
}

/// Whether a line ends with the `|` of a block, and what may stand behind it.
fn is_block(row: &str) -> bool {
    let row = row.split(" #").next().unwrap_or_default().trim_end();
    let before = row.trim_end_matches(|c: char| "+-".contains(c) || c.is_ascii_digit()).strip_suffix('|');
    before.is_some_and(|before| before.trim_end().ends_with([':', '-']))
}

/// The shape of a document.
enum Tree {
    Leaf,
    List(Vec<Spanned<Tree>>),
    Map(Vec<(Spanned<String>, Spanned<Tree>)>),
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Shape)
    }
}

struct Shape;

impl<'de> Visitor<'de> for Shape {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Tree, E> {
        Ok(Tree::Leaf)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Tree, E> {
        Ok(Tree::Leaf)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Tree, E> {
        Ok(Tree::Leaf)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Tree, E> {
        Ok(Tree::Leaf)
    }

    fn visit_str<E>(self, _: &str) -> Result<Tree, E> {
        Ok(Tree::Leaf)
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Leaf)
    }

    fn visit_none<E>(self) -> Result<Tree, E> {
        Ok(Tree::Leaf)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tree, D::Error> {
        Tree::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Tree, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Tree::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Tree, A::Error> {
        let mut map = Vec::new();
        while let Some(field) = fields.next_entry()? {
            map.push(field);
        }
        Ok(Tree::Map(map))
    }
}
