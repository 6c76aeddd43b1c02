//! XML bodies, read event by event: records are taken out one at a time while the rest of the
//! document becomes a small skeleton.
//!
//! An element becomes: attributes under `@name`, children under their names (repeated ones a
//! list), text alone a text, text beside others `#text`, nothing `null`. Text is trimmed. This is
//! what the format's own decoder makes of XML; the options in [`XmlOptions`] are additions.

use quick_xml::{
    Reader,
    errors::{Error as XmlError, IllFormedError, SyntaxError},
    events::{BytesStart, Event},
};
use serde_json::{Map, Value};
use sluice_core::{Error, ErrorClass, Result};

use super::Decoded;
use crate::source::record::Record;

/// Elements inside elements; real documents stay under twenty.
const MAX_DEPTH: usize = 128;
/// Elements and attributes kept at once outside of finished records.
const MAX_LIVE_NODES: usize = 1_000_000;
/// Elements and attributes in one document.
const MAX_NODES: usize = 16_000_000;
/// XML within text within XML.
const MAX_NESTED: usize = 4;
/// Elements whose text counts as an error text wherever they stand (lower case).
const ERROR_ELEMENTS: [&str; 9] = [
    "error",
    "errors",
    "errormessage",
    "errormessages",
    "message",
    "messages",
    "faultstring",
    "faultcode",
    "fault",
];
/// Longer error texts are cut.
const MAX_ERROR_TEXT: usize = 16 * 1024;

/// Additions to the format's `XmlDecoder`, written inside the decoder component.
#[derive(Debug, Clone, Default)]
pub struct XmlOptions {
    /// `soap:Body` becomes `Body`; namespace declarations are left out.
    pub strip_prefixes: bool,
    /// Elements that become lists even when there is one, as ends of paths: `Status` or
    /// `StatusHistory/Status`.
    pub force_list: Vec<Vec<String>>,
    /// Elements whose text may be an XML document of its own, which then takes the text's place.
    pub nested_xml: Vec<String>,
}

/// Reads a document and takes the records at a path out of it.
pub(super) fn decode(
    text: &str,
    options: &XmlOptions,
    records_at: Option<&[String]>,
) -> Result<Decoded> {
    let mut builder = Builder {
        options,
        records_at,
        frames: vec![Frame::default()],
        records: Vec::new(),
        error_text: String::new(),
        live: 0,
        nodes: 0,
        nested: 0,
    };
    builder.document(text)?;
    let response = Value::Object(builder.frames.pop().unwrap_or_default().children);
    if response.as_object().is_none_or(Map::is_empty) {
        return Err(truncated());
    }
    Ok(Decoded {
        bodies: vec![response],
        streamed: records_at.map(|_| {
            let records = builder.records.into_iter();
            records.map(Record::Value).collect()
        }),
        error_text: builder.error_text,
        ..Decoded::default()
    })
}

/// An element being read; the first frame stands for the document.
#[derive(Default)]
struct Frame {
    name: String,
    children: Map<String, Value>,
    text: String,
    /// Inside (or at) an element of [`ERROR_ELEMENTS`].
    tells_error: bool,
}

struct Builder<'a> {
    options: &'a XmlOptions,
    records_at: Option<&'a [String]>,
    frames: Vec<Frame>,
    records: Vec<Value>,
    error_text: String,
    /// Nodes in the skeleton and in the record being read.
    live: usize,
    nodes: usize,
    nested: usize,
}

