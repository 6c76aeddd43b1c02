//! Yardi's manifest against a server that answers with the fixtures.

use std::collections::BTreeMap;

use chrono::{TimeZone as _, Utc};
use futures::StreamExt as _;
use serde_json::{Value, json};
use sluice_connectors::{
    library::Library,
    source::{Page, SliceRequest, Source},
};
use sluice_core::{Error, ErrorClass, Result, run::RunKind};

use crate::server::{Asked, Server, load};

const OPERATIONS: [(&str, &str); 5] = [
    ("properties", "GetPropertyConfigurations"),
    ("units", "GetUnitInformation"),
    ("residents", "GetResident_Search"),
    ("service_requests", "GetServiceRequest_ByDateRange"),
    ("attachments", "GetAttachments_DateRange"),
];

fn fixture(stream: &str) -> String {
    let files = Library::new(None).unwrap().get("yardi").unwrap();
    files
        .get(&format!("fixtures/bodies/{stream}.xml"))
        .unwrap()
        .to_owned()
}

fn operation(asked: &Asked) -> String {
    asked
        .header("soapaction")
        .rsplit('/')
        .next()
        .unwrap_or_default()
        .to_owned()
}

/// Answers each operation with its fixture, or with what `other` makes of (operation, body).
async fn yardi(
    other: impl Fn(&str, &str) -> Option<(u16, String)> + Send + Sync + 'static,
) -> (Server, Source) {
    let bodies: BTreeMap<String, String> = OPERATIONS
        .iter()
        .map(|(stream, operation)| ((*operation).to_owned(), fixture(stream)))
        .collect();
    let server = Server::start(move |asked, _| {
        let name = operation(asked);
        let (status, body) = other(&name, &asked.body)
            .unwrap_or_else(|| (200, bodies.get(&name).cloned().unwrap_or_default()));
        let kind = ("content-type", "text/xml; charset=utf-8".to_owned());
        (status, vec![kind], body.into_bytes())
    })
    .await;
    let source = load(
        &Library::new(None).unwrap().get("yardi").unwrap(),
        config(&server.url),
    )
    .unwrap();
    (server, source)
}

fn config(url: &str) -> Value {
    json!({
        "url": format!("{url}/company/Webservices"),
        "credentials": {
            "user_name": "svc<&>", "password": "general-secret", "server_name": "srv", "database": "db",
            "platform": "SQL Server", "interface_entity": "Sluice", "interface_license": "AAAA"
        },
        "interfaces": {"ItfResidentData": {"password": "resident-secret"}},
        "start_date": "2024-12-01",
        "window": "P90D"
    })
}

fn request(stream: &str, kind: RunKind) -> SliceRequest {
    SliceRequest {
        stream: stream.to_owned(),
        kind,
        states: Vec::new(),
        since: None,
        record: None,
        now: Utc.with_ymd_and_hms(2025, 3, 10, 20, 0, 0).unwrap(),
    }
}

async fn pages(source: &Source, stream: &str, slice: &Value) -> Vec<Result<Page>> {
    source.read(stream, slice, None).collect().await
}

/// All records of the first slice.
async fn first_slice(source: &Source, stream: &str) -> (Value, Vec<Page>) {
    let slices = source
        .slices(&request(stream, RunKind::Full))
        .await
        .unwrap();
    let pages = pages(source, stream, &slices[0]).await;
    (
        slices[0].clone(),
        pages.into_iter().map(Result::unwrap).collect(),
    )
}

#[tokio::test]
async fn every_stream_gives_the_records_its_readme_promises() {
    let (_server, source) = yardi(|_, _| None).await;
    source.check().await.unwrap();
    let names: Vec<_> = source
        .streams()
        .iter()
        .map(|info| (info.name.as_str(), info.incremental))
        .collect();
    assert_eq!(
        names,
        [
            ("properties", false),
            ("units", false),
            ("residents", false),
            ("service_requests", true),
            ("attachments", true)
        ]
    );
    let mut all = BTreeMap::new();
    for (stream, _) in OPERATIONS {
        let (slice, pages) = first_slice(&source, stream).await;
        for page in &pages {
            assert!(page.error.is_none());
            // What is stored gives the same records again.
            assert_eq!(
                source.records(stream, &slice, &page.body).unwrap(),
                page.records
            );
        }
        all.insert(stream, pages[0].records.clone());
    }
    assert_eq!(all["properties"][1]["Code"], "elm&co");
    let unit = &all["units"][0];
    assert_eq!(
        unit["UnitID"],
        json!({"@UniqueID": "30118", "#text": "12-304"})
    );
    assert_eq!(unit["PropertyCode"], "oakrun");
    assert_eq!(
        unit["PersonID"],
        json!([{"@Type": "Current Resident", "#text": "t0091234"}])
    );
    assert_eq!(unit["Unit"]["Identification"][0]["@IDValue"], "Residential");
    let resident = &all["residents"][0];
    assert_eq!(resident["Lease"]["Identification"]["IDValue"], "12-304");
    assert_eq!(
        resident["OtherOccupants"][0]["Identification"]["IDValue"],
        "r0000456"
    );
    let request = &all["service_requests"][0];
    assert_eq!(request["ServiceRequestId"], "51877");
    assert_eq!(
        request["StatusHistory"]["Status"],
        json!([{"@Type": "", "@TimeStamp": "2025-03-04T09:10:02"}])
    );
    assert_eq!(all["attachments"][0]["ServiceRequestId"], "51877");
    assert_eq!(all["attachments"][0]["PropertyCode"], "oakrun");
}

