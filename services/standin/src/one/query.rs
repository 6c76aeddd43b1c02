//! As much of the GraphQL language as callers of ONE use: one operation, variables,
//! one root field, nested selections.

use std::collections::BTreeMap;

/// A parsed operation.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Operation {
    pub mutation: bool,
    /// Declared variables and their types as written.
    pub variables: BTreeMap<String, String>,
    /// The root field.
    pub field: Selected,
}

/// A selected field.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Selected {
    pub name: String,
    /// Argument name to value: `$variable` or a number as written.
    pub arguments: BTreeMap<String, String>,
    pub fields: Vec<Selected>,
}

impl Selected {
    /// The selection inside a field.
    pub(crate) fn field(&self, name: &str) -> Option<&Self> {
        self.fields.iter().find(|field| field.name == name)
    }
}

/// Reads a document.
///
/// # Errors
/// A syntax message.
pub(crate) fn parse(text: &str) -> Result<Operation, String> {
    let tokens = tokens(text)?;
    let mut parser = Parser {
        tokens,
        at: 0,
        depth: 0,
    };
    parser.operation()
}

fn tokens(text: &str) -> Result<Vec<String>, String> {
    let mut tokens = Vec::new();
    let mut characters = text.chars().peekable();
    while let Some(first) = characters.next() {
        match first {
            ' ' | '\t' | '\r' | '\n' | ',' | '\u{feff}' => {}
            '#' => while characters.next_if(|c| *c != '\n').is_some() {},
            '{' | '}' | '(' | ')' | '[' | ']' | ':' | '!' | '$' | '=' => {
                tokens.push(first.to_string())
            }
            '_' | '-' | '0'..='9' | 'a'..='z' | 'A'..='Z' => {
                let mut word = first.to_string();
                while let Some(next) =
                    characters.next_if(|c| c.is_ascii_alphanumeric() || *c == '_')
                {
                    word.push(next);
                }
                tokens.push(word);
            }
            other => return Err(format!("Syntax Error: Unexpected character: {other:?}.")),
        }
    }
    Ok(tokens)
}

struct Parser {
    tokens: Vec<String>,
    at: usize,
    depth: usize,
}

impl Parser {
    fn peek(&self) -> &str {
        self.tokens.get(self.at).map_or("<EOF>", String::as_str)
    }

    fn next(&mut self) -> String {
        let token = self.peek().to_owned();
        self.at += 1;
        token
    }

    fn take(&mut self, wanted: &str) -> bool {
        let found = self.peek() == wanted;
        if found {
            self.at += 1;
        }
        found
    }

    fn expect(&mut self, wanted: &str) -> Result<(), String> {
        if self.take(wanted) {
            return Ok(());
        }
        Err(format!(
            "Syntax Error: Expected {wanted:?}, found {:?}.",
            self.peek()
        ))
    }

    fn name(&mut self) -> Result<String, String> {
        let token = self.next();
        if token.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
            Ok(token)
        } else {
            Err(format!("Syntax Error: Expected Name, found {token:?}."))
        }
    }

    fn operation(&mut self) -> Result<Operation, String> {
        let mut mutation = false;
        let mut variables = BTreeMap::new();
        if self.peek() != "{" {
            match self.name()?.as_str() {
                "query" => {}
                "mutation" => mutation = true,
                other => return Err(format!("Syntax Error: Unexpected Name {other:?}.")),
            }
            if self.peek() != "{" && self.peek() != "(" {
                self.name()?;
            }
            if self.take("(") {
                while !self.take(")") {
                    self.expect("$")?;
                    let name = self.name()?;
                    self.expect(":")?;
                    variables.insert(name, self.kind()?);
                }
            }
        }
        let mut fields = self.selection()?;
        if self.peek() != "<EOF>" {
            return Err(format!("Syntax Error: Unexpected {:?}.", self.peek()));
        }
        match (fields.pop(), fields.is_empty()) {
            (Some(field), true) => Ok(Operation {
                mutation,
                variables,
                field,
            }),
            _ => Err("exactly one root field is supported".into()),
        }
    }

    fn kind(&mut self) -> Result<String, String> {
        let mut kind = if self.take("[") {
            let inner = self.kind()?;
            self.expect("]")?;
            format!("[{inner}]")
        } else {
            self.name()?
        };
        if self.take("!") {
            kind.push('!');
        }
        Ok(kind)
    }

    fn selection(&mut self) -> Result<Vec<Selected>, String> {
        self.expect("{")?;
        self.depth += 1;
        if self.depth > 12 {
            return Err("the query is nested too deeply".into());
        }
        let mut fields = Vec::new();
        while !self.take("}") {
            let mut field = Selected {
                name: self.name()?,
                ..Selected::default()
            };
            if self.take("(") {
                while !self.take(")") {
                    let name = self.name()?;
                    self.expect(":")?;
                    let value = if self.take("$") {
                        format!("${}", self.name()?)
                    } else {
                        self.next()
                    };
                    field.arguments.insert(name, value);
                }
            }
            if self.peek() == "{" {
                field.fields = self.selection()?;
            }
            fields.push(field);
        }
        self.depth -= 1;
        Ok(fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_a_mutation() {
        let operation = parse(
            "mutation($in:[CreateLocationInput!]!){createLocation(input:$in){results{index id validationMessages{code}}}}",
        )
        .unwrap();
        assert!(operation.mutation);
        assert_eq!(operation.variables["in"], "[CreateLocationInput!]!");
        assert_eq!(operation.field.name, "createLocation");
        assert_eq!(operation.field.arguments["input"], "$in");
        let results = operation.field.field("results").unwrap();
        assert_eq!(results.fields.len(), 3);
        assert!(
            results
                .field("validationMessages")
                .unwrap()
                .field("code")
                .is_some()
        );
    }

    #[test]
    fn reads_a_named_query_with_comments_and_literals() {
        let operation = parse("query Find($filter: LocationFilter!) {\n # all\n locations(filter: $filter, first: 5) { pageInfo { endCursor } }\n}").unwrap();
        assert!(!operation.mutation);
        assert_eq!(operation.field.arguments["first"], "5");
    }

    #[test]
    fn refuses_what_is_no_operation() {
        for text in [
            "",
            "{",
            "{}",
            "{a b}",
            "subscription{a}",
            "query{a}}",
            "{a(b:$)}",
            "{a \u{1}}",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
        assert!(parse(&"{a".repeat(40)).unwrap_err().contains("deep"));
    }

    proptest! {
        #[test]
        fn never_loops_or_panics(text in "[a-z{}()$:!\\[\\] ]{0,60}") {
            let _ = parse(&text);
        }
    }
}
