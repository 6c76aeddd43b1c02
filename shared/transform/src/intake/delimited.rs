//! CSV rows under a header.

use serde_json::{Map, Value};
use sluice_core::{Error, Result};

use super::malformed;

pub(super) fn rows(bytes: &[u8], delimiter: u8) -> impl Iterator<Item = Result<Value>> + Send + '_ {
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(delimiter)
        .trim(csv::Trim::Headers)
        .from_reader(bytes);
    let (header, mut fault) = match header(&mut reader) {
        Ok(header) => (header, None),
        Err(error) => (Vec::new(), Some(error)),
    };
    let mut rows = reader.into_records();
    std::iter::from_fn(move || {
        if let Some(error) = fault.take() {
            return Some(Err(error));
        }
        if header.is_empty() {
            return None;
        }
        let row = rows.next()?;
        Some(match row {
            Ok(row) => Ok(Value::Object(
                header
                    .iter()
                    .zip(row.iter())
                    .map(|(name, field)| (name.clone(), Value::from(field)))
                    .collect::<Map<_, _>>(),
            )),
            Err(error) => Err(row_error(&error)),
        })
    })
}

fn header(reader: &mut csv::Reader<&[u8]>) -> Result<Vec<String>> {
    let header = reader.headers().map_err(|error| row_error(&error))?;
    let mut names: Vec<String> = Vec::with_capacity(header.len());
    for (index, name) in header.iter().enumerate() {
        if name.is_empty() {
            return Err(malformed(format!(
                "header: column {} has no name",
                index + 1
            )));
        }
        if names.iter().any(|known| known == name) {
            return Err(malformed(format!(
                "header: column {} repeats the name of another",
                index + 1
            )));
        }
        names.push(name.to_owned());
    }
    if names.is_empty() {
        return Err(malformed("there is no header row"));
    }
    Ok(names)
}

fn row_error(error: &csv::Error) -> Error {
    let line = error.position().map_or(0, csv::Position::line);
    match error.kind() {
        csv::ErrorKind::UnequalLengths {
            expected_len, len, ..
        } => malformed(format!(
            "line {line}: {len} fields where the header has {expected_len}"
        )),
        _ => malformed(format!("line {line}: is no CSV")),
    }
}
