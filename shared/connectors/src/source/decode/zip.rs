//! Archives: each of their files is a body.

use std::io::Cursor;

use sluice_core::{Error, ErrorClass, Result};
use zip::{ZipReadOptions, read::Config, unstable::read::ZipIterable};

use super::{Decoded, Decoder, rows};

/// Bytes that all files together may unpack to: a small archive must not fill the memory.
const MAX_UNPACKED: u64 = 256 << 20;
/// Files of one archive.
const MAX_FILES: usize = 10_000;

pub(super) fn decode(body: &[u8], inner: &Decoder) -> Result<Decoded> {
    let mut decoded = Decoded {
        without_response: true,
        ..Decoded::default()
    };
    // Looks at one file after the other, so that no directory is held in memory.
    let archive = ZipIterable::try_new(Cursor::new(body), Config::default());
    let mut archive = archive.map_err(|_| damaged())?;
    if archive.len() > MAX_FILES {
        return Err(too_large(&format!("holds more than {MAX_FILES} files")));
    }
    let files = archive.files_with_cloned_reader(ZipReadOptions::new());
    let mut files = files.map_err(|_| damaged())?;
    let mut left = MAX_UNPACKED;
    while let Some(file) = files.next() {
        let file = file.map_err(|_| damaged())?;
        if file.is_dir() {
            continue;
        }
        // The checksum is compared at the file's end.
        let bytes = rows::all_of(file, left).map_err(|_| damaged())?;
        let bytes = bytes
            .ok_or_else(|| too_large(&format!("unpacks to more than {MAX_UNPACKED} bytes")))?;
        left = left.saturating_sub(bytes.len() as u64);
        let one = inner.decode(&bytes, None, None)?;
        decoded.bodies.extend(one.bodies);
        if let Some(records) = one.streamed {
            decoded.streamed.get_or_insert_default().extend(records);
        }
    }
    Ok(decoded)
}

fn damaged() -> Error {
    Error::new(
        ErrorClass::TargetError,
        "zip_invalid",
        "the body is no archive that can be read: damaged, cut off, or packed in an unknown way",
    )
}

fn too_large(what: &str) -> Error {
    Error::new(
        ErrorClass::TargetError,
        "zip_too_large",
        format!("the archive {what}"),
    )
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{Compression, Crc, write::DeflateEncoder};
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// An archive, written as section 4.3 of the format says; odd files are not packed.
    fn packed(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut body = Vec::new();
        let mut directory = Vec::new();
        for (index, (name, bytes)) in files.iter().enumerate() {
            let method: u16 = if index % 2 == 0 { 8 } else { 0 };
            let data = if method == 8 {
                let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
                encoder.write_all(bytes).unwrap();
                encoder.finish().unwrap()
            } else {
                bytes.to_vec()
            };
            let mut sum = Crc::new();
            sum.update(bytes);
            let mut common = vec![20, 0, 0, 0];
            common.extend(method.to_le_bytes());
            common.extend([0; 4]);
            for number in [sum.sum(), data.len() as u32, bytes.len() as u32] {
                common.extend(number.to_le_bytes());
            }
            common.extend((name.len() as u16).to_le_bytes());
            common.extend([0; 2]);
            let local = body.len() as u32;
            body.extend(b"PK\x03\x04");
            body.extend(&common);
            body.extend(name.as_bytes());
            body.extend(&data);
            directory.extend(b"PK\x01\x02\x14\x00");
            directory.extend(&common);
            directory.extend([0; 10]);
            directory.extend(local.to_le_bytes());
            directory.extend(name.as_bytes());
        }
        let start = body.len() as u32;
        let count = (files.len() as u16).to_le_bytes();
        body.extend(&directory);
        body.extend(b"PK\x05\x06\0\0\0\0");
        body.extend(count);
        body.extend(count);
        body.extend((directory.len() as u32).to_le_bytes());
        body.extend(start.to_le_bytes());
        body.extend([3, 0]);
        body.extend(b"end");
        body
    }

    fn code(body: &[u8]) -> &'static str {
        decode(body, &Decoder::Json).unwrap_err().code()
    }

    #[test]
    fn every_file_is_read_and_folders_are_not() {
        let body = packed(&[
            ("d/", b""),
            ("d/a.json", b"{\"a\": 1}"),
            ("b.json", b"[{\"b\": 2}, {\"b\": 3}]"),
        ]);
        let decoded = decode(&body, &Decoder::Json).unwrap();
        assert_eq!(
            decoded.bodies,
            [json!({"a": 1}), json!({"b": 2}), json!({"b": 3})]
        );
    }

    /// I4.
    #[test]
    fn bombs_are_refused() {
        let half = vec![b' '; usize::try_from(MAX_UNPACKED / 2).unwrap() + 1];
        let bomb = packed(&[("a", &half), ("d/", b""), ("b", &half)]);
        assert!(bomb.len() < 8 << 20);
        assert_eq!(code(&bomb), "zip_too_large");
        let many = vec![("d/", &b""[..]); MAX_FILES + 1];
        assert_eq!(code(&packed(&many)), "zip_too_large");
    }

    #[test]
    fn damage_is_an_error() {
        let mut body = packed(&[("a", b"{\"a\": 1, \"b\": \"some more text to be packed\"}")]);
        assert_eq!(code(b""), "zip_invalid");
        assert_eq!(code(&body[..body.len() - 30]), "zip_invalid");
        // Bit 0 of an entry's flags: locked by a password.
        let entry = body.windows(4).position(|at| at == b"PK\x01\x02").unwrap();
        let mut locked = body.clone();
        locked[entry + 8] |= 1;
        assert_eq!(code(&locked), "zip_invalid");
        // A changed byte is noticed by the checksum at the latest.
        body[45] ^= 0x10;
        assert_eq!(code(&body), "zip_invalid");
    }

    proptest! {
        /// No body makes it panic, whatever the numbers in it say.
        #[test]
        fn any_change_is_an_answer_or_an_error(at in 0_usize..400, byte: u8, cut in 0_usize..400) {
            let mut body = packed(&[("a", b"{\"a\": 1}"), ("b/c", b"{\"b\": 2}")]);
            let at = at % body.len();
            body[at] = byte;
            let _ = decode(&body, &Decoder::Json);
            // Without the comment it would still be whole.
            body.truncate(cut % (body.len() - 3));
            prop_assert!(decode(&body, &Decoder::Json).is_err());
        }
    }
}