#[tokio::test]
async fn requests_are_soap_with_each_interfaces_own_credentials() {
    let (server, source) = yardi(|_, _| None).await;
    let (_, _) = first_slice(&source, "units").await;
    let (_, _) = first_slice(&source, "residents").await;
    let (_, _) = first_slice(&source, "attachments").await;
    let asked = server.asked();
    let of = |name: &str| {
        asked
            .iter()
            .find(|asked| operation(asked) == name)
            .unwrap()
            .clone()
    };
    let units = of("GetUnitInformation");
    assert_eq!(
        units.uri.path(),
        "/company/Webservices/ItfResidentData.asmx"
    );
    assert_eq!(
        units.header("soapaction"),
        "http://tempuri.org/YSI.Interfaces.WebServices/ItfResidentData/GetUnitInformation"
    );
    assert_eq!(units.header("content-type"), "text/xml; charset=utf-8");
    assert_eq!(
        units.body,
        concat!(
            "<?xml version=\"1.0\" encoding=\"utf-8\"?>",
            "<soap:Envelope xmlns:soap=\"http://schemas.xmlsoap.org/soap/envelope/\"><soap:Body>",
            "<GetUnitInformation xmlns=\"http://tempuri.org/YSI.Interfaces.WebServices/ItfResidentData\">",
            "<UserName>svc&lt;&amp;&gt;</UserName><Password>resident-secret</Password>",
            "<ServerName>srv</ServerName><Database>db</Database><Platform>SQL Server</Platform>",
            "<InterfaceEntity>Sluice</InterfaceEntity><InterfaceLicense>AAAA</InterfaceLicense>",
            "<YardiPropertyId>oakrun</YardiPropertyId>",
            "</GetUnitInformation></soap:Body></soap:Envelope>"
        )
    );
    let residents = of("GetResident_Search");
    assert!(
        residents
            .body
            .contains("<Password>general-secret</Password>")
    );
    assert!(
        residents
            .body
            .contains("<YardiPropertyId>oakrun</YardiPropertyId><Address></Address>")
    );
    let attachments = of("GetAttachments_DateRange");
    assert!(attachments.body.contains(
        "<PropertyID>oakrun</PropertyID><ServiceRequestId></ServiceRequestId><FromDate>2024-12-01</FromDate>"
    ));
    let properties = of("GetPropertyConfigurations");
    assert!(!properties.body.contains("Address"));
}

