//! Writing SOAP answers.

use std::fmt::Write;

use axum::http::StatusCode;
use axum::response::Response;
use quick_xml::escape::escape;

use crate::control::blocks_body;
use crate::fault_effect::answer;

const CONTENT_TYPE: &str = "text/xml; charset=utf-8";

/// A growing piece of XML.
#[derive(Debug, Default)]
pub(crate) struct Xml(pub String);

impl Xml {
    /// `<name>text</name>`, or `<name/>` for an empty text.
    pub(crate) fn element(&mut self, name: &str, text: &str) -> &mut Self {
        if text.is_empty() {
            // Writing to a String cannot fail.
            let _ = write!(self.0, "<{name}/>");
        } else {
            let _ = write!(self.0, "<{name}>{}</{name}>", escape(clean(text)));
        }
        self
    }

    /// `<name attribute="..">text</name>`.
    pub(crate) fn with_attribute(
        &mut self,
        name: &str,
        attribute: (&str, &str),
        text: &str,
    ) -> &mut Self {
        let (key, value) = attribute;
        let _ = write!(
            self.0,
            "<{name} {key}=\"{}\">{}</{name}>",
            escape(clean(value)),
            escape(clean(text))
        );
        self
    }

    /// An opening tag, attributes included.
    pub(crate) fn open(&mut self, tag: &str) -> &mut Self {
        let _ = write!(self.0, "<{tag}>");
        self
    }

    /// A closing tag.
    pub(crate) fn close(&mut self, name: &str) -> &mut Self {
        let _ = write!(self.0, "</{name}>");
        self
    }

    /// `<ErrorMessages><Error>..</Error></ErrorMessages>`.
    pub(crate) fn errors(&mut self, text: &str) -> &mut Self {
        self.open("ErrorMessages")
            .element("Error", text)
            .close("ErrorMessages")
    }
}

/// Drops characters XML 1.0 cannot hold, which callers may have uploaded.
fn clean(text: &str) -> String {
    text.chars()
        .filter(|c| {
            matches!(c, '\t' | '\n' | '\r') || (*c >= ' ' && !matches!(c, '\u{fffe}' | '\u{ffff}'))
        })
        .collect()
}

/// What an operation answers.
pub(crate) enum Reply {
    /// The inner document.
    Xml(String),
    /// The inner document in pieces, made while it is sent.
    Pieces(Box<dyn Iterator<Item = String> + Send>),
    /// Plain text instead of a document.
    Text(String),
    /// `{Op}Response` without `{Op}Result`.
    Nothing,
    /// A SOAP fault with HTTP 500.
    Fault { client: bool, text: String },
}

/// Puts a reply in its envelope.
pub(crate) fn respond(namespace: &str, operation: &str, reply: Reply) -> Response {
    let head = format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n\
         <soap:Envelope xmlns:soap=\"http://schemas.xmlsoap.org/soap/envelope/\" \
         xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" \
         xmlns:xsd=\"http://www.w3.org/2001/XMLSchema\"><soap:Body>\
         <{operation}Response xmlns=\"{namespace}\">"
    );
    let tail = format!("</{operation}Response></soap:Body></soap:Envelope>");
    let (open, close) = (
        format!("<{operation}Result>"),
        format!("</{operation}Result>"),
    );
    let whole = match reply {
        Reply::Xml(inner) => format!("{head}{open}{inner}{close}{tail}"),
        Reply::Text(text) => format!("{head}{open}{}{close}{tail}", escape(clean(&text))),
        Reply::Nothing => format!("{head}{tail}"),
        Reply::Fault { client, text } => return fault(client, &text),
        Reply::Pieces(pieces) => {
            let all = std::iter::once(head + &open)
                .chain(pieces)
                .chain(std::iter::once(close + &tail));
            return answer(StatusCode::OK, CONTENT_TYPE, blocks_body(all));
        }
    };
    answer(StatusCode::OK, CONTENT_TYPE, whole)
}

/// A SOAP fault.
pub(crate) fn fault(client: bool, text: &str) -> Response {
    let code = if client { "soap:Client" } else { "soap:Server" };
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n\
         <soap:Envelope xmlns:soap=\"http://schemas.xmlsoap.org/soap/envelope/\"><soap:Body>\
         <soap:Fault><faultcode>{code}</faultcode><faultstring>{}</faultstring><detail/></soap:Fault>\
         </soap:Body></soap:Envelope>",
        escape(clean(text))
    );
    answer(StatusCode::INTERNAL_SERVER_ERROR, CONTENT_TYPE, body)
}

/// `<Messages xmlns=""><Message messageType="..">..</Message></Messages>`.
pub(crate) fn messages(kind: &str, texts: &[&str]) -> Reply {
    let mut xml = Xml::default();
    xml.open("Messages xmlns=\"\"");
    for text in texts {
        xml.with_attribute("Message", ("messageType", kind), text);
    }
    xml.close("Messages");
    Reply::Xml(xml.0)
}
