//! Reading SOAP requests.

use quick_xml::Reader;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::Event;

/// Deepest nesting a request may have.
const MAX_DEPTH: usize = 40;

/// One element of a request: local name, text of its own, child elements.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Element {
    pub name: String,
    pub text: String,
    pub children: Vec<Element>,
}

impl Element {
    /// The first child of this exact name.
    pub(crate) fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.name == name)
    }

    /// The trimmed text of a child; empty when there is none.
    pub(crate) fn text_of(&self, name: &str) -> &str {
        self.child(name).map_or("", |child| child.text.trim())
    }

    /// All elements of this name below this one.
    pub(crate) fn descendants<'a>(&'a self, name: &str, found: &mut Vec<&'a Self>) {
        for child in &self.children {
            if child.name == name {
                found.push(child);
            } else {
                child.descendants(name, found);
            }
        }
    }
}

/// The operation element inside the SOAP body.
///
/// # Errors
/// What is wrong with the document, for a `soap:Client` fault.
pub(crate) fn operation(document: &str) -> Result<Element, String> {
    let root = parse(document)?;
    if root.name != "Envelope" {
        return Err("the document element is not a SOAP envelope".into());
    }
    let body = root.children.into_iter().find(|child| child.name == "Body");
    body.and_then(|body| body.children.into_iter().next())
        .ok_or_else(|| "the SOAP body is missing or empty".into())
}

/// Reads a document into elements, prefixes dropped.
pub(crate) fn parse(document: &str) -> Result<Element, String> {
    let mut reader = Reader::from_str(document);
    reader.config_mut().expand_empty_elements = true;
    let mut open: Vec<Element> = Vec::new();
    let mut root = None;
    loop {
        match reader.read_event().map_err(|error| error.to_string())? {
            Event::Start(start) => {
                if open.len() >= MAX_DEPTH {
                    return Err("the document is nested too deeply".into());
                }
                open.push(Element {
                    name: start.local_name().as_ref().to_owned(),
                    ..Element::default()
                });
            }
            Event::End(_) => {
                if let Some(done) = open.pop() {
                    match open.last_mut() {
                        Some(parent) => parent.children.push(done),
                        None => root = Some(done),
                    }
                }
            }
            Event::Text(text) => add(&mut open, &text.xml10_content()),
            Event::CData(text) => add(&mut open, &text.xml10_content()),
            Event::GeneralRef(reference) => {
                match reference
                    .resolve_char_ref()
                    .map_err(|error| error.to_string())?
                {
                    Some(character) => add(&mut open, character.encode_utf8(&mut [0; 4])),
                    None => match resolve_predefined_entity(&reference) {
                        Some(text) => add(&mut open, text),
                        None => return Err("undeclared entity".into()),
                    },
                }
            }
            Event::DocType(_) => {
                return Err("For security reasons DTD is prohibited in this XML document.".into());
            }
            Event::Eof => break,
            _ => {}
        }
    }
    if !open.is_empty() {
        return Err("Unexpected end of file has occurred.".into());
    }
    root.ok_or_else(|| "Root element is missing.".into())
}

fn add(open: &mut [Element], text: &str) {
    if let Some(element) = open.last_mut() {
        element.text.push_str(text);
    }
}

/// The operation named by a `SOAPAction` header, bare or in quotes.
pub(crate) fn action_operation(header: &str) -> Option<&str> {
    let action = header.trim().trim_matches('"');
    let name = action.rsplit('/').next()?;
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_operation_whatever_the_prefixes() {
        let element = operation(
            "<?xml version=\"1.0\"?><s:Envelope xmlns:s=\"x\"><s:Header/><s:Body>\
             <y:Ping xmlns:y=\"z\"><y:UserName> a&amp;b&#33; </y:UserName><y:P><![CDATA[<1>]]></y:P></y:Ping>\
             </s:Body></s:Envelope>",
        )
        .unwrap();
        assert_eq!(element.name, "Ping");
        assert_eq!(element.text_of("UserName"), "a&b!");
        assert_eq!(element.text_of("P"), "<1>");
    }

    #[test]
    fn refuses_what_is_no_request() {
        for text in [
            "",
            "no xml",
            "<a>",
            "<Envelope/>",
            "<Envelope><Body/></Envelope>",
            "<!DOCTYPE a [<!ENTITY b \"c\">]><Envelope><Body><a>&b;</a></Body></Envelope>",
        ] {
            assert!(operation(text).is_err(), "{text}");
        }
        assert!(parse(&"<a>".repeat(50)).unwrap_err().contains("deep"));
    }

    #[test]
    fn soap_action_comes_quoted_or_bare() {
        let uri = "http://tempuri.org/YSI.Interfaces.WebServices/ItfServiceRequests/Ping";
        assert_eq!(action_operation(uri), Some("Ping"));
        assert_eq!(action_operation(&format!("\"{uri}\"")), Some("Ping"));
        assert_eq!(action_operation("\"\""), None);
    }
}
