//! XML elements as records: child element -> key, attribute -> `@name`, text beside them ->
//! `#text`, empty element -> null, repeated element -> list, prefixes stripped. Document types
//! are refused, and with them every entity but the five of XML itself.

use quick_xml::{
    Reader,
    events::{BytesStart, Event},
};
use serde_json::{Map, Value};
use sluice_core::{Error, Result};

use super::{Options, malformed, too_large};

/// Deepest nesting; far above any vendor's, far below a stack's end.
const DEEPEST: usize = 100;

/// The key of an element's own text.
const TEXT: &str = "#text";

type Records<'a> = Box<dyn Iterator<Item = Result<Value>> + Send + 'a>;

pub(super) fn elements<'a>(bytes: &'a [u8], options: &Options) -> Records<'a> {
    let Some(name) = options.records.clone() else {
        return Box::new(std::iter::once(Err(Error::validation(
            "intake_records_unnamed",
            "XML needs the name of the element that is a record",
        ))));
    };
    let reader = Reader::from_reader(bytes);
    Box::new(Elements {
        reader,
        name,
        most: options.max_record,
        depth: 0,
        done: false,
    })
}

struct Elements<'a> {
    reader: Reader<&'a [u8]>,
    name: String,
    most: usize,
    /// Elements open around the next record.
    depth: usize,
    done: bool,
}

impl Iterator for Elements<'_> {
    type Item = Result<Value>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let next = self.advance().transpose();
        self.done = !matches!(next, Some(Ok(_)));
        next
    }
}

impl Elements<'_> {
    fn advance(&mut self) -> Result<Option<Value>> {
        loop {
            match self.event()? {
                Event::Start(start) if is_named(&start, &self.name) => {
                    let begin = self.reader.buffer_position();
                    return self.element(&start, begin, 0).map(Some);
                }
                Event::Empty(start) if is_named(&start, &self.name) => {
                    return attributes(&start).map(finished).map(Some);
                }
                Event::Start(_) => self.depth += 1,
                Event::End(_) => self.depth = self.depth.saturating_sub(1),
                Event::Eof if self.depth > 0 => {
                    return Err(malformed("the document ends inside an element"));
                }
                Event::Eof => return Ok(None),
                _ => {}
            }
        }
    }

    /// The next event; document types are refused.
    fn event(&mut self) -> Result<Event<'static>> {
        let position = self.reader.buffer_position();
        match self.reader.read_event() {
            Ok(Event::DocType(_)) => Err(Error::validation(
                "intake_document_type",
                "documents with a document type are refused",
            )),
            Ok(event) => Ok(event.into_owned()),
            Err(_) => Err(malformed(format!("is no XML near byte {position}"))),
        }
    }

    /// What is in an element whose start tag has been read.
    fn element(&mut self, start: &BytesStart<'_>, begin: u64, depth: usize) -> Result<Value> {
        if depth >= DEEPEST {
            return Err(malformed(format!("nested deeper than {DEEPEST} elements")));
        }
        let mut fields = attributes(start)?;
        let mut text = String::new();
        loop {
            let event = self.event()?;
            if self.reader.buffer_position().saturating_sub(begin) > self.most as u64 {
                return Err(too_large("a record", self.most));
            }
            match event {
                Event::Start(child) => {
                    let name = local_name(&child);
                    let value = self.element(&child, begin, depth + 1)?;
                    add(&mut fields, name, value);
                }
                Event::Empty(child) => {
                    let name = local_name(&child);
                    let value = finished(attributes(&child)?);
                    add(&mut fields, name, value);
                }
                Event::Text(part) => text.push_str(&part),
                Event::CData(part) => text.push_str(&part),
                Event::GeneralRef(reference) => {
                    let resolved = match reference.resolve_char_ref().map_err(|_| no_text())? {
                        Some(letter) => letter.to_string(),
                        None => quick_xml::escape::resolve_xml_entity(&reference)
                            .map(str::to_owned)
                            .ok_or_else(|| malformed("an entity is not known"))?,
                    };
                    text.push_str(&resolved);
                }
                Event::End(_) => {
                    let text = text.trim();
                    if !text.is_empty() {
                        if fields.is_empty() {
                            return Ok(Value::from(text));
                        }
                        fields.insert(TEXT.to_owned(), Value::from(text));
                    }
                    return Ok(finished(fields));
                }
                Event::Eof => return Err(malformed("the document ends inside an element")),
                _ => {}
            }
        }
    }
}

fn no_text() -> Error {
    malformed("a text cannot be read")
}

fn is_named(start: &BytesStart<'_>, name: &str) -> bool {
    start.local_name().into_inner() == name
}

fn local_name(start: &BytesStart<'_>) -> String {
    start.local_name().into_inner().to_owned()
}

fn finished(fields: Map<String, Value>) -> Value {
    if fields.is_empty() {
        Value::Null
    } else {
        Value::Object(fields)
    }
}

/// Attributes but namespace declarations.
fn attributes(start: &BytesStart<'_>) -> Result<Map<String, Value>> {
    let mut fields = Map::new();
    for attribute in start.attributes() {
        let attribute = attribute.map_err(|_| malformed("an attribute cannot be read"))?;
        if attribute.key.as_namespace_binding().is_some() {
            continue;
        }
        let name = attribute.key.local_name().into_inner();
        let value = quick_xml::escape::unescape(&attribute.value)
            .map_err(|_| malformed("an entity is not known"))?
            .into_owned();
        fields.insert(format!("@{name}"), Value::from(value));
    }
    Ok(fields)
}

/// A second element of a name makes a list of both.
fn add(fields: &mut Map<String, Value>, name: String, value: Value) {
    match fields.get_mut(&name) {
        Some(Value::Array(items)) => items.push(value),
        Some(first) => {
            let first_value = first.take();
            *first = Value::Array(vec![first_value, value]);
        }
        None => {
            fields.insert(name, value);
        }
    }
}
