//! What fields may hold, as `vocabulary.txt` writes it.
//!
//! A line is a type: `Type: field:shape field!:shape`. `!` behind a field: it must be there; behind
//! a type: it has no other fields; `~` behind a type: it need not name its `type`; `?`: it has none.
//! A shape is one or more of these, with `|` between them: `str`, `int`, `num` (both with `>` or `>=` and a limit),
//! `bool`, `map`, `any`, `=A,B` (one of these texts), `Type`, `{shape}` (a mapping of them),
//! `[shape]` (a list of them; with `+` not empty, with `!` none twice).

use std::collections::BTreeMap;

use serde_json::Value;

/// One way of filling a field.
#[derive(Debug)]
pub(super) enum Kind {
    Text,
    Number { whole: bool, limit: Option<Limit> },
    Flag,
    Mapping,
    Any,
    OneOf(Vec<&'static str>),
    Component(&'static str),
    MappingOf(Shape),
    List(List),
}

#[derive(Debug)]
pub(super) struct Limit {
    least: f64,
    itself: bool,
}

#[derive(Debug)]
pub(super) struct List {
    pub of: Shape,
    pub some: bool,
    pub distinct: bool,
}

/// The ways of filling a field.
pub(super) type Shape = Vec<Kind>;

#[derive(Debug)]
pub(super) struct Field {
    pub required: bool,
    pub shape: Shape,
}

/// Whether a component names its `type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Named {
    Must,
    May,
    /// `type` means nothing in it.
    Free,
}

/// What a type of component is made of.
#[derive(Debug)]
pub(super) struct Type {
    pub fields: BTreeMap<&'static str, Field>,
    pub named: Named,
    /// Whether other fields are refused.
    pub closed: bool,
}

/// Reads a line of the vocabulary.
pub(super) fn read(line: &'static str) -> Option<(&'static str, Type)> {
    let (name, fields) = line.split_once(':')?;
    let fields = fields.split_whitespace().filter_map(|field| {
        let (name, shape) = field.split_once(':')?;
        let field = Field {
            required: name.ends_with('!'),
            shape: shape_of(shape),
        };
        Some((name.trim_end_matches('!'), field))
    });
    let read = Type {
        fields: fields.collect(),
        named: match name {
            name if name.contains('~') => Named::May,
            name if name.contains('?') => Named::Free,
            _ => Named::Must,
        },
        closed: name.contains('!'),
    };
    Some((name.trim_end_matches(['?', '~', '!']), read))
}

fn shape_of(text: &'static str) -> Shape {
    let mut depth = 0_usize;
    text.split(move |c: char| {
        match c {
            '[' | '{' => depth += 1,
            ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == '|' && depth == 0
    })
    .map(kind)
    .collect()
}

fn kind(text: &'static str) -> Kind {
    if let Some(inside) = text.strip_prefix('{') {
        return Kind::MappingOf(shape_of(inside.trim_end_matches('}')));
    }
    if let Some((inside, flags)) = text.strip_prefix('[').and_then(|it| it.rsplit_once(']')) {
        return Kind::List(List {
            of: shape_of(inside),
            some: flags.contains('+'),
            distinct: flags.contains('!'),
        });
    }
    if let Some(choices) = text.strip_prefix('=') {
        return Kind::OneOf(choices.split(',').collect());
    }
    let (name, limit) = match text.split_once('>') {
        None => (text, None),
        Some((name, limit)) => {
            let limit = Limit {
                least: limit.trim_start_matches('=').parse().unwrap_or_default(),
                itself: limit.starts_with('='),
            };
            (name, Some(limit))
        }
    };
    match name {
        "str" => Kind::Text,
        "int" => Kind::Number { whole: true, limit },
        "num" => Kind::Number {
            whole: false,
            limit,
        },
        "bool" => Kind::Flag,
        "map" => Kind::Mapping,
        "any" => Kind::Any,
        name => Kind::Component(name),
    }
}

impl Kind {
    /// Whether it is filled by a value that is neither a list nor a mapping.
    pub(super) fn takes(&self, value: &Value) -> bool {
        match (self, value) {
            (Self::Any, _) | (Self::Text, Value::String(_)) | (Self::Flag, Value::Bool(_)) => true,
            (Self::OneOf(choices), Value::String(text)) => choices.contains(&text.as_str()),
            (Self::Number { whole, limit }, Value::Number(number)) => {
                let number = number.as_f64().unwrap_or(f64::NAN);
                let within = limit.as_ref().is_none_or(|limit| {
                    number > limit.least || (limit.itself && number >= limit.least)
                });
                within && (!whole || number.fract() == 0.0)
            }
            _ => false,
        }
    }

    /// For error texts, behind "must be".
    pub(super) fn told(&self) -> String {
        match self {
            Self::Text => "a text".to_owned(),
            Self::Flag => "true or false".to_owned(),
            Self::Any => "a value".to_owned(),
            Self::Mapping => "a mapping".to_owned(),
            Self::OneOf(choices) => format!("one of {}", choices.join(", ")),
            Self::Component(name) => format!("a {name}"),
            Self::MappingOf(shape) => format!("a mapping ({} in each)", told(shape)),
            Self::List(list) => format!("a list ({} in each)", told(&list.of)),
            Self::Number { whole, limit } => {
                let what = if *whole { "a whole number" } else { "a number" };
                match limit {
                    None => what.to_owned(),
                    Some(limit) if limit.itself => format!("{what} of at least {}", limit.least),
                    Some(limit) => format!("{what} above {}", limit.least),
                }
            }
        }
    }
}

/// For error texts, behind "must be".
pub(super) fn told(shape: &Shape) -> String {
    let all: Vec<String> = shape.iter().map(Kind::told).collect();
    all.join(" or ")
}
