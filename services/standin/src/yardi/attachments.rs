//! Files at service requests: types, lists, uploads.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::YardiState;
use super::dates::{Days, stamp};
use super::generate::invented_bytes;
use super::listing::{Frame, Spoil, listing};
use super::model::{Attachment, Content};
use super::soap::Element;
use super::xml::{Reply, Xml, messages};
use crate::fault::FaultKind;
use crate::ledger::Effect;

/// Largest file an import takes, in bytes.
pub(crate) const MAX_BYTES: usize = 4_194_304;

/// Attachment types and whether the interface may write them.
const TYPES: &[(&str, bool)] = &[
    ("Photo", true),
    ("Work Order", true),
    ("Correspondence", true),
    ("Confidential", false),
];

/// File endings an import takes.
const EXTENSIONS: &[&str] = &[
    "jpg", "jpeg", "png", "gif", "pdf", "txt", "doc", "docx", "xls", "xlsx",
];

impl Attachment {
    /// The file itself.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        match &self.content {
            Content::Invented { bytes } => invented_bytes(self.id, &self.file_name, *bytes),
            Content::Stored(bytes) => bytes.to_vec(),
        }
    }
}

/// GetAttachmentTypes.
pub(crate) fn types() -> Reply {
    let mut xml = Xml::default();
    xml.open("AttachmentTypes xmlns=\"\"");
    for (name, write) in TYPES {
        xml.open("AttachmentType")
            .element("Name", name)
            .element("CanWrite", if *write { "true" } else { "false" })
            .close("AttachmentType");
    }
    xml.close("AttachmentTypes");
    Reply::Xml(xml.0)
}

/// An error in place of attachments.
pub(crate) fn error(text: &str) -> Reply {
    Reply::Xml(format!("{OPEN}{}{CLOSE}", error_record(text)))
}

const OPEN: &str = "<Attachments xmlns=\"\">";
const CLOSE: &str = "</Attachments>";

fn error_record(text: &str) -> String {
    let mut xml = Xml::default();
    xml.open("Attachment").errors(text).close("Attachment");
    xml.0
}

/// GetAttachments (one service request), GetAttachments_DateRange and
/// GetServiceRequest_AttachmentSearch (whole days on the creation date).
pub(crate) fn list(
    state: &Arc<YardiState>,
    property: u32,
    request: Option<u64>,
    days: Days,
    kind: Option<FaultKind>,
) -> Reply {
    let known: Option<Vec<Attachment>> =
        request.map(|id| state.read().attachments_of(property, id));
    let count = match &known {
        Some(list) => u32::try_from(list.len()).unwrap_or(u32::MAX),
        None => state.read().attachment_count(property),
    };
    let frame = Frame {
        open: OPEN.into(),
        close: CLOSE.into(),
        nothing: error_record("No attachments found"),
    };
    let spoil = Spoil {
        kind,
        id_element: "AttachmentId",
        date_element: "CreatedDate",
    };
    listing(state, count, frame, spoil, move |held, at| {
        let attachment = match &known {
            Some(list) => list.get(at as usize).cloned()?,
            None => held.attachment(property, at)?,
        };
        days.contain(attachment.created.date())
            .then(|| attachment_xml(&attachment))
    })
}

fn attachment_xml(attachment: &Attachment) -> String {
    let mut xml = Xml::default();
    xml.open("Attachment")
        .element("AttachmentId", &attachment.id.to_string())
        .element(
            "ServiceRequestId",
            &attachment.service_request_id.to_string(),
        )
        .element("FileName", &attachment.file_name)
        .element("AttachmentType", &attachment.attachment_type)
        .element("Description", &attachment.description)
        .element("CreatedDate", &stamp(attachment.created))
        .element("FileData", &STANDARD.encode(attachment.bytes()))
        .close("Attachment");
    xml.0
}

/// ImportWorkOrderDocumentExt and ImportWorkOrderDocumentPDF.
pub(crate) fn import(
    state: &Arc<YardiState>,
    property: u32,
    call: &Element,
    pdf: bool,
    lie: bool,
) -> (Reply, Effect, Vec<String>) {
    let refuse = |text: &str| {
        (
            messages("Error", &[text, ""]),
            Effect::default(),
            Vec::new(),
        )
    };
    let id = call.text_of("WorkOrderId");
    let Some((own, index)) = id.parse().ok().and_then(|id| state.read().find_request(id)) else {
        return refuse("Could not find the work order");
    };
    let Some(request) = state.read().request(own, index).filter(|_| own == property) else {
        return refuse("Could not find the work order");
    };
    let kind = call.text_of("AttachmentType");
    match TYPES
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(kind))
    {
        None => return refuse("Invalid attachment type"),
        Some((_, false)) => {
            return refuse("The interface has no write permission for this attachment type");
        }
        Some(_) => {}
    }
    let extension = if pdf {
        "pdf".to_owned()
    } else {
        call.text_of("Extension")
            .trim_start_matches('.')
            .to_lowercase()
    };
    if !EXTENSIONS.contains(&extension.as_str()) {
        return refuse("Invalid file extension");
    }
    let text: String = call.text_of("Attachment").split_whitespace().collect();
    // Checked before decoding, so that a huge text costs nothing.
    if text.len() / 4 * 3 > MAX_BYTES + 2 {
        return refuse("The file exceeds 4194304 bytes");
    }
    let Ok(bytes) = STANDARD.decode(text) else {
        return refuse("XSD Error: Attachment is not valid base64Binary");
    };
    if bytes.is_empty() {
        return refuse("The file is empty");
    }
    if bytes.len() > MAX_BYTES {
        return refuse("The file exceeds 4194304 bytes");
    }
    if lie {
        return (
            messages("FYI", &["Document imported"]),
            Effect::default(),
            Vec::new(),
        );
    }
    let now = state.front.options.server_now();
    let mut held = state.write();
    let number = held.attachments_of(property, request.id).len() + 1;
    let twin = held
        .attachments_of(property, request.id)
        .iter()
        .any(|one| matches!(&one.content, Content::Stored(stored) if stored[..] == bytes[..]));
    let attachment = held.add_attachment(
        property,
        Attachment {
            index: 0,
            id: 0,
            service_request_id: request.id,
            file_name: format!("WO{}-{number}.{extension}", request.id),
            attachment_type: kind.to_owned(),
            description: call.text_of("Description").to_owned(),
            created: now,
            content: Content::Stored(bytes.into()),
        },
    );
    let effect = Effect {
        created: 1,
        duplicates_created: u32::from(twin),
        ..Effect::default()
    };
    let text = format!("1 document imported for work order {}", request.id);
    (
        messages("FYI", &[text.as_str()]),
        effect,
        vec![format!("attachment:{}", attachment.id)],
    )
}

/// The attachment for comparers.
pub(crate) fn truth(property_code: &str, attachment: &Attachment) -> Value {
    let bytes = attachment.bytes();
    json!({
        "key": format!("attachment:{}", attachment.id),
        "attachmentId": attachment.id.to_string(),
        "serviceRequestId": attachment.service_request_id.to_string(),
        "propertyCode": property_code,
        "fileName": attachment.file_name,
        "attachmentType": attachment.attachment_type,
        "description": attachment.description,
        "createdDate": stamp(attachment.created),
        "bytes": bytes.len(),
        "sha256": hex::encode(Sha256::digest(&bytes)),
    })
}
