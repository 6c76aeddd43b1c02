use proptest::prelude::*;
use serde_json::json;

use super::*;

fn soap() -> XmlOptions {
    XmlOptions {
        strip_prefixes: true,
        force_list: vec![vec!["StatusHistory".into(), "Status".into()]],
        nested_xml: vec!["Result".into()],
    }
}

fn path(names: &str) -> Vec<String> {
    names.split('/').map(str::to_owned).collect()
}

fn streamed(decoded: &Decoded) -> Vec<Value> {
    let records = decoded.streamed.iter().flatten().cloned();
    records.map(Record::into_value).collect()
}

fn xml(text: &str, options: XmlOptions, at: &str) -> Result<Decoded> {
    Decoder::Xml(options).decode(text.as_bytes(), None, Some(Place::of_values(&path(at))))
}

#[test]
fn elements_become_json_as_the_format_says() {
    let decoded = Decoder::Xml(XmlOptions::default())
        .decode(
            br#"<?xml version="1.0"?><a:x xmlns:a="u" n="1 &amp; 2"><b/><c> t </c><d>1</d><d>2</d><e f="g">h</e><i>  </i><![CDATA[ <raw> ]]></a:x>"#,
            None,
            None,
        )
        .unwrap();
    assert_eq!(
        *decoded.response(),
        json!({"a:x": {"@xmlns:a": "u", "@n": "1 & 2", "b": null, "c": "t", "d": ["1", "2"],
            "e": {"@f": "g", "#text": "h"}, "i": null, "#text": "<raw>"}})
    );
}

#[test]
fn records_are_taken_out_and_the_first_stays_in_the_response() {
    let text = r#"<soap:E xmlns:soap="s"><soap:B><Result xmlns=""><R><Id>1</Id><StatusHistory><Status T=""/></StatusHistory></R><R><Id>2</Id></R><R/></Result></soap:B></soap:E>"#;
    let decoded = xml(text, soap(), "E/B/Result/R").unwrap();
    assert_eq!(
        streamed(&decoded),
        vec![
            json!({"Id": "1", "StatusHistory": {"Status": [{"@T": ""}]}}),
            json!({"Id": "2"})
        ]
    );
    assert_eq!(decoded.response()["E"]["B"]["Result"]["R"]["Id"], "1");
}

#[test]
fn an_escaped_document_in_text_reads_like_an_inline_one() {
    let inner = "&lt;Rs&gt;&lt;R&gt;&lt;Id&gt;7 &amp;amp; 8&lt;/Id&gt;&lt;/R&gt;&lt;/Rs&gt;";
    for body in [
        format!("<E><Result>{inner}</Result></E>"),
        "<E><Result><![CDATA[<Rs><R><Id>7 &amp; 8</Id></R></Rs>]]></Result></E>".to_owned(),
        "<E><Result><Rs><R><Id>7 &amp; 8</Id></R></Rs></Result></E>".to_owned(),
    ] {
        let decoded = xml(&body, soap(), "E/Result/Rs/R").unwrap();
        assert_eq!(streamed(&decoded), vec![json!({"Id": "7 & 8"})], "{body}");
    }
}

#[test]
fn error_texts_come_from_the_way_to_the_records_or_from_error_elements() {
    let text = "<E>Login failed.<Note>Login failed too</Note><R><Text>Login failed</Text><ErrorMessages><Error>Could not find it</Error></ErrorMessages></R></E>";
    let decoded = xml(text, XmlOptions::default(), "E/R").unwrap();
    assert_eq!(decoded.error_text, "Could not find it\nLogin failed.");
}

#[test]
fn hostile_and_broken_bodies_are_named() {
    let deep = format!("{}{}", "<a>".repeat(200), "</a>".repeat(200));
    let laughs = "<!DOCTYPE l [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;\">]><x>&b;</x>";
    let external = "<!DOCTYPE x [<!ENTITY e SYSTEM \"file:///etc/passwd\">]><x>&e;</x>";
    for (text, code) in [
        ("<a><b>", "xml_truncated"),
        ("<a><b>text", "xml_truncated"),
        ("<a><b attr=\"x", "xml_truncated"),
        ("<a><![CDATA[x", "xml_truncated"),
        ("", "xml_truncated"),
        ("<a></b>", "xml_invalid"),
        ("<a>&unknown;</a>", "xml_invalid"),
        (deep.as_str(), "xml_too_deep"),
        (laughs, "xml_doctype_refused"),
        (external, "xml_doctype_refused"),
        ("  <!DOCTYPE html><html></html>", "unexpected_html"),
        ("<HTML><body>", "unexpected_html"),
    ] {
        let error = xml(text, soap(), "a/b").unwrap_err();
        assert_eq!(error.code(), code, "{text}");
    }
}

