//! What the Yardi stand-in answers to reads.

use std::collections::BTreeSet;

use serde_json::json;
use sluice_standin::{Kind, Options};

use crate::support::yardi::{REQUESTS, RESIDENTS, call, property, property_codes, small, texts};
use crate::support::{options, post, records, start};

#[tokio::test]
async fn answers_hold_what_the_truth_holds() {
    let handle = small().await;
    let units = records(&handle, "unit").await;
    let residents = records(&handle, "resident").await;
    let requests = records(&handle, "service_request").await;
    let attachments = records(&handle, "attachment").await;
    let occupants: usize = residents
        .iter()
        .map(|r| r["occupants"].as_array().unwrap().len())
        .sum();
    let total = 12 + units.len() + residents.len() + occupants + requests.len() + attachments.len();
    assert!((4_500..5_500).contains(&total), "{total} records");

    let mut seen = [
        BTreeSet::new(),
        BTreeSet::new(),
        BTreeSet::new(),
        BTreeSet::new(),
    ];
    for code in property_codes(&handle).await {
        let property = property(&code);
        let answer = call(&handle, RESIDENTS, "GetUnitInformation", &property)
            .await
            .text();
        seen[0].extend(
            answer
                .split("UniqueID=\"")
                .skip(1)
                .map(|rest| rest.split('"').next().unwrap().to_owned()),
        );
        let answer = call(
            &handle,
            REQUESTS,
            "GetResident_Search",
            &format!("{property}<Address/>"),
        )
        .await
        .text();
        seen[1].extend(
            answer
                .split("<Customer>")
                .skip(1)
                .filter_map(|c| texts(c, "IDValue").first().map(|id| id.trim().to_owned())),
        );
        let answer = call(
            &handle,
            REQUESTS,
            "GetServiceRequest_ByDateRange",
            &property,
        )
        .await
        .text();
        seen[2].extend(texts(&answer, "ServiceRequestId"));
        let answer = call(
            &handle,
            REQUESTS,
            "GetAttachments_DateRange",
            &format!("<ServiceRequestId/><PropertyID>{code}</PropertyID>"),
        )
        .await
        .text();
        seen[3].extend(texts(&answer, "AttachmentId"));
    }
    let keys = |list: &[serde_json::Value], field: &str| -> BTreeSet<String> {
        list.iter()
            .map(|one| one[field].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(seen[0], keys(&units, "uniqueId"));
    assert_eq!(seen[1], keys(&residents, "tCode"));
    assert_eq!(seen[2], keys(&requests, "serviceRequestId"));
    assert_eq!(seen[3], keys(&attachments, "attachmentId"));
}

#[tokio::test]
async fn the_quirks_are_there() {
    let handle = small().await;
    let codes = property_codes(&handle).await;
    let mut requests = String::new();
    let mut customers = String::new();
    for code in &codes {
        requests += &call(
            &handle,
            REQUESTS,
            "GetServiceRequest_ByDateRange",
            &property(code),
        )
        .await
        .text();
        customers += &call(&handle, REQUESTS, "GetResident_Search", &property(code))
            .await
            .text();
    }
    for piece in [
        ">True<",
        ">true<",
        "  </UnitCode>",
        "<Status Type=\"\" ",
        "<SubCategory/>",
        "<UnitCode/>",
        "&amp;",
    ] {
        assert!(requests.contains(piece), "no {piece} in service requests");
    }
    assert!(
        texts(&requests, "ServiceRequestDate")
            .iter()
            .any(|date| date.contains('/'))
    );
    assert!(
        texts(&requests, "UpdateDate")
            .iter()
            .all(|date| date.contains('T'))
    );
    assert!(
        texts(&requests, "ServiceRequestBriefDescription")
            .iter()
            .all(|text| {
                let text = text
                    .replace("&amp;", "&")
                    .replace("&lt;", "<")
                    .replace("&gt;", ">")
                    .replace("&quot;", "\"")
                    .replace("&apos;", "'");
                text.chars().count() <= 35
            })
    );
    let names = texts(&customers, "LastName");
    assert!(names.iter().any(|name| name.starts_with('*')));
    assert!(texts(&customers, "FirstName").iter().any(String::is_empty));
    assert!(
        texts(&customers, "Address1")
            .iter()
            .any(|line| line.contains('@'))
    );
    let ends = texts(&customers, "LeaseToDate");
    assert!(
        ends.iter()
            .any(|date| date.starts_with("5025") || date.starts_with("6065"))
    );
    assert!(customers.contains("<YardiStatus>Past<"));
    assert!(customers.contains("<OtherOccupants>"));

    let units = call(
        &handle,
        RESIDENTS,
        "GetUnitInformation",
        &property(&codes[0]),
    )
    .await
    .text();
    for pseudo in ["NONRESID", "WAIT", "WAIT_AFF", "RETAIL"] {
        assert!(units.contains(&format!(">{pseudo}</UnitID>")), "{pseudo}");
    }
}

#[tokio::test]
async fn one_record_nothing_and_unknown_property() {
    let handle = small().await;
    let codes = property_codes(&handle).await;
    let single = call(
        &handle,
        REQUESTS,
        "GetServiceRequest_ByDateRange",
        &property(&codes[1]),
    )
    .await
    .text();
    assert_eq!(texts(&single, "ServiceRequestId").len(), 1);
    let single = call(
        &handle,
        RESIDENTS,
        "GetUnitInformation",
        &property(&codes[1]),
    )
    .await
    .text();
    assert_eq!(single.matches("<UnitInfo>").count(), 1);

    let empty = call(
        &handle,
        REQUESTS,
        "GetServiceRequest_ByDateRange",
        &property(&codes[11]),
    )
    .await
    .text();
    assert!(
        empty.contains("<ServiceRequest><ErrorMessages><Error>No service requests found</Error>")
    );
    let empty = call(
        &handle,
        "ItfCommonData",
        "GetTenants",
        &property(&codes[11]),
    )
    .await
    .text();
    assert!(
        empty.contains(&format!(
            "<PropertyTenants Code=\"{}\"></PropertyTenants>",
            codes[11]
        )),
        "{empty}"
    );
    let empty = call(
        &handle,
        RESIDENTS,
        "GetRoommatePromotions",
        &property(&codes[11]),
    )
    .await
    .text();
    assert!(empty.contains("Result>No roommate promotions found</"));

    for (interface, operation, record) in [
        (REQUESTS, "GetServiceRequest_ByDateRange", "ServiceRequest"),
        (REQUESTS, "GetResident_Search", "Customer"),
        (RESIDENTS, "GetUnitInformation", "Property"),
        (REQUESTS, "GetAttachments_DateRange", "Attachment"),
    ] {
        let answer = call(&handle, interface, operation, &property("nowhere")).await;
        assert_eq!(answer.status, 200);
        let wanted = format!(
            "<{record}><ErrorMessages><Error>Could not find property &apos;nowhere&apos;</Error>"
        );
        assert!(answer.text().contains(&wanted), "{}", answer.text());
    }
}

#[tokio::test]
async fn dates_filter_by_whole_days_on_update_and_creation() {
    let handle = small().await;
    let code = property_codes(&handle).await[0].clone();
    let own: Vec<_> = records(&handle, "service_request")
        .await
        .into_iter()
        .filter(|one| one["propertyCode"] == code.as_str())
        .collect();
    let day = |field: &str| own[own.len() / 2][field].as_str().unwrap()[..10].to_owned();
    for (field, from, to) in [
        ("updateDate", "FromDate", "ToDate"),
        ("createdDate", "CreatedFromDate", "CreatedToDate"),
    ] {
        let day = day(field);
        let inner = format!(
            "{}<{from}>{day}</{from}><{to}>{day}T00:00:00</{to}>",
            property(&code)
        );
        let answer = call(&handle, REQUESTS, "GetServiceRequest_ByDateRange", &inner)
            .await
            .text();
        let got: BTreeSet<String> = texts(&answer, "ServiceRequestId").into_iter().collect();
        let wanted: BTreeSet<String> = own
            .iter()
            .filter(|one| one[field].as_str().unwrap().starts_with(&day))
            .map(|one| one["serviceRequestId"].as_str().unwrap().to_owned())
            .collect();
        assert!(!wanted.is_empty());
        assert_eq!(got, wanted, "{field}");
    }
    let inner = format!("{}<FromDate>sometime</FromDate>", property(&code));
    let answer = call(&handle, REQUESTS, "GetServiceRequest_ByDateRange", &inner).await;
    assert_eq!(answer.status, 500);

    for (value, open) in [("Open", true), ("Closed", false)] {
        let inner = format!("{}<OpenOrClosed>{value}</OpenOrClosed>", property(&code));
        let answer = call(&handle, REQUESTS, "GetServiceRequest_Search", &inner)
            .await
            .text();
        let statuses = texts(&answer, "CurrentStatus");
        assert!(!statuses.is_empty());
        assert!(
            statuses
                .iter()
                .all(|s| matches!(s.as_str(), "Completed" | "Work Completed" | "Canceled") != open)
        );
    }
    let inner = format!("{}<Status>Call</Status>", property(&code));
    let answer = call(&handle, REQUESTS, "GetServiceRequest_Search", &inner)
        .await
        .text();
    assert!(
        texts(&answer, "CurrentStatus")
            .iter()
            .all(|status| status == "Call")
    );
}

#[tokio::test]
async fn single_requests_are_found_by_id_in_both_spellings() {
    let handle = small().await;
    let all = records(&handle, "service_request").await;
    let code = all[0]["propertyCode"].as_str().unwrap().to_owned();
    let ids: Vec<&str> = all[..2]
        .iter()
        .map(|one| one["serviceRequestId"].as_str().unwrap())
        .collect();
    for array in [
        format!("<int>{}</int><int>{}</int>", ids[0], ids[1]),
        format!("{},{}", ids[0], ids[1]),
    ] {
        let inner = format!(
            "{}<ServiceRequestIdArray>{array}</ServiceRequestIdArray>",
            property(&code)
        );
        let answer = call(&handle, REQUESTS, "GetServiceRequests", &inner)
            .await
            .text();
        assert_eq!(texts(&answer, "ServiceRequestId"), ids);
    }
}

#[tokio::test]
async fn tenants_have_slashes_in_one_operation_and_iso_dates_in_the_other() {
    let handle = small().await;
    let codes = property_codes(&handle).await;
    let slashes = call(&handle, "ItfCommonData", "GetTenants", &property(&codes[0]))
        .await
        .text();
    assert!(slashes.contains(&format!(
        "<PropertyTenants Code=\"{}\"><Tenants><Tenant tCode=\"t",
        codes[0]
    )));
    assert!(
        texts(&slashes, "LeaseFromDate")
            .iter()
            .all(|date| date.contains('/'))
    );
    let unit = texts(&slashes, "UnitCode")
        .into_iter()
        .find(|code| !code.is_empty())
        .unwrap();
    let inner = format!("{}<UnitId>{unit}</UnitId>", property(&codes[0]));
    let iso = call(&handle, "ItfCommonData", "GetTenantsByUnit", &inner)
        .await
        .text();
    let dates = texts(&iso, "LeaseFromDate");
    assert!(
        !dates.is_empty()
            && dates
                .iter()
                .all(|date| date.len() == 10 && date.contains('-'))
    );
    assert!(texts(&iso, "UnitCode").iter().all(|code| *code == unit));
}

#[tokio::test]
async fn a_promoted_roommate_and_a_renamed_property() {
    let handle = small().await;
    let properties = records(&handle, "property").await;
    let promotions = records(&handle, "roommate_promotion").await;
    let residents = records(&handle, "resident").await;
    let first = &promotions[0];
    let person = |code: &str| {
        residents
            .iter()
            .find(|one| one["tCode"] == first[code])
            .unwrap()
    };
    assert_eq!(person("priorTenant")["status"], "Past");
    assert_eq!(person("newTenant")["status"], "Current");
    assert_eq!(
        person("priorTenant")["unitCode"],
        person("newTenant")["unitCode"]
    );
    assert_eq!(person("newTenant")["pCode"], first["pCode"]);
    let code = properties[0]["code"].as_str().unwrap();
    let answer = call(&handle, RESIDENTS, "GetRoommatePromotions", &property(code))
        .await
        .text();
    assert_eq!(
        texts(&answer, "OldRoomateCode"),
        [first["oldRoomateCode"].as_str().unwrap()]
    );

    let renamed = properties
        .iter()
        .find(|one| !one["formerCodes"].as_array().unwrap().is_empty())
        .unwrap();
    let former = renamed["formerCodes"][0].as_str().unwrap();
    let answer = call(&handle, RESIDENTS, "GetUnitInformation", &property(former))
        .await
        .text();
    assert!(answer.contains("Could not find"));

    // Renamed while running: same community, same unit ids, another code.
    let before = call(&handle, RESIDENTS, "GetUnitInformation", &property(code))
        .await
        .text();
    let answer = post(
        &handle,
        "/_control/rename",
        &json!({"property": code, "code": "newcode"}),
    )
    .await;
    assert_eq!(answer.status, 200);
    let after = call(
        &handle,
        RESIDENTS,
        "GetUnitInformation",
        &property("newcode"),
    )
    .await
    .text();
    assert_eq!(before, after);
    let answer = call(&handle, RESIDENTS, "GetUnitInformation", &property(code))
        .await
        .text();
    assert!(answer.contains("Could not find"));
}

#[tokio::test]
async fn the_same_seed_gives_the_same_records_and_another_does_not() {
    let all = |seed| async move {
        let handle = start(Options {
            seed,
            records: 600,
            properties: 4,
            ..options(Kind::Yardi)
        })
        .await;
        let mut text = String::new();
        for kind in [
            "property",
            "unit",
            "resident",
            "service_request",
            "attachment",
        ] {
            text += &crate::support::get(&handle, &format!("/_control/records?kind={kind}"))
                .await
                .text();
        }
        text
    };
    let (first, again, other) = (all(5).await, all(5).await, all(6).await);
    assert_eq!(first, again);
    assert_ne!(first, other);
}
