//! Reads the JSON of a page into the text serde_json would print for it, and notes where records
//! and their fields stand in that.

use std::{fmt, ops::Range, sync::Arc};

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::row::{Field, Row, Table};

/// A page that stays text.
#[derive(Debug)]
pub struct Rows {
    /// The mapping at its top level; the first one of a list.
    pub body: Row,
    pub is_list: bool,
    pub records: Vec<Row>,
}

/// Reads a body whose records stand at `path`, or that with an empty path is a list of records.
/// `None` when it is anything else (no JSON, repeated keys, records that are no mappings): reading
/// it into values tells more.
pub fn read(text: &str, path: &[String]) -> Option<Rows> {
    let mut writer = Writer {
        out: Vec::with_capacity(text.len()),
        ..Writer::default()
    };
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let top = Node {
        writer: &mut writer,
        role: Role::Top(path),
    };
    top.deserialize(&mut deserializer).ok()?;
    deserializer.end().ok()?;
    let Writer {
        out,
        mut fields,
        top,
        records,
        ..
    } = writer;
    let is_list = top.is_none();
    // Nothing alone is no record; in a list at a path it is one.
    if is_list && records.iter().any(|(_, fields)| fields.is_empty()) {
        return None;
    }
    let (top, own) = match top {
        Some((top, own)) => {
            let from = u32::try_from(fields.len()).ok()?;
            fields.extend(own);
            (top, from..u32::try_from(fields.len()).ok()?)
        }
        None => records.first()?.clone(),
    };
    let table = Arc::new(Table {
        text: String::from_utf8(out).ok()?,
        fields,
    });
    Some(Rows {
        body: Row::new(&table, top, own),
        is_list,
        records: records
            .into_iter()
            .map(|(text, fields)| Row::new(&table, text, fields))
            .collect(),
    })
}

#[derive(Default)]
struct Writer {
    out: Vec<u8>,
    /// The fields of all records.
    fields: Vec<Field>,
    /// Hashes of the keys of the mappings being read.
    keys: Vec<u64>,
    /// The mapping at the top with its fields.
    top: Option<(Range<u32>, Vec<Field>)>,
    records: Vec<(Range<u32>, Range<u32>)>,
}