#[test]
fn wide_documents_are_bounded() {
    let wide = format!("<a>{}</a>", "<b/>".repeat(1_100_000));
    assert_eq!(
        xml(&wide, soap(), "a/c").unwrap_err().code(),
        "xml_too_large"
    );
}

#[test]
fn declared_character_sets_are_honoured_and_nothing_is_guessed() {
    let latin = b"<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?><a>caf\xe9</a>";
    let decoder = Decoder::Xml(XmlOptions::default());
    assert_eq!(
        decoder.decode(latin, None, None).unwrap().response()["a"],
        "café"
    );
    assert_eq!(
        decoder
            .decode(
                b"<a>caf\xe9</a>",
                Some("text/xml; charset=\"windows-1252\""),
                None
            )
            .unwrap()
            .response()["a"],
        "café"
    );
    for (body, content_type) in [
        (&b"<a>caf\xe9 </a>"[..], None),
        (&b"<a>caf\xe9 </a>"[..], Some("text/xml; charset=utf-8")),
        (
            &b"<?xml version=\"1.0\" encoding=\"utf-16\"?><a/>"[..],
            None,
        ),
    ] {
        assert_eq!(
            decoder.decode(body, content_type, None).unwrap_err().code(),
            "body_not_utf8"
        );
    }
    assert_eq!(
        Decoder::Json
            .decode("\u{feff}{\"a\": 1}".as_bytes(), None, None)
            .unwrap()
            .bodies,
        [json!({"a": 1})]
    );
}

#[test]
fn json_lists_are_several_bodies_and_broken_json_is_an_error() {
    let decoded = Decoder::Json
        .decode(b"[{\"a\": 1}, {\"b\": 2}]", None, None)
        .unwrap();
    assert_eq!(decoded.bodies.len(), 2);
    assert_eq!(*decoded.response(), json!({"a": 1}));
    assert_eq!(
        Decoder::Json.decode(b"", None, None).unwrap().bodies,
        vec![json!({})]
    );
    assert_eq!(
        Decoder::Json
            .decode(b"{\"a\": ", None, None)
            .unwrap_err()
            .code(),
        "json_invalid"
    );
    assert_eq!(
        Decoder::Json
            .decode(
                br#"{"errors": [{"message": "a"}, {"detail": "b"}]}"#,
                None,
                None
            )
            .unwrap()
            .error_text,
        "a, b"
    );
}

proptest! {
    /// A document cut anywhere is an error, never fewer records.
    #[test]
    fn a_cut_document_is_never_accepted(cut in 0_usize..100) {
        let text = "<E><B a=\"1\"><R><Id>é1</Id></R><R><Id>2 &amp; 3</Id></R><!-- c --></B></E>";
        let bytes = text.as_bytes();
        let end = cut * bytes.len() / 100;
        let result = Decoder::Xml(soap()).decode(&bytes[..end], None, Some(Place::of_values(&path("E/B/R"))));
        prop_assert!(result.is_err(), "{end}");
    }

    #[test]
    fn any_bytes_are_survived(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Decoder::Xml(soap()).decode(&body, None, Some(Place::of_values(&path("a/b"))));
        let _ = Decoder::Json.decode(&body, None, None);
    }

    #[test]
    fn any_tags_are_survived(body in "(</?[ab:]{1,2}( x=\"&amp;\")?/?>|&lt;|t|<!\\[CDATA\\[|\\]\\]>|<!--|-->){0,30}") {
        let _ = Decoder::Xml(soap()).decode(body.as_bytes(), None, Some(Place::of_values(&path("a/b"))));
    }
}