impl Builder<'_> {
    fn document(&mut self, text: &str) -> Result<()> {
        let base = self.frames.len();
        let mut reader = Reader::from_str(text);
        loop {
            match reader.read_event().map_err(of_parser)? {
                Event::Start(start) => self.open(&start)?,
                Event::Empty(start) => {
                    self.open(&start)?;
                    self.close()?;
                }
                Event::End(_) => self.close()?,
                Event::Text(text) => self.text(&text.xml10_content()),
                Event::CData(data) => self.text(&data.xml10_content()),
                Event::GeneralRef(reference) => {
                    let resolved =
                        match reference.resolve_char_ref().map_err(of_parser)? {
                            Some(c) => c.to_string(),
                            None => quick_xml::escape::resolve_predefined_entity(
                                &reference.xml10_content(),
                            )
                            .ok_or_else(|| invalid("it uses an entity that XML does not define"))?
                            .to_owned(),
                        };
                    self.text(&resolved);
                }
                Event::DocType(_) => {
                    return Err(Error::validation(
                        "xml_doctype_refused",
                        "the body has a document type declaration, which is never accepted",
                    ));
                }
                Event::Comment(_) | Event::PI(_) | Event::Decl(_) => {}
                Event::Eof if self.frames.len() > base => return Err(truncated()),
                Event::Eof => return Ok(()),
            }
        }
    }

    fn count(&mut self) -> Result<()> {
        self.live += 1;
        self.nodes += 1;
        if self.live > MAX_LIVE_NODES || self.nodes > MAX_NODES {
            return Err(Error::validation(
                "xml_too_large",
                "the body has more elements than can be held",
            ));
        }
        Ok(())
    }

    /// Element names from the document's root, the record path's form.
    fn at_record(&self) -> bool {
        self.records_at.is_some_and(|path| {
            self.frames.len() == path.len() + 1
                && self
                    .frames
                    .iter()
                    .skip(1)
                    .zip(path)
                    .all(|(frame, name)| frame.name == *name)
        })
    }

    /// Whether the open element leads to the records: text there stands where structure was
    /// expected, which is how some systems tell an error. Without a path every element does.
    fn leads_to_records(&self) -> bool {
        self.records_at.is_none_or(|path| {
            self.frames.len() <= path.len()
                && self
                    .frames
                    .iter()
                    .skip(1)
                    .zip(path)
                    .all(|(frame, name)| frame.name == *name)
        })
    }

    fn local<'n>(&self, name: &'n str) -> &'n str {
        if self.options.strip_prefixes {
            name.rsplit_once(':').map_or(name, |(_, local)| local)
        } else {
            name
        }
    }

    fn open(&mut self, start: &BytesStart<'_>) -> Result<()> {
        if self.frames.len() > MAX_DEPTH {
            return Err(Error::validation(
                "xml_too_deep",
                format!("the body nests more than {MAX_DEPTH} elements"),
            ));
        }
        self.count()?;
        let qualified = start.name();
        let name = self.local(qualified.as_ref()).to_owned();
        let mut children = Map::new();
        for attribute in start.attributes() {
            let attribute = attribute.map_err(|_| invalid("an attribute is malformed"))?;
            let key = attribute.key.as_ref();
            if self.options.strip_prefixes && (key == "xmlns" || key.starts_with("xmlns:")) {
                continue;
            }
            self.count()?;
            let value = attribute
                .normalized_value(quick_xml::XmlVersion::Implicit1_0)
                .map_err(|_| invalid("an attribute's value is malformed"))?;
            children.insert(
                format!("@{}", self.local(key)),
                Value::String(value.into_owned()),
            );
        }
        let tells_error = self.frames.last().is_some_and(|parent| parent.tells_error)
            || ERROR_ELEMENTS
                .iter()
                .any(|known| name.eq_ignore_ascii_case(known));
        self.frames.push(Frame {
            name,
            children,
            text: String::new(),
            tells_error,
        });
        Ok(())
    }

    fn text(&mut self, text: &str) {
        if let Some(frame) = self.frames.last_mut() {
            frame.text.push_str(text);
        }
    }

    fn close(&mut self) -> Result<()> {
        self.read_nested()?;
        let is_record = self.at_record();
        let telling = self.leads_to_records();
        let list = self.is_list();
        let Some(frame) = self.frames.pop() else {
            return Err(invalid("an element ends that never began"));
        };
        let text = frame.text.trim();
        if (telling || frame.tells_error)
            && !text.is_empty()
            && self.error_text.len() + text.len() < MAX_ERROR_TEXT
        {
            if !self.error_text.is_empty() {
                self.error_text.push('\n');
            }
            self.error_text.push_str(text);
        }
        let mut children = frame.children;
        let value = match (children.is_empty(), text.is_empty()) {
            (true, true) => Value::Null,
            (true, false) => Value::String(text.to_owned()),
            (false, true) => Value::Object(children),
            (false, false) => {
                children.insert("#text".into(), Value::String(text.to_owned()));
                Value::Object(children)
            }
        };
        if is_record {
            return self.record(frame.name, value);
        }
        self.attach(frame.name, value, list)
    }

    /// The first record also stays in the skeleton, for templates that look at it.
    fn record(&mut self, name: String, value: Value) -> Result<()> {
        if self.records.is_empty() {
            let seen = self
                .frames
                .last()
                .is_some_and(|parent| parent.children.contains_key(&name));
            if !seen {
                self.attach(name, value.clone(), false)?;
            }
        }
        // The record's nodes leave with it.
        self.live = self.live.saturating_sub(nodes(&value));
        match value {
            Value::Null => {}
            Value::Object(_) => self.records.push(value),
            _ => {
                return Err(Error::validation(
                    "record_not_a_mapping",
                    "a record is text where fields were expected",
                ));
            }
        }
        Ok(())
    }

    fn attach(&mut self, name: String, value: Value, list: bool) -> Result<()> {
        let Some(parent) = self.frames.last_mut() else {
            return Err(invalid("an element ends that never began"));
        };
        match parent.children.get_mut(&name) {
            Some(Value::Array(items)) => items.push(value),
            Some(existing) => {
                let first = existing.take();
                *existing = Value::Array(vec![first, value]);
            }
            None => {
                let value = if list {
                    Value::Array(vec![value])
                } else {
                    value
                };
                parent.children.insert(name, value);
            }
        }
        Ok(())
    }

    /// Whether the open element is one that always becomes a list.
    fn is_list(&self) -> bool {
        self.options.force_list.iter().any(|path| {
            self.frames.len() > path.len()
                && self
                    .frames
                    .iter()
                    .rev()
                    .zip(path.iter().rev())
                    .all(|(frame, name)| frame.name == *name)
        })
    }

    /// XML inside the text of the open element takes the text's place.
    fn read_nested(&mut self) -> Result<()> {
        let Some(frame) = self.frames.last_mut() else {
            return Ok(());
        };
        if !self.options.nested_xml.contains(&frame.name)
            || !frame.text.trim_start().starts_with('<')
        {
            return Ok(());
        }
        if self.nested >= MAX_NESTED {
            return Err(invalid("it holds XML within XML within XML"));
        }
        let inner = std::mem::take(&mut frame.text);
        self.nested += 1;
        let done = self.document(inner.trim_start());
        self.nested -= 1;
        done
    }
}

