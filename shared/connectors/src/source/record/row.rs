//! A record that is a part of a page's text, and the changes made to it since.

use std::{borrow::Cow, io, ops::Range, sync::Arc};

use minijinja::value::Value as Jinja;
use serde_json::{Map, Value};

use crate::source::template::json;

/// The text of a page, as serde_json writes it, and where the fields of its records stand in it.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub text: String,
    pub fields: Vec<Field>,
}

/// Where a field stands.
#[derive(Debug, Clone)]
pub(super) struct Field {
    /// Without its quotes.
    pub key: Range<u32>,
    /// The key is written with escapes.
    pub escaped: bool,
    pub value: Range<u32>,
}

/// A mapping of a [`Table`].
#[derive(Debug, Clone)]
pub struct Row {
    table: Arc<Table>,
    text: Range<u32>,
    /// Which of the table's fields are its own.
    fields: Range<u32>,
    /// Its fields since the first change.
    changed: Option<Vec<Entry>>,
}

#[derive(Debug, Clone)]
enum Entry {
    /// A field of the table.
    Kept(u32),
    /// Boxed: most fields are kept.
    Set(Box<(String, Value)>),
}

impl Entry {
    fn set(key: &str, value: Value) -> Self {
        Self::Set(Box::new((key.to_owned(), value)))
    }
}

/// A field's value.
enum Found<'a> {
    Text(&'a str),
    Value(&'a Value),
}

impl Found<'_> {
    fn to_value(&self) -> Value {
        match self {
            // The text was written by serde_json.
            Self::Text(text) => serde_json::from_str(text).unwrap_or_default(),
            Self::Value(value) => (*value).clone(),
        }
    }
}

impl Table {
    /// Ranges are made together with the text.
    fn part(&self, range: &Range<u32>) -> &str {
        let range = range.start as usize..range.end as usize;
        self.text.get(range).unwrap_or_default()
    }

    fn field(&self, place: u32) -> Option<&Field> {
        self.fields.get(place as usize)
    }

    fn is_at(&self, place: u32, key: &str) -> bool {
        self.field(place)
            .is_some_and(|field| match (self.part(&field.key), field.escaped) {
                (known, false) => known == key,
                (known, true) => unescaped(known) == key,
            })
    }

    fn key(&self, place: u32) -> Cow<'_, str> {
        match self.field(place) {
            Some(field) if field.escaped => unescaped(self.part(&field.key)).into(),
            Some(field) => self.part(&field.key).into(),
            None => "".into(),
        }
    }

    /// Fields one after the other, as they stand in their mapping.
    fn fields(&self, first: u32, last: u32) -> &str {
        match (self.field(first), self.field(last)) {
            (Some(first), Some(last)) => self.part(&(first.key.start - 1..last.value.end)),
            _ => "",
        }
    }

    fn value(&self, place: u32) -> Found<'_> {
        let text = self.field(place).map(|field| self.part(&field.value));
        Found::Text(text.unwrap_or("null"))
    }
}

impl Row {
    pub(super) fn new(table: &Arc<Table>, text: Range<u32>, fields: Range<u32>) -> Self {
        Self {
            table: Arc::clone(table),
            text,
            fields,
            changed: None,
        }
    }

