//! What is wrong with a manifest, told with path and line, without settings and without calls.

use sluice_core::{Error, Result, connector::ConnectorFiles};

use super::{
    Source,
    budget::Budget,
    concurrency::Concurrency,
    load::{declared, manifest_of},
    manifest::{Component, Lines, faults_of_frame, faults_of_stream, unknown_fields},
    settings::Rules,
    stream::{self, Stream},
    template::Templates,
};

impl Source {
    /// Every fault of `manifest.yaml` that can be found by looking at it: texts name the place, with
    /// its line. Streams that this engine cannot read are among them.
    pub fn faults(files: &ConnectorFiles) -> Vec<Error> {
        let found = found(files).unwrap_or_else(|error| vec![error]);
        let text = files.get("manifest.yaml").unwrap_or_default();
        let Some(lines) = Lines::of(text) else {
            return found;
        };
        found
            .into_iter()
            .map(|error| with_line(error, &lines))
            .collect()
    }
}

/// The error with the line of `manifest.yaml` that it speaks of.
pub(super) fn placed(error: Error, files: &ConnectorFiles) -> Error {
    // Once is enough: a refusal of a stream has its line already.
    if error.message().contains("(manifest.yaml, line ") {
        return error;
    }
    match files.get("manifest.yaml").and_then(Lines::of) {
        Some(lines) => with_line(error, &lines),
        None => error,
    }
}

/// The fault of a stream that shares its name: records of the two could not be told apart.
pub(super) fn of_twins(stream: &Component<'_>, all: &[Component<'_>]) -> Option<Error> {
    let name = stream::name_of(stream);
    let twin = all.iter().find(|other| {
        other.path() != stream.path()
            && stream::name_of(other) == name
            && may_both_be(stream.path(), other.path())
    })?;
    let what = format!("`{name}` is also the name of {}", twin.path());
    Some(stream.invalid("name", &what))
}

/// Of streams with conditions it is not known before there are settings, unless they share one.
fn may_both_be(one: &str, other: &str) -> bool {
    let condition = |path: &str| {
        path.rsplit_once(".streams")
            .map(|(group, _)| group.to_owned())
    };
    condition(one) == condition(other)
}

fn found(files: &ConnectorFiles) -> Result<Vec<Error>> {
    let manifest = manifest_of(files)?;
    let root = Component::new(&manifest, "manifest")?;
    let mut templates = Templates::new();
    // Without settings no condition is known, so all streams are looked at.
    let frame = faults_of_frame(&manifest);
    let streams = match declared(&root, &mut templates, |_, _| Ok(true)) {
        // Nothing can be said about what stands in it.
        _ if root.kind() != "DeclarativeSource" => return Ok(frame),
        Err(_) if !frame.is_empty() => return Ok(frame),
        streams => streams?,
    };
    let ours = match manifest.pointer("/metadata/sluice") {
        Some(ours) => Component::new(ours, "manifest.metadata.sluice")?.children("streams")?,
        None => Vec::new(),
    };
    let mut faults = frame;
    let spec = root.child("spec")?;
    faults.extend(Rules::build(spec.as_ref(), &mut templates).err());
    for component in &streams {
        let name = stream::name_of(component);
        let settings = ours.iter().find(|ours| ours.text("name") == Some(&name));
        faults.extend(of_twins(component, &streams));
        let own = faults_of_stream(component);
        if !own.is_empty() {
            faults.extend(own);
            continue;
        }
        match Stream::build(component, settings, &mut templates) {
            Ok(stream) => faults.extend(stream.refused_credentials().into_iter().cloned()),
            Err(refusal) => faults.push(refusal),
        }
    }
    let names: Vec<String> = streams.iter().map(stream::name_of).collect();
    if let Some(check) = root.child("check")? {
        for name in check.texts("stream_names") {
            if !names.contains(&name) {
                let fault = check.invalid("stream_names", &format!("there is no stream `{name}`"));
                let nearest = names
                    .iter()
                    .max_by(|a, b| strsim::jaro(a, &name).total_cmp(&strsim::jaro(b, &name)));
                faults.push(match nearest {
                    Some(known) => fault.hint(format!("did you mean `{known}`?")),
                    None => fault,
                });
            }
        }
    }
    let budget = root.child("api_budget")?;
    faults.extend(budget.and_then(|budget| Budget::build(&budget, &mut templates).err()));
    let level = root.child("concurrency_level")?;
    faults.extend(Concurrency::build(level, &mut templates).err());
    faults.extend(unknown_fields(&manifest));
    Ok(faults)
}

/// The error with the line its text or its hint speaks of.
fn with_line(error: Error, lines: &Lines<'_>) -> Error {
    let line = lines
        .mentioned(error.message())
        .or_else(|| lines.mentioned(error.advice()?));
    let Some(line) = line else {
        return error;
    };
    let message = format!("{} (manifest.yaml, line {line})", error.message());
    let placed = Error::new(error.class(), error.code(), message);
    match error.advice() {
        Some(hint) => placed.hint(hint),
        None => placed,
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use super::*;
    use crate::library::Library;

    fn faults_of(manifest: &str) -> Vec<Error> {
        let files = ConnectorFiles {
            name: "test".into(),
            files: BTreeMap::from([("manifest.yaml".to_owned(), Arc::from(manifest))]),
        };
        Source::faults(&files)
    }

    #[test]
    fn templates_of_streams_are_no_streams_and_are_told() {
        let told = faults_of(
            "version: 6.0.0\ncheck: {type: CheckStream}\nstreams: []\ndynamic_streams: [{type: DynamicDeclarativeStream, name: tables}, {type: DynamicDeclarativeStream}]\n",
        );
        assert_eq!(told.len(), 2, "{told:?}");
        for (index, fault) in told.iter().enumerate() {
            let place = format!("manifest.dynamic_streams[{index}]");
            assert!(fault.message().contains(&place), "{fault}");
        }
    }

    #[test]
    fn a_stream_is_refused_when_none_of_its_credentials_can_be_used() {
        let with = |choices: &str| {
            faults_of(&format!(
                "version: 6.0.0\ncheck: {{type: CheckStream}}\nstreams: [{{name: a, retriever: {{record_selector: {{extractor: {{field_path: []}}}}, requester: {{url: 'https://a.test', authenticator: {{type: SelectiveAuthenticator, authenticator_selection_path: [kind], authenticators: {{{choices}}}}}}}}}}}]\n"
            ))
        };
        let key = "key: {type: BearerAuthenticator, api_token: x}";
        let own = "own: {type: CustomAuthenticator, class_name: x.Y}";
        let hint = |faults: &[Error]| faults[0].advice().unwrap_or_default().to_owned();
        let some = with(&format!("{key}, {own}"));
        assert!(some[0].message().contains("authenticators.own"), "{some:?}");
        assert!(hint(&some).contains("others of the stream can"), "{some:?}");
        let none = with(own);
        assert!(
            hint(&none).contains("this stream cannot be read"),
            "{none:?}"
        );
        assert_eq!((some.len(), none.len(), with(key).len()), (1, 1, 0));
    }

    #[test]
    fn shipped_connectors_have_no_faults() {
        let library = Library::new(None).unwrap();
        let mut looked_at = 0;
        for name in library.names() {
            let files = library.get(name).unwrap();
            if files.get("manifest.yaml").is_some() {
                looked_at += 1;
                let faults = Source::faults(&files);
                assert!(faults.is_empty(), "{name}: {faults:?}");
            }
        }
        assert!(looked_at > 0);
    }
}
