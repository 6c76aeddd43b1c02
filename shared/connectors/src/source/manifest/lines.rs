//! Where things stand in the text of a manifest, for error texts.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Span};
use serde_json::Value;

use super::yaml;

/// Lines by path in the unresolved document.
pub struct Lines<'a> {
    text: &'a str,
    raw: Value,
    lines: HashMap<String, usize>,
}

/// Deeper nesting is not looked into; the manifest itself is refused then.
const MAX_DEPTH: usize = 128;

impl<'a> Lines<'a> {
    /// `None` for a text that is no YAML.
    pub fn of(text: &'a str) -> Option<Self> {
        let raw = yaml::parse(text).ok()?;
        let mut walk = Walk {
            parser: Parser::new_from_str(text),
            lines: HashMap::new(),
        };
        walk.document();
        Some(Self {
            text,
            raw,
            lines: walk.lines,
        })
    }

    /// The line of what a text about the manifest names: the first path such as
    /// `manifest.streams[0].retriever` in it, or else the first reference.
    pub fn mentioned(&self, text: &str) -> Option<usize> {
        let of_path = text.find("manifest.").and_then(|at| {
            let path = text.get(at + "manifest".len()..)?;
            if path.starts_with(".yaml") {
                return None;
            }
            let is_part = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '$' | '[' | ']');
            let end = path.find(|c| !is_part(c)).unwrap_or(path.len());
            self.line(path.get(..end)?.trim_end_matches('.'))
        });
        of_path.or_else(|| {
            let reference = text.get(text.find("#/")?..)?;
            let reference = reference.split_whitespace().next()?;
            let line = self
                .text
                .lines()
                .position(|line| line.contains(reference))?;
            Some(line + 1)
        })
    }

    /// The line of a path in the resolved document: references on the way are followed. Where the
    /// path leads out of the text, the last known line.
    fn line(&self, path: &str) -> Option<usize> {
        let mut here = String::new();
        let mut line = self.lines.get("").copied();
        for part in path
            .split_inclusive(['.', ']'])
            .flat_map(|part| part.split('['))
        {
            let part = part.trim_end_matches(['.', ']']);
            if part.is_empty() {
                continue;
            }
            let mut hops = 0;
            let next = loop {
                let value = self.raw.pointer(&here)?;
                let inside = format!("{here}/{part}");
                if self.raw.pointer(&inside).is_some() {
                    break Some(inside);
                }
                let reference = match value {
                    Value::String(text) => text.strip_prefix('#'),
                    Value::Object(map) => map
                        .get("$ref")
                        .and_then(Value::as_str)
                        .and_then(|text| text.strip_prefix('#')),
                    _ => None,
                };
                hops += 1;
                match reference {
                    Some(target) if hops < 32 => here = target.to_owned(),
                    _ => break None,
                }
            };
            match next {
                Some(next) => here = next,
                None => return line,
            }
            line = self.lines.get(&here).copied().or(line);
        }
        line
    }
}

struct Walk<'a> {
    parser: Parser<'a, saphyr_parser::StrInput<'a>>,
    lines: HashMap<String, usize>,
}

impl<'a> Walk<'a> {
    fn next(&mut self) -> Option<(Event<'a>, Span)> {
        self.parser.next()?.ok()
    }

    fn document(&mut self) -> Option<()> {
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => return None,
                Event::Nothing | Event::StreamStart | Event::DocumentStart(_) => {}
                event => return self.node(event, span, "", 0),
            }
        }
    }

    fn node(&mut self, event: Event<'a>, span: Span, path: &str, depth: usize) -> Option<()> {
        if depth > MAX_DEPTH {
            return None;
        }
        self.lines
            .entry(path.to_owned())
            .or_insert_with(|| span.start.line());
        match event {
            Event::SequenceStart(..) => {
                for index in 0.. {
                    let (event, span) = self.next()?;
                    if matches!(event, Event::SequenceEnd) {
                        break;
                    }
                    self.node(event, span, &format!("{path}/{index}"), depth + 1)?;
                }
            }
            Event::MappingStart(..) => loop {
                let (event, span) = self.next()?;
                let inner = match event {
                    Event::MappingEnd => break,
                    Event::Scalar(text, ScalarStyle::Plain, ..) if text == "<<" => path.to_owned(),
                    Event::Scalar(text, ..) => {
                        let inner = format!("{path}/{text}");
                        self.lines.insert(inner.clone(), span.start.line());
                        inner
                    }
                    // A key that is no scalar has been refused before.
                    _ => return None,
                };
                let (event, span) = self.next()?;
                self.node(event, span, &inner, depth + 1)?;
            },
            _ => {}
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_to_lines_through_references() {
        let text = "definitions:\n  r:\n    requester:\n      url: 5\nstreams:\n  - name: a\n    retriever:\n      $ref: '#/definitions/r'\n  - '#/definitions/r'\n  - '#/nowhere'\n";
        let lines = Lines::of(text).unwrap();
        for (said, line) in [
            (
                "manifest.streams[0].retriever.requester.url: wrong",
                Some(4),
            ),
            ("manifest.streams[0].name is", Some(6)),
            ("bad at manifest.streams[1].requester.path.", Some(3)),
            ("the reference #/nowhere names nothing", Some(10)),
            ("something else", None),
        ] {
            assert_eq!(lines.mentioned(said), line, "{said}");
        }
    }
}
