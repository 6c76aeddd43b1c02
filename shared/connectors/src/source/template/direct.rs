//! Templates evaluated without the engine.
//!
//! Most templates that are evaluated for each record only look at fields, compare them and put
//! them between texts. Starting the engine costs more than doing that, so its syntax tree is walked
//! here. Whatever is not exactly understood, at load time or at run time, is left to the engine.

use minijinja::{
    machinery::{
        ast::{BinOpKind, CallArg, CompareOpKind, Expr as Parsed, Stmt, UnaryOpKind},
        parse,
    },
    syntax::SyntaxConfig,
    value::{Value as Jinja, ValueKind},
};

use super::python;

/// A template of texts and simple expressions.
#[derive(Debug)]
pub(super) struct Direct(Vec<Part>);

#[derive(Debug)]
enum Part {
    Text(Box<str>),
    Value(Expr),
}

#[derive(Debug)]
enum Expr {
    Constant(Jinja),
    Name(Box<str>),
    /// `a.b`, and `a['b']`, which for mappings is the same.
    Field(Box<Expr>, Box<str>),
    /// `a.get('b')`, with what to give when there is none.
    Get(Box<Expr>, Box<str>, Jinja),
    Compare(Box<Expr>, Comparison, Box<Expr>),
    And(Box<Expr>, Box<Expr>),
    Or(Box<Expr>, Box<Expr>),
    Not(Box<Expr>),
    If(Box<[Expr; 3]>),
    Text(TextFilter, Box<Expr>),
}

#[derive(Debug, Clone, Copy)]
enum Comparison {
    Equal,
    Unequal,
    Less,
    AtMost,
    More,
    AtLeast,
}

/// Filters of texts.
#[derive(Debug, Clone, Copy)]
enum TextFilter {
    Lower,
    Upper,
    Trim,
}

/// Why an evaluation gives nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// The engine is needed after all.
    Engine,
    /// What is not there was put in order. The engine would give it a place, Python does not.
    Undefined,
    /// Values of kinds that have no order among one another, likewise.
    Mismatch,
}

/// What a template gives.
pub(super) enum Given {
    /// Of a template that is one expression and nothing else.
    Value(Jinja),
    Text(String),
}

impl Given {
    pub fn into_text(self) -> String {
        match self {
            Self::Value(value) => python::jinja_text(&value),
            Self::Text(text) => text,
        }
    }
}

impl Direct {
    /// `None` when the engine is needed. `is_name` tells names of the scope from the engine's own.
    pub fn compile(source: &str, is_name: impl Fn(&str) -> bool) -> Option<Self> {
        let parsed = parse(source, "direct", SyntaxConfig::default()).ok()?;
        let Stmt::Template(template) = &parsed else {
            return None;
        };
        let parts = template.children.iter().map(|part| match part {
            Stmt::EmitRaw(text) => Some(Part::Text(text.raw.into())),
            Stmt::EmitExpr(emitted) => expression(&emitted.expr, &is_name).map(Part::Value),
            _ => None,
        });
        parts.collect::<Option<_>>().map(Self)
    }

    /// What it gives, or why that is for somebody else to say.
    pub fn given<'a>(&self, names: &impl Fn(&str) -> Option<&'a Jinja>) -> Result<Given, Stop> {
        if let [Part::Value(only)] = self.0.as_slice() {
            return only.value(names).map(Given::Value);
        }
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Text(part) => text.push_str(part),
                Part::Value(value) => python::write_jinja_text(&value.value(names)?, &mut text),
            }
            if text.len() > super::MAX_OUTPUT {
                return Err(Stop::Engine);
            }
        }
        Ok(Given::Text(text))
    }
}

