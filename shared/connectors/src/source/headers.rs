//! Headers of an answer as templates see them. Names may be written in any case: a system that
//! speaks HTTP/2 sends them in lower case, and manifests name them as its documentation does.

use std::sync::Arc;

use minijinja::value::{Enumerator, Object, Value as Jinja};
use serde_json::{Map, Value};

use super::template::json;
use crate::http::HeaderMap;

/// Headers as a mapping.
pub fn of(headers: &HeaderMap) -> Jinja {
    Jinja::from_object(Headers {
        all: headers.clone(),
        links: None,
    })
}

/// The same for pagination: `link` in lower case is taken apart into `{rel: {url, rel}}`.
pub fn with_links(headers: &HeaderMap) -> Jinja {
    let link = headers.get("link").and_then(|value| value.to_str().ok());
    Jinja::from_object(Headers {
        all: headers.clone(),
        links: Some(json::of(&links(link.unwrap_or_default()))),
    })
}

#[derive(Debug)]
struct Headers {
    all: HeaderMap,
    links: Option<Jinja>,
}

impl Object for Headers {
    fn get_value(self: &Arc<Self>, key: &Jinja) -> Option<Jinja> {
        let name = key.as_str()?;
        match &self.links {
            Some(links) if name == "link" => Some(links.clone()),
            _ => self.all.get(name)?.to_str().ok().map(Jinja::from),
        }
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        let names = self.all.keys().map(|name| Jinja::from(name.as_str()));
        Enumerator::Values(names.collect())
    }
}

fn links(header: &str) -> Value {
    let mut rels = Map::new();
    for part in header.split(",<").flat_map(|part| part.split(", <")) {
        let Some((url, parameters)) = part.trim_start_matches([' ', '<']).split_once('>') else {
            continue;
        };
        for parameter in parameters.split(';') {
            let Some((name, rel)) = parameter.split_once('=') else {
                continue;
            };
            if name.trim() == "rel" {
                let rel = rel.trim().trim_matches('"');
                rels.insert(rel.to_owned(), serde_json::json!({"url": url, "rel": rel}));
            }
        }
    }
    Value::Object(rels)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        http::{HeaderValue, header},
        source::template::{Scope, Templates},
    };

    #[test]
    fn names_may_be_written_in_any_case() {
        let mut sent = HeaderMap::new();
        sent.insert("x-next", HeaderValue::from_static("7"));
        sent.insert(
            header::LINK,
            HeaderValue::from_static("<http://x/2>; rel=\"next\""),
        );
        let mut templates = Templates::new();
        for (template, plain, paged) in [
            ("{{ headers['X-Next'] }}", json!(7), json!(7)),
            ("{{ headers.get('x-next') }}", json!(7), json!(7)),
            (
                "{{ headers.get('X-Other', 'none') }}",
                json!("none"),
                json!("none"),
            ),
            (
                "{{ headers['Link'] }}",
                json!("<http://x/2>; rel=\"next\""),
                json!("<http://x/2>; rel=\"next\""),
            ),
            (
                "{{ headers.get('link', {})['next']['url'] if headers['link'].next else '' }}",
                json!(""),
                json!("http://x/2"),
            ),
            ("{{ 'X-Next' in headers }}", json!(true), json!(true)),
        ] {
            let compiled = templates.compile(template, &Jinja::UNDEFINED).unwrap();
            let config = Jinja::UNDEFINED;
            for (headers, expected) in [(of(&sent), &plain), (with_links(&sent), &paged)] {
                let scope = Scope::new(&templates, &config).with("headers", headers);
                assert_eq!(&compiled.value(&scope).unwrap(), expected, "{template}");
            }
        }
    }

    #[test]
    fn without_a_link_there_are_no_links() {
        let mut templates = Templates::new();
        let compiled = templates
            .compile(
                "{{ headers['link'].get('next', {}).get('url', '') }}",
                &Jinja::UNDEFINED,
            )
            .unwrap();
        let config = Jinja::UNDEFINED;
        let headers = with_links(&HeaderMap::new());
        let scope = Scope::new(&templates, &config).with("headers", headers);
        assert_eq!(compiled.value(&scope).unwrap(), json!(""));
    }
}
