//! Functions Sluice adds to the mapping language: what every system's data needs again and again.
//! All of them are total: for input they cannot understand they return null and never fail.
//! `docs/mapping.md` shows each with an example.

mod contact;
mod time;
mod values;

use vrl::compiler::prelude::*;

/// All functions a mapping can use: the standard ones that reach neither network nor system nor
/// environment and give the same answer every time, and Sluice's own.
pub(crate) fn all() -> Vec<Box<dyn Function>> {
    let standard = vrl::stdlib::all()
        .into_iter()
        .filter(|function| !REFUSED.contains(&function.identifier()));
    let own = FUNCTIONS
        .iter()
        .map(|function| Box::new(*function) as Box<dyn Function>);
    standard.chain(own).collect()
}

/// Standard functions that are left out. A mapping must give the same result for the same record,
/// now and when it is reprocessed, so chance and clock are out; logging could show personal data.
const REFUSED: [&str; 13] = [
    "now",
    "random_bool",
    "random_bytes",
    "random_float",
    "random_int",
    "uuid_v4",
    "uuid_v7",
    "uuid_from_friendly_id",
    "log",
    "dns_lookup",
    "reverse_dns",
    "http_request",
    "get_env_var",
];

const VALUE: Parameter = Parameter::required("value", kind::ANY, "What to look at.");

const FUNCTIONS: [Own; 9] = [
    Own {
        name: "text",
        usage: "The trimmed text of a value: a text, a number, or the `#text` of an XML element. Null when nothing is left.",
        parameters: &[VALUE],
        kind: kind::BYTES | kind::NULL,
        run: |arguments| values::text(arguments.first()).map_or(Value::Null, Value::from),
    },
    Own {
        name: "many",
        usage: "A list: the value itself when it is one, empty for null, else the value as its only item.",
        parameters: &[VALUE],
        kind: kind::ARRAY,
        run: |arguments| values::many(arguments.first()),
    },
    Own {
        name: "flag",
        usage: "True or false from true, True, T, Y, yes, 1 and their opposites; null for anything else.",
        parameters: &[VALUE],
        kind: kind::BOOLEAN | kind::NULL,
        run: |arguments| values::flag(arguments.first()).map_or(Value::Null, Value::Boolean),
    },
    Own {
        name: "number",
        usage: "The number in a text such as 1.00 or 1,340.50; whole numbers as integers; null for anything else.",
        parameters: &[VALUE],
        kind: kind::INTEGER | kind::FLOAT | kind::NULL,
        run: |arguments| values::number(arguments.first()),
    },
    Own {
        name: "day",
        usage: "The day (2025-03-05) of a date or date-time in ISO form or as M/D/YYYY; null when impossible or outside of 1900 to 2200.",
        parameters: &[VALUE],
        kind: kind::BYTES | kind::NULL,
        run: |arguments| time::day(arguments.first()).map_or(Value::Null, Value::from),
    },
    Own {
        name: "instant",
        usage: "The UTC time (2025-03-05T22:02:31Z) of a date or date-time in ISO form or as M/D/YYYY, read in a zone unless it has its own offset; null when impossible or outside of 1900 to 2200.",
        parameters: &[
            VALUE,
            Parameter::required("zone", kind::ANY, "IANA zone, such as America/Chicago."),
        ],
        kind: kind::BYTES | kind::NULL,
        run: |arguments| {
            time::instant(arguments.first(), arguments.get(1)).map_or(Value::Null, Value::from)
        },
    },
    Own {
        name: "in_zone",
        usage: "A time with the offset of a zone (2025-03-05T16:02:31-06:00); null when either is not understood.",
        parameters: &[
            VALUE,
            Parameter::required("zone", kind::ANY, "IANA zone, such as America/Chicago."),
        ],
        kind: kind::BYTES | kind::NULL,
        run: |arguments| {
            time::in_zone(arguments.first(), arguments.get(1)).map_or(Value::Null, Value::from)
        },
    },
    Own {
        name: "email",
        usage: "The e-mail address a text consists of; null for anything else.",
        parameters: &[VALUE],
        kind: kind::BYTES | kind::NULL,
        run: |arguments| contact::email(arguments.first()).map_or(Value::Null, Value::from),
    },
    Own {
        name: "phone",
        usage: "The E.164 form (+15550104477) of the phone number a text consists of; numbers without a country are North American; null for anything else.",
        parameters: &[VALUE],
        kind: kind::BYTES | kind::NULL,
        run: |arguments| contact::phone(arguments.first()).map_or(Value::Null, Value::from),
    },
];

/// A total function of values.
#[derive(Debug, Clone, Copy)]
struct Own {
    name: &'static str,
    usage: &'static str,
    parameters: &'static [Parameter],
    kind: u16,
    run: fn(&[Value]) -> Value,
}

impl Function for Own {
    fn identifier(&self) -> &'static str {
        self.name
    }

    fn summary(&self) -> &'static str {
        self.usage
    }

    fn usage(&self) -> &'static str {
        self.usage
    }

    fn category(&self) -> &'static str {
        Category::Convert.as_ref()
    }

    fn return_kind(&self) -> u16 {
        self.kind
    }

    fn parameters(&self) -> &'static [Parameter] {
        self.parameters
    }

    fn examples(&self) -> &'static [Example] {
        &[]
    }

    fn compile(
        &self,
        _state: &state::TypeState,
        _context: &mut FunctionCompileContext,
        arguments: ArgumentList,
    ) -> Compiled {
        let arguments = self
            .parameters
            .iter()
            .map(|parameter| arguments.required(parameter.keyword))
            .collect();
        Ok(Call {
            arguments,
            kind: self.kind,
            run: self.run,
        }
        .as_expr())
    }
}

#[derive(Debug, Clone)]
struct Call {
    arguments: Vec<Box<dyn Expression>>,
    kind: u16,
    run: fn(&[Value]) -> Value,
}

impl FunctionExpression for Call {
    fn resolve(&self, context: &mut Context) -> Resolved {
        let arguments = self
            .arguments
            .iter()
            .map(|argument| argument.resolve(context))
            .collect::<Result<Vec<_>, _>>()?;
        Ok((self.run)(&arguments))
    }

    fn type_def(&self, _: &state::TypeState) -> TypeDef {
        let mut kind = Kind::never();
        for (bit, add) in [
            (kind::BYTES, Kind::bytes()),
            (kind::NULL, Kind::null()),
            (kind::BOOLEAN, Kind::boolean()),
            (kind::INTEGER, Kind::integer()),
            (kind::FLOAT, Kind::float()),
            (kind::ARRAY, Kind::array(Collection::any())),
        ] {
            if self.kind & bit != 0 {
                kind = kind.union(add);
            }
        }
        TypeDef::from(kind).infallible()
    }
}