/// What a value is.
#[derive(Clone, Copy)]
enum Role<'p> {
    /// The whole body; records stand at this path.
    Top(&'p [String]),
    /// On the way to the records, with the rest of the path.
    Way(&'p [String]),
    Record,
    Other,
}

struct Node<'w, 'p> {
    writer: &'w mut Writer,
    role: Role<'p>,
}

/// The shape of a body this cannot read; the text is never shown.
fn other_shape<E: Error>() -> E {
    E::custom("another shape")
}

impl Writer {
    fn place<E: Error>(&self) -> Result<u32, E> {
        u32::try_from(self.out.len()).map_err(|_| other_shape())
    }

    fn json<E: Error>(&mut self, value: &(impl serde::Serialize + ?Sized)) -> Result<(), E> {
        serde_json::to_writer(&mut self.out, value).map_err(E::custom)
    }

    /// A text that stood in JSON without escapes needs none here.
    fn plain(&mut self, text: &str) {
        self.out.push(b'"');
        self.out.extend_from_slice(text.as_bytes());
        self.out.push(b'"');
    }

    fn comma(&mut self, first: &mut bool) {
        if !std::mem::take(first) {
            self.out.push(b',');
        }
    }

    /// Forgets the keys of a mapping that was read.
    fn keys_repeat(&mut self, from: usize) -> bool {
        let keys = self.keys.get_mut(from..).unwrap_or_default();
        keys.sort_unstable();
        let repeat = keys.windows(2).any(|pair| pair.first() == pair.last());
        self.keys.truncate(from);
        repeat
    }
}

impl<'de> DeserializeSeed<'de> for Node<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Node<'_, '_> {
    fn leaf<E: Error>(self, value: &(impl serde::Serialize + ?Sized)) -> Result<(), E> {
        match self.role {
            Role::Top(_) | Role::Record => Err(other_shape()),
            Role::Way(_) | Role::Other => self.writer.json(value),
        }
    }
}

impl<'de> Visitor<'de> for Node<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.leaf(&value)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.leaf(&value)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.leaf(&value)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.leaf(&value)
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.leaf(&())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.leaf(text)
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<(), E> {
        match self.role {
            Role::Other => {
                self.writer.plain(text);
                Ok(())
            }
            _ => self.leaf(text),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let role = match self.role {
            Role::Top([]) | Role::Way([]) => Role::Record,
            Role::Other => Role::Other,
            Role::Top(_) | Role::Way(_) | Role::Record => return Err(other_shape()),
        };
        self.writer.out.push(b'[');
        let mut first = true;
        loop {
            let item = Item {
                writer: &mut *self.writer,
                role,
                first: &mut first,
            };
            if items.next_element_seed(item)?.is_none() {
                break;
            }
        }
        self.writer.out.push(b']');
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { writer, role } = self;
        let (wanted, on_way) = match role {
            Role::Top([]) => return Err(other_shape()),
            Role::Top([wanted, rest @ ..]) | Role::Way([wanted, rest @ ..]) => {
                (Some(wanted.as_str()), Role::Way(rest))
            }
            Role::Way([]) | Role::Record | Role::Other => (None, Role::Other),
        };
        let start = writer.place()?;
        let keys = writer.keys.len();
        let fields_from = writer.fields.len();
        let mut own = Vec::new();
        let mut first = true;
        writer.out.push(b'{');
        loop {
            let key = Key {
                writer: &mut *writer,
                wanted,
                first: &mut first,
            };
            let Some(key) = map.next_key_seed(key)? else {
                break;
            };
            writer.out.push(b':');
            let value = writer.place()?;
            map.next_value_seed(Node {
                writer: &mut *writer,
                role: if key.wanted { on_way } else { Role::Other },
            })?;
            let field = Field {
                key: key.range,
                escaped: key.escaped,
                value: value..writer.place()?,
            };
            match role {
                Role::Top(_) => own.push(field),
                Role::Way([]) | Role::Record => writer.fields.push(field),
                Role::Way(_) | Role::Other => {}
            }
        }
        writer.out.push(b'}');
        if writer.keys_repeat(keys) {
            return Err(other_shape());
        }
        let text = start..writer.place()?;
        match role {
            Role::Top(_) => writer.top = Some((text, own)),
            Role::Record => writer.record(text, fields_from)?,
            // A mapping alone is one record, unless it is empty.
            Role::Way([]) if !first => writer.record(text, fields_from)?,
            Role::Way(_) | Role::Other => {}
        }
        Ok(())
    }
}

impl Writer {
    fn record<E: Error>(&mut self, text: Range<u32>, fields: usize) -> Result<(), E> {
        let place = |length| u32::try_from(length).map_err(|_| other_shape());
        let fields = place(fields)?..place(self.fields.len())?;
        self.records.push((text, fields));
        Ok(())
    }
}

/// An item of a list.
struct Item<'w, 'p> {
    writer: &'w mut Writer,
    role: Role<'p>,
    first: &'w mut bool,
}

impl<'de> DeserializeSeed<'de> for Item<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        self.writer.comma(self.first);
        let node = Node {
            writer: self.writer,
            role: self.role,
        };
        node.deserialize(deserializer)
    }
}

/// A key of a mapping.
struct Key<'w, 'p> {
    writer: &'w mut Writer,
    wanted: Option<&'p str>,
    first: &'w mut bool,
}

/// A key as it was written.
struct Written {
    range: Range<u32>,
    escaped: bool,
    wanted: bool,
}

impl Key<'_, '_> {
    fn written<E: Error>(
        self,
        text: &str,
        write: impl FnOnce(&mut Writer) -> Result<(), E>,
    ) -> Result<Written, E> {
        let Self { writer, wanted, .. } = self;
        writer.comma(self.first);
        let start = writer.place()? + 1;
        write(writer)?;
        let range = start..writer.place()? - 1;
        writer.keys.push(fnv(text));
        Ok(Written {
            escaped: (range.end - range.start) as usize != text.len(),
            range,
            wanted: wanted == Some(text),
        })
    }
}

impl<'de> DeserializeSeed<'de> for Key<'_, '_> {
    type Value = Written;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Written, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Key<'_, '_> {
    type Value = Written;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Written, E> {
        self.written(text, |writer| writer.json(text))
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Written, E> {
        self.written(text, |writer| {
            writer.plain(text);
            Ok(())
        })
    }
}

/// The FNV-1a hash. A collision is no harm: the body is read into values then.
fn fnv(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
