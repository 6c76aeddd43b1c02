//! What the Yardi stand-in does when written to, and how its records change over time.

use crate::support::yardi::{call, texts};
use crate::support::{ledger, options, post, records, start, stats};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sluice_standin::{Handle, Kind};

const REQUESTS: &str = "ItfServiceRequests";

async fn begin() -> (Handle, String, Value) {
    let handle = start(options(Kind::Yardi)).await;
    let first = records(&handle, "service_request").await.swap_remove(0);
    let code = first["propertyCode"].as_str().unwrap().to_owned();
    (handle, code, first)
}

fn batch(code: &str, records: &str) -> String {
    format!(
        "<YardiPropertyId>{code}</YardiPropertyId><ServiceRequestXml><ServiceRequests>{records}</ServiceRequests></ServiceRequestXml>"
    )
}

const NEW: &str = "<ServiceRequest><ServiceRequestId>0</ServiceRequestId><ServiceRequestFullDescription>A description that is clearly longer than thirty-five characters</ServiceRequestFullDescription>\
    <HasPermissionToEnter>true</HasPermissionToEnter><Priority>High</Priority><CurrentStatus>Call</CurrentStatus></ServiceRequest>";

#[tokio::test]
async fn a_mixed_batch_is_judged_record_by_record() {
    let (handle, code, first) = begin().await;
    let id = first["serviceRequestId"].as_str().unwrap();
    let edit = format!(
        "<ServiceRequest><ServiceRequestId>{id}</ServiceRequestId><CurrentStatus>On Hold</CurrentStatus><TechnicianNotes>part ordered</TechnicianNotes></ServiceRequest>"
    );
    let unknown = "<ServiceRequest><ServiceRequestId>999999999</ServiceRequestId></ServiceRequest>";
    let incomplete = "<ServiceRequest><ServiceRequestFullDescription>x</ServiceRequestFullDescription></ServiceRequest>";
    let answer = call(
        &handle,
        REQUESTS,
        "CreateOrEditServiceRequests",
        &batch(&code, &format!("{NEW}{edit}{unknown}{incomplete}")),
    )
    .await;
    assert_eq!(answer.status, 200);
    let text = answer.text();
    assert_eq!(text.matches("<ErrorMessages>").count(), 2);
    assert!(text.contains("Could not find service request 999999999"));
    assert!(text.contains("HasPermissionToEnter is required"));
    let new_id = texts(&text, "ServiceRequestId")[0].clone();
    assert_eq!(
        texts(&text, "ServiceRequestBriefDescription")[0],
        "A description that is clearly longe"
    );

    let all = records(&handle, "service_request").await;
    let find = |id: &str| {
        all.iter()
            .find(|one| one["serviceRequestId"] == id)
            .unwrap()
    };
    assert_eq!(find(&new_id)["priority"], "High");
    assert_eq!(find(id)["status"], "On Hold");
    let before = first["statusHistory"].as_array().unwrap().len();
    let history = find(id)["statusHistory"].as_array().unwrap();
    assert_eq!(history.len(), before + 1);
    assert_eq!(history.last().unwrap()["type"], "On Hold");
    assert!(find(id)["updateDate"].as_str() > first["updateDate"].as_str());

    let stats = stats(&handle).await;
    assert_eq!(
        (&stats["created"], &stats["updated"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(stats["duplicates_created"], 0);
    // The same create again makes a second record, which Yardi does not notice but we do.
    call(
        &handle,
        REQUESTS,
        "CreateOrEditServiceRequests",
        &batch(&code, NEW),
    )
    .await;
    assert_eq!(
        crate::support::stats(&handle).await["duplicates_created"],
        1
    );
    let entries = ledger(&handle).await;
    let write = entries.iter().find(|one| one["applied"] == true).unwrap();
    assert_eq!(write["operation"], "CreateOrEditServiceRequests");
    assert!(
        write["keys"]
            .as_array()
            .unwrap()
            .contains(&json!(format!("service_request:{id}")))
    );
}

#[tokio::test]
async fn the_document_may_come_as_text_and_broken_ones_are_refused() {
    let (handle, code, _) = begin().await;
    let escaped = format!("<ServiceRequests>{NEW}</ServiceRequests>")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    let inner = format!(
        "<YardiPropertyId>{code}</YardiPropertyId><ServiceRequestXml>{escaped}</ServiceRequestXml>"
    );
    let text = call(&handle, REQUESTS, "CreateOrEditServiceRequests", &inner)
        .await
        .text();
    assert_eq!(texts(&text, "ServiceRequestId").len(), 1);
    for broken in ["&lt;ServiceRequests>", "", "<ServiceRequests/>"] {
        let inner = format!(
            "<YardiPropertyId>{code}</YardiPropertyId><ServiceRequestXml>{broken}</ServiceRequestXml>"
        );
        let answer = call(&handle, REQUESTS, "CreateOrEditServiceRequests", &inner).await;
        assert_eq!(answer.status, 200);
        assert!(answer.text().contains("XSD Error"), "{broken}");
    }
}

#[tokio::test]
async fn files_are_taken_listed_and_refused() {
    let (handle, code, first) = begin().await;
    let id = first["serviceRequestId"].as_str().unwrap().to_owned();
    let import = |kind: &str, extension: &str, content: String| {
        format!(
            "<PropertyCode>{code}</PropertyCode><WorkOrderId>{id}</WorkOrderId><AttachmentType>{kind}</AttachmentType>\
             <Description>after</Description><Attachment>{content}</Attachment><Extension>{extension}</Extension>"
        )
    };
    let operation = "ImportWorkOrderDocumentExt";
    let small = STANDARD.encode(b"hello");
    let text = call(
        &handle,
        REQUESTS,
        operation,
        &import("Photo", "jpg", small.clone()),
    )
    .await
    .text();
    assert!(text.contains("messageType=\"FYI\""), "{text}");

    let exact = STANDARD.encode(vec![7; 4_194_304]);
    let text = call(
        &handle,
        REQUESTS,
        operation,
        &import("Photo", ".pdf", exact),
    )
    .await
    .text();
    assert!(text.contains("messageType=\"FYI\""), "{text}");
    let over = STANDARD.encode(vec![7; 4_194_305]);
    for (kind, extension, content, message) in [
        ("Photo", "pdf", over, "exceeds 4194304 bytes"),
        ("Selfie", "pdf", small.clone(), "Invalid attachment type"),
        ("Confidential", "pdf", small.clone(), "no write permission"),
        ("Photo", "exe", small.clone(), "Invalid file extension"),
        ("Photo", "pdf", "***".into(), "XSD Error"),
        ("Photo", "pdf", String::new(), "file is empty"),
    ] {
        let answer = call(
            &handle,
            REQUESTS,
            operation,
            &import(kind, extension, content),
        )
        .await;
        assert_eq!(answer.status, 200);
        assert!(
            answer.text().contains("messageType=\"Error\"") && answer.text().contains(message),
            "{message}"
        );
    }
    let inner = format!("<ServiceRequestId>{id}</ServiceRequestId><PropertyID>{code}</PropertyID>");
    let text = call(&handle, REQUESTS, "GetAttachments", &inner)
        .await
        .text();
    assert!(texts(&text, "FileData").contains(&small));
    // By date: today holds the new ones, a day long ago holds none.
    let today = chrono::Utc::now().format("%m/%d/%Y");
    let inner = format!("<PropertyID>{code}</PropertyID><FromDate>{today}</FromDate>");
    let text = call(&handle, REQUESTS, "GetAttachments_DateRange", &inner)
        .await
        .text();
    assert_eq!(texts(&text, "AttachmentId").len(), 2);
    let inner = format!(
        "<YardiPropertyId>{code}</YardiPropertyId><AttachmentToDate>1999-01-01</AttachmentToDate>"
    );
    let text = call(
        &handle,
        REQUESTS,
        "GetServiceRequest_AttachmentSearch",
        &inner,
    )
    .await
    .text();
    assert!(text.contains("No attachments found"));
    let text = call(&handle, REQUESTS, "GetAttachmentTypes", &inner)
        .await
        .text();
    assert!(text.contains("<Name>Photo</Name>"));
}

#[tokio::test]
async fn edits_change_records_and_move_the_update_date() {
    let (handle, code, _) = begin().await;
    let before = records(&handle, "service_request").await;
    let answer = post(&handle, "/_control/edits", &json!({"count": 200}))
        .await
        .json();
    assert_eq!(answer["applied"], 200);
    let kinds: std::collections::BTreeSet<&str> = answer["edits"]
        .as_array()
        .unwrap()
        .iter()
        .map(|edit| edit["edit"].as_str().unwrap())
        .collect();
    assert!(kinds.len() >= 6, "{kinds:?}");
    let after = records(&handle, "service_request").await;
    assert!(after.len() > before.len());
    // What the date range of today shows is what was edited.
    let changed = after
        .iter()
        .filter(|one| !before.contains(one) && one["propertyCode"] == code.as_str());
    let changed: std::collections::BTreeSet<String> = changed
        .filter(|one| {
            !before.iter().any(|old| {
                old["serviceRequestId"] == one["serviceRequestId"]
                    && old["updateDate"] == one["updateDate"]
            })
        })
        .map(|one| one["serviceRequestId"].as_str().unwrap().to_owned())
        .collect();
    let inner = format!("<YardiPropertyId>{code}</YardiPropertyId><FromDate>2025-06-02</FromDate>");
    let text = call(&handle, REQUESTS, "GetServiceRequest_ByDateRange", &inner)
        .await
        .text();
    let shown: std::collections::BTreeSet<String> =
        texts(&text, "ServiceRequestId").into_iter().collect();
    assert!(!shown.is_empty());
    assert_eq!(shown, changed);
}

#[tokio::test]
async fn single_kinds_of_edits_on_demand() {
    let (handle, _, _) = begin().await;
    for name in [
        "service_request.update",
        "service_request.create",
        "service_request.delete",
        "service_request.future",
        "resident.update",
        "resident.create",
        "resident.delete",
        "resident.promote",
        "unit.update",
        "unit.create",
        "unit.delete",
        "attachment.create",
        "attachment.delete",
        "property.rename",
    ] {
        let answer = post(
            &handle,
            "/_control/edits",
            &json!({"count": 1, "only": [name]}),
        )
        .await;
        // Only units added a moment ago are empty enough to disappear.
        assert!(
            answer.status == 200 || name == "unit.delete",
            "{name}: {}",
            answer.text()
        );
    }
    assert_eq!(
        post(
            &handle,
            "/_control/edits",
            &json!({"count": 1, "only": ["x"]})
        )
        .await
        .status,
        400
    );
    assert_eq!(
        post(&handle, "/_control/edits", &json!({"number": 1}))
            .await
            .status,
        400
    );
    let promotions = records(&handle, "roommate_promotion").await;
    let residents = records(&handle, "resident").await;
    for promotion in &promotions {
        assert!(residents.iter().any(
            |one| one["tCode"] == promotion["newTenant"] && one["pCode"] == promotion["pCode"]
        ));
    }
}