fn expression(parsed: &Parsed<'_>, is_name: &impl Fn(&str) -> bool) -> Option<Expr> {
    let of = |parsed: &Parsed<'_>| expression(parsed, is_name).map(Box::new);
    Some(match parsed {
        Parsed::Const(constant) => Expr::Constant(constant.value.clone()),
        Parsed::Var(name) if is_name(name.id) => Expr::Name(name.id.into()),
        Parsed::GetAttr(field) => Expr::Field(of(&field.expr)?, field.name.into()),
        Parsed::GetItem(field) => Expr::Field(of(&field.expr)?, text_of(&field.subscript_expr)?),
        Parsed::Call(call) => {
            let Parsed::GetAttr(method) = &call.expr else {
                return None;
            };
            let (field, default) = match (method.name, call.args.as_slice()) {
                ("get", [CallArg::Pos(field)]) => (field, Jinja::from(())),
                ("get", [CallArg::Pos(field), CallArg::Pos(Parsed::Const(default))]) => {
                    (field, default.value.clone())
                }
                _ => return None,
            };
            Expr::Get(of(&method.expr)?, text_of(field)?, default)
        }
        Parsed::Compare(compare) => match compare.ops.as_slice() {
            [only] => {
                let comparison = match only.op {
                    CompareOpKind::Eq => Comparison::Equal,
                    CompareOpKind::Ne => Comparison::Unequal,
                    CompareOpKind::Lt => Comparison::Less,
                    CompareOpKind::Lte => Comparison::AtMost,
                    CompareOpKind::Gt => Comparison::More,
                    CompareOpKind::Gte => Comparison::AtLeast,
                    CompareOpKind::In | CompareOpKind::NotIn => return None,
                };
                Expr::Compare(of(&compare.expr)?, comparison, of(&only.expr)?)
            }
            _ => return None,
        },
        Parsed::BinOp(operation) => {
            let comparison = match operation.op {
                BinOpKind::ScAnd => {
                    return Some(Expr::And(of(&operation.left)?, of(&operation.right)?));
                }
                BinOpKind::ScOr => {
                    return Some(Expr::Or(of(&operation.left)?, of(&operation.right)?));
                }
                BinOpKind::Eq => Comparison::Equal,
                BinOpKind::Ne => Comparison::Unequal,
                BinOpKind::Lt => Comparison::Less,
                BinOpKind::Lte => Comparison::AtMost,
                BinOpKind::Gt => Comparison::More,
                BinOpKind::Gte => Comparison::AtLeast,
                _ => return None,
            };
            Expr::Compare(of(&operation.left)?, comparison, of(&operation.right)?)
        }
        Parsed::UnaryOp(operation) => match operation.op {
            UnaryOpKind::Not => Expr::Not(of(&operation.expr)?),
            UnaryOpKind::Neg => return None,
        },
        Parsed::IfExpr(choice) => Expr::If(Box::new([
            expression(&choice.test_expr, is_name)?,
            expression(&choice.true_expr, is_name)?,
            expression(choice.false_expr.as_ref()?, is_name)?,
        ])),
        Parsed::Filter(filter) if filter.args.is_empty() => {
            let kind = match filter.name {
                "lower" => TextFilter::Lower,
                "upper" => TextFilter::Upper,
                "trim" => TextFilter::Trim,
                _ => return None,
            };
            Expr::Text(kind, of(filter.expr.as_ref()?)?)
        }
        _ => return None,
    })
}

/// A constant text.
fn text_of(parsed: &Parsed<'_>) -> Option<Box<str>> {
    match parsed {
        Parsed::Const(constant) => constant.value.as_str().map(Into::into),
        _ => None,
    }
}

impl Expr {
    fn value<'a>(&self, names: &impl Fn(&str) -> Option<&'a Jinja>) -> Result<Jinja, Stop> {
        Ok(match self {
            Self::Constant(value) => value.clone(),
            Self::Name(name) => names(name).ok_or(Stop::Engine)?.clone(),
            Self::Field(of, name) => field(&of.value(names)?, name)?,
            Self::Get(of, name, default) => {
                let found = field(&of.value(names)?, name)?;
                if found.is_undefined() {
                    default.clone()
                } else {
                    found
                }
            }
            Self::Compare(left, comparison, right) => {
                let (left, right) = (left.value(names)?, right.value(names)?);
                if !matches!(comparison, Comparison::Equal | Comparison::Unequal) {
                    ordered(&left, &right)?;
                }
                Jinja::from(match comparison {
                    Comparison::Equal => left == right,
                    Comparison::Unequal => left != right,
                    Comparison::Less => left < right,
                    Comparison::AtMost => left <= right,
                    Comparison::More => left > right,
                    Comparison::AtLeast => left >= right,
                })
            }
            Self::And(left, right) => match left.value(names)? {
                left if left.is_true() => right.value(names)?,
                left => left,
            },
            Self::Or(left, right) => match left.value(names)? {
                left if left.is_true() => left,
                _ => right.value(names)?,
            },
            Self::Not(of) => Jinja::from(!of.value(names)?.is_true()),
            Self::If(parts) => {
                let [condition, then, otherwise] = &**parts;
                match condition.value(names)?.is_true() {
                    true => then.value(names)?,
                    false => otherwise.value(names)?,
                }
            }
            Self::Text(filter, of) => {
                let value = of.value(names)?;
                let text = value.as_str().filter(|_| !value.is_safe());
                let text = text.ok_or(Stop::Engine)?;
                match filter {
                    TextFilter::Lower => text.to_lowercase().into(),
                    TextFilter::Upper => text.to_uppercase().into(),
                    TextFilter::Trim => text.trim().into(),
                }
            }
        })
    }
}

/// A field of a mapping, or undefined; parts of what is no mapping are for the engine.
fn field(of: &Jinja, name: &str) -> Result<Jinja, Stop> {
    match of.kind() {
        ValueKind::Map => of.get_attr(name).map_err(|_| Stop::Engine),
        _ => Err(Stop::Engine),
    }
}

/// Whether Python has an order for two values.
fn ordered(left: &Jinja, right: &Jinja) -> Result<(), Stop> {
    use ValueKind::{Bool, Iterable, Number, Plain, Seq, String, Undefined};
    match (left.kind(), right.kind()) {
        (Undefined, _) | (_, Undefined) => Err(Stop::Undefined),
        (Number | Bool, Number | Bool) | (String, String) => Ok(()),
        // Dates and lists.
        (Plain | Seq | Iterable, Plain | Seq | Iterable) => Err(Stop::Engine),
        _ => Err(Stop::Mismatch),
    }
}