fn nodes(value: &Value) -> usize {
    match value {
        Value::Array(items) => items.iter().map(nodes).sum(),
        Value::Object(map) => 1 + map.values().map(nodes).sum::<usize>(),
        _ => 1,
    }
}

fn invalid(detail: &str) -> Error {
    Error::validation(
        "xml_invalid",
        format!("the body is not well-formed XML: {detail}"),
    )
}

fn truncated() -> Error {
    Error::new(
        ErrorClass::TargetError,
        "xml_truncated",
        "the body ends before its XML does",
    )
}

/// The parser's own texts may quote the body, so they are not passed on.
fn of_parser(error: XmlError) -> Error {
    match error {
        XmlError::Syntax(
            SyntaxError::UnclosedTag
            | SyntaxError::UnclosedSingleQuotedAttributeValue
            | SyntaxError::UnclosedDoubleQuotedAttributeValue
            | SyntaxError::UnclosedComment
            | SyntaxError::UnclosedCData
            | SyntaxError::UnclosedPI
            | SyntaxError::UnclosedXmlDecl,
        )
        | XmlError::IllFormed(IllFormedError::MissingEndTag(_)) => truncated(),
        XmlError::Syntax(SyntaxError::UnclosedDoctype) => Error::validation(
            "xml_doctype_refused",
            "the body has a document type declaration, which is never accepted",
        ),
        XmlError::IllFormed(_) => invalid("tags do not match"),
        XmlError::InvalidAttr(_) => invalid("an attribute is malformed"),
        XmlError::Escape(_) => invalid("a reference is malformed"),
        _ => invalid("it breaks the grammar"),
    }
}