    /// A field's value.
    pub fn get(&self, key: &str) -> Option<Cow<'_, Value>> {
        self.find(key).map(|found| match found {
            Found::Value(value) => Cow::Borrowed(value),
            text @ Found::Text(_) => Cow::Owned(text.to_value()),
        })
    }

    /// A field's value for templates.
    pub fn jinja(&self, key: &str) -> Option<Jinja> {
        self.find(key).map(|found| match found {
            Found::Value(value) => json::of(value),
            Found::Text(text) => match plain_text(text) {
                Some(text) => Jinja::from(text),
                None => json::of(&Found::Text(text).to_value()),
            },
        })
    }

    pub fn keys(&self) -> impl Iterator<Item = Cow<'_, str>> {
        self.entries().map(|(key, _)| key)
    }

    pub fn to_map(&self) -> Map<String, Value> {
        self.entries()
            .map(|(key, found)| (key.into_owned(), found.to_value()))
            .collect()
    }

    /// A field's value to be changed.
    pub fn value_mut(&mut self, key: &str) -> Option<&mut Value> {
        let place = self.place(key)?;
        let table = Arc::clone(&self.table);
        let entry = self.changed().get_mut(place)?;
        if let Entry::Kept(place) = *entry {
            *entry = Entry::set(key, table.value(place).to_value());
        }
        match entry {
            Entry::Set(set) => Some(&mut set.1),
            Entry::Kept(_) => None,
        }
    }

    /// Sets a field where it stands, or behind the others.
    pub fn set(&mut self, key: &str, value: Value) {
        let place = self.place(key);
        let entries = self.changed();
        let entry = Entry::set(key, value);
        match place.and_then(|place| entries.get_mut(place)) {
            Some(old) => *old = entry,
            None => entries.push(entry),
        }
    }

    pub fn remove(&mut self, key: &str) {
        if let Some(place) = self.place(key) {
            self.changed().remove(place);
        }
    }

    /// Writes it as JSON.
    pub fn write(&self, out: &mut impl io::Write) -> io::Result<()> {
        let Some(entries) = &self.changed else {
            return out.write_all(self.table.part(&self.text).as_bytes());
        };
        let mut entries = entries.iter().enumerate().peekable();
        out.write_all(b"{")?;
        while let Some((index, entry)) = entries.next() {
            if index > 0 {
                out.write_all(b",")?;
            }
            match entry {
                Entry::Set(set) => {
                    serde_json::to_writer(&mut *out, &set.0)?;
                    out.write_all(b":")?;
                    serde_json::to_writer(&mut *out, &set.1)?;
                }
                Entry::Kept(first) => {
                    // Those that still stand one behind the other go together.
                    let mut last = *first;
                    let follows = |last: u32, entry: &Entry| matches!(entry, Entry::Kept(place) if *place == last + 1);
                    while entries.next_if(|(_, entry)| follows(last, entry)).is_some() {
                        last += 1;
                    }
                    out.write_all(self.table.fields(*first, last).as_bytes())?;
                }
            }
        }
        out.write_all(b"}")
    }

    fn changed(&mut self) -> &mut Vec<Entry> {
        let fields = &self.fields;
        self.changed.get_or_insert_with(|| {
            // With room for one or two more.
            let mut entries = Vec::with_capacity(fields.len() + 2);
            entries.extend(fields.clone().map(Entry::Kept));
            entries
        })
    }

    fn entry<'a>(&'a self, entry: &'a Entry) -> (Cow<'a, str>, Found<'a>) {
        match entry {
            Entry::Kept(place) => (self.table.key(*place), self.table.value(*place)),
            Entry::Set(set) => (set.0.as_str().into(), Found::Value(&set.1)),
        }
    }

    /// Where a field stands among the others.
    fn place(&self, key: &str) -> Option<usize> {
        match &self.changed {
            None => (self.fields.clone()).position(|place| self.table.is_at(place, key)),
            Some(entries) => entries.iter().position(|entry| match entry {
                Entry::Kept(place) => self.table.is_at(*place, key),
                Entry::Set(set) => set.0 == key,
            }),
        }
    }

    fn find(&self, key: &str) -> Option<Found<'_>> {
        let place = self.place(key)?;
        match &self.changed {
            None => (self.fields.clone().nth(place)).map(|place| self.table.value(place)),
            Some(entries) => entries.get(place).map(|entry| self.entry(entry).1),
        }
    }

    fn entries(&self) -> impl Iterator<Item = (Cow<'_, str>, Found<'_>)> {
        let (kept, changed) = match &self.changed {
            None => (self.fields.clone(), &[][..]),
            Some(entries) => (0..0, entries.as_slice()),
        };
        let kept = kept.map(|place| (self.table.key(place), self.table.value(place)));
        kept.chain(changed.iter().map(|entry| self.entry(entry)))
    }
}

/// The text that a JSON text stands for.
fn unescaped(inside: &str) -> String {
    serde_json::from_str(&format!("\"{inside}\"")).unwrap_or_default()
}

/// The same for a whole JSON value that is a text without escapes.
fn plain_text(json: &str) -> Option<&str> {
    let inside = json.strip_prefix('"')?.strip_suffix('"')?;
    (!inside.contains('\\')).then_some(inside)
}