#[tokio::test]
async fn service_requests_are_read_by_windows_of_whole_days_from_a_day_before_the_state() {
    let (server, source) = yardi(|_, _| None).await;
    let slices = source
        .slices(&request("service_requests", RunKind::Full))
        .await
        .unwrap();
    assert_eq!(slices.len(), 2);
    let read = pages(&source, "service_requests", &slices[0]).await;
    assert_eq!(read.len(), 2, "2024-12-01 to 2025-03-11 in two windows");
    let days = |from: &str, to: &str| format!("<FromDate>{from}</FromDate><ToDate>{to}</ToDate>");
    let bodies: Vec<_> = server
        .asked()
        .iter()
        .filter(|asked| operation(asked) == "GetServiceRequest_ByDateRange")
        .map(|asked| asked.body.clone())
        .collect();
    assert!(bodies[0].contains(&days("2024-12-01", "2025-02-28")));
    assert!(bodies[1].contains(&days("2025-03-01", "2025-03-11")));

    // The state is the highest date seen, capped at the end of the range; it comes once per window.
    let (partition, state) = read[1].as_ref().unwrap().state.clone().unwrap();
    assert_eq!(partition, r#"{"parent_slice":{},"property":"oakrun"}"#);
    assert_eq!(state, json!({"UpdateDate": "2025-03-11"}));

    let incremental = SliceRequest {
        states: vec![(partition, json!({"UpdateDate": "2025-03-05"}))],
        ..request("service_requests", RunKind::Incremental)
    };
    let slices = source.slices(&incremental).await.unwrap();
    assert_eq!(slices[0]["cursor"]["start"], "2025-03-04T00:00:00.000000Z");
    // A property without a state is read from the start.
    assert_eq!(slices[1]["cursor"]["start"], "2024-12-01T00:00:00.000000Z");

    let since = SliceRequest {
        since: Some(Utc.with_ymd_and_hms(2025, 2, 10, 8, 0, 0).unwrap()),
        ..incremental
    };
    let slices = source.slices(&since).await.unwrap();
    assert_eq!(slices[0]["cursor"]["start"], "2025-02-09T00:00:00.000000Z");
}

#[tokio::test]
async fn reading_goes_on_behind_stored_progress() {
    let (server, source) = yardi(|_, _| None).await;
    let slices = source
        .slices(&request("service_requests", RunKind::Full))
        .await
        .unwrap();
    let first = source
        .read("service_requests", &slices[0], None)
        .next()
        .await
        .unwrap()
        .unwrap();
    let before = server.asked().len();
    let rest: Vec<_> = source
        .read("service_requests", &slices[0], Some(first.progress))
        .collect()
        .await;
    assert_eq!(rest.len(), 1);
    assert_eq!(server.asked().len(), before + 1);
    let last = rest.into_iter().next().unwrap().unwrap();
    let nothing = source
        .read("service_requests", &slices[0], Some(last.progress))
        .count()
        .await;
    assert_eq!(nothing, 0);
}

#[tokio::test]
async fn a_single_record_is_found_by_its_source_id() {
    let (server, source) = yardi(|_, _| None).await;
    let single = |stream: &str, id: &str| SliceRequest {
        record: Some(id.to_owned()),
        ..request(stream, RunKind::Single)
    };
    let units = source
        .slices(&single("units", "oakrun-12-304"))
        .await
        .unwrap();
    assert_eq!(units.len(), 1, "only the property it is in");
    for (stream, id, found) in [
        ("properties", "OAKRUN", 1),
        ("units", "oakrun-12-304", 1),
        ("residents", "r0000456", 1),
        ("residents", "t0091234", 1),
        ("residents", "t0", 0),
        ("service_requests", "51878", 1),
        ("attachments", "9001", 1),
    ] {
        let slices = source.slices(&single(stream, id)).await.unwrap();
        let page = pages(&source, stream, &slices[0]).await.remove(0).unwrap();
        assert_eq!(page.records.len(), found, "{stream} {id}");
        // What was left out must not count as read.
        assert_eq!(page.state, None);
    }
    assert!(!server.asked().is_empty());
}

fn answer(operation: &str, result: &str) -> String {
    format!(
        "<soap:Envelope xmlns:soap=\"http://schemas.xmlsoap.org/soap/envelope/\"><soap:Body><{operation}Response xmlns=\"http://tempuri.org/x\">{result}</{operation}Response></soap:Body></soap:Envelope>"
    )
}

/// Reads service requests of the first property with an answer in place of the records.
async fn failure(status: u16, result: &'static str) -> std::result::Result<usize, Error> {
    let (_server, source) = yardi(move |name, _| {
        (name == "GetServiceRequest_ByDateRange").then(|| (status, answer(name, result)))
    })
    .await;
    let slices = source
        .slices(&request("service_requests", RunKind::Full))
        .await
        .unwrap();
    let page = pages(&source, "service_requests", &slices[0])
        .await
        .remove(0)?;
    match page.error {
        Some(error) => Err(error),
        None => Ok(page.records.len()),
    }
}

#[tokio::test]
async fn failures_inside_status_200_have_their_classes() {
    for (result, class, code) in [
        (
            "<GetServiceRequest_ByDateRangeResult>Login failed. User x</GetServiceRequest_ByDateRangeResult>",
            ErrorClass::Auth,
            "credentials_refused",
        ),
        (
            "<GetServiceRequest_ByDateRangeResult><Messages xmlns=\"\"><Message messageType=\"Error\">Login failed. User x</Message><Message/></Messages></GetServiceRequest_ByDateRangeResult>",
            ErrorClass::Auth,
            "credentials_refused",
        ),
        (
            "<GetServiceRequest_ByDateRangeResult>Invalid Interface Entity</GetServiceRequest_ByDateRangeResult>",
            ErrorClass::Auth,
            "credentials_refused",
        ),
        ("", ErrorClass::Auth, "credentials_refused"),
        (
            "<GetServiceRequest_ByDateRangeResult><ServiceRequests xmlns=\"\"><ServiceRequest><ErrorMessages><Error>Could not find property 'x'</Error></ErrorMessages></ServiceRequest></ServiceRequests></GetServiceRequest_ByDateRangeResult>",
            ErrorClass::NotFound,
            "unknown_property",
        ),
        (
            "<GetServiceRequest_ByDateRangeResult><ServiceRequests xmlns=\"\"><ServiceRequest><ErrorMessages><Error>Interface is not configured for the property</Error></ErrorMessages></ServiceRequest></ServiceRequests></GetServiceRequest_ByDateRangeResult>",
            ErrorClass::Config,
            "interface_not_enabled",
        ),
        (
            "<GetServiceRequest_ByDateRangeResult>XSD Error in line 3</GetServiceRequest_ByDateRangeResult>",
            ErrorClass::TargetError,
            "yardi_schema_error",
        ),
        (
            "<GetServiceRequest_ByDateRangeResult>Object reference not set to an instance of an object</GetServiceRequest_ByDateRangeResult>",
            ErrorClass::TargetError,
            "yardi_failed",
        ),
        (
            "<GetServiceRequest_ByDateRangeResult>Something unheard of</GetServiceRequest_ByDateRangeResult>",
            ErrorClass::TargetError,
            "yardi_refused",
        ),
    ] {
        let error = failure(200, result).await.expect_err(result);
        assert_eq!((error.class(), error.code()), (class, code), "{result}");
        assert!(
            !error.chain().contains("User x"),
            "answers are not quoted: {result}"
        );
    }
}

#[tokio::test]
async fn nothing_found_is_no_record_and_no_error() {
    for result in [
        "<GetServiceRequest_ByDateRangeResult><ServiceRequests xmlns=\"\"><ServiceRequest><ErrorMessages><Error>No service requests found</Error></ErrorMessages></ServiceRequest></ServiceRequests></GetServiceRequest_ByDateRangeResult>",
        "<GetServiceRequest_ByDateRangeResult>No roommate promotions found</GetServiceRequest_ByDateRangeResult>",
        "<GetServiceRequest_ByDateRangeResult><ServiceRequests xmlns=\"\"/></GetServiceRequest_ByDateRangeResult>",
        "<GetServiceRequest_ByDateRangeResult/>",
    ] {
        assert_eq!(failure(200, result).await.expect(result), 0, "{result}");
    }
}

#[tokio::test]
async fn broken_answers_are_handed_over_with_their_bytes() {
    for (body, code) in [
        (
            "<soap:Envelope xmlns:soap=\"s\"><soap:Body><GetPropertyConfi",
            "xml_truncated",
        ),
        (
            "<!DOCTYPE html><html><body>Maintenance</body></html>",
            "unexpected_html",
        ),
        (
            "<!DOCTYPE x [<!ENTITY a \"b\">]><x>&a;</x>",
            "xml_doctype_refused",
        ),
        (
            "<?xml version=\"1.0\" encoding=\"utf-16\"?><x/>",
            "body_not_utf8",
        ),
        ("", "xml_truncated"),
    ] {
        let (_server, source) = yardi(move |_, _| Some((200, body.to_owned()))).await;
        let page = pages(&source, "properties", &json!({"partition": {}}))
            .await
            .remove(0)
            .unwrap();
        assert_eq!(page.error.as_ref().unwrap().code(), code, "{body}");
        assert_eq!(
            page.body,
            body.as_bytes(),
            "bytes stored equal bytes received"
        );
        assert!(page.records.is_empty() && page.state.is_none());
        let again = source.records("properties", &json!({"partition": {}}), &page.body);
        assert_eq!(again.unwrap_err().code(), code);
    }
}

#[tokio::test]
async fn an_escaped_inner_document_reads_like_an_inline_one() {
    let (_server, source) = yardi(|name, _| {
        Some((
            200,
            answer(
                name,
                "<GetPropertyConfigurationsResult>&lt;Properties&gt;&lt;Property&gt;&lt;Code&gt;a &amp;amp; b&lt;/Code&gt;&lt;/Property&gt;&lt;/Properties&gt;</GetPropertyConfigurationsResult>",
            ),
        ))
    })
    .await;
    let (_, pages) = first_slice(&source, "properties").await;
    assert_eq!(pages[0].records, vec![json!({"Code": "a & b"})]);
}

#[tokio::test]
async fn only_configured_properties_are_read() {
    let (server, _) = yardi(|_, _| None).await;
    let mut config = config(&server.url);
    config["properties"] = json!(["oakrun"]);
    let source = load(&Library::new(None).unwrap().get("yardi").unwrap(), config).unwrap();
    let slices = source
        .slices(&request("units", RunKind::Full))
        .await
        .unwrap();
    assert_eq!(slices.len(), 1);
}

#[tokio::test]
async fn missing_settings_are_named() {
    let files = Library::new(None).unwrap().get("yardi").unwrap();
    let mut config = config("http://127.0.0.1:1");
    config["credentials"]
        .as_object_mut()
        .unwrap()
        .remove("interface_license");
    let error = load(&files, config).unwrap_err();
    assert_eq!(error.code(), "setting_missing");
    assert!(error.message().contains("credentials.interface_license"));
}
