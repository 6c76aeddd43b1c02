//! How the Yardi stand-in is called, and whom it refuses.

use sluice_standin::{Kind, Options, YardiCredentials};

use crate::support::yardi::{
    REQUESTS, RESIDENTS, call, credentials, credentials_of, envelope, property, property_codes,
    raw_call, small,
};
use crate::support::{options, send, start};

#[tokio::test]
async fn routes_ignore_case_and_dispatch_on_action_or_body() {
    let handle = small().await;
    let body = envelope(REQUESTS, "Ping", "");
    let namespace = format!("http://tempuri.org/YSI.Interfaces.WebServices/{REQUESTS}");
    let quoted = format!("\"{namespace}/Ping\"");
    let bare = format!("{namespace}/Ping");
    for (path, action) in [
        ("/acme/Webservices/itfServiceRequests.asmx", Some(&quoted)),
        ("/acme/webservices/ITFSERVICEREQUESTS.ASMX", Some(&bare)),
        ("/x/WEBSERVICES/ItfServiceRequests.asmx", None),
    ] {
        let headers: Vec<(&str, &str)> = action
            .map(|a| ("SOAPAction", a.as_str()))
            .into_iter()
            .collect();
        let answer = send(handle.addr(), "POST", path, &headers, body.as_bytes())
            .await
            .unwrap();
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(
            answer.header("content-type"),
            Some("text/xml; charset=utf-8")
        );
        assert!(
            answer
                .text()
                .contains(&format!("<PingResponse xmlns=\"{namespace}\"><PingResult>"))
        );
    }
    for path in [
        "/acme/Webservices/ItfOther.asmx",
        "/Webservices/ItfServiceRequests.asmx",
    ] {
        let answer = send(handle.addr(), "POST", path, &[], body.as_bytes())
            .await
            .unwrap();
        assert_eq!(answer.status, 404, "{path}");
    }
}

#[tokio::test]
async fn unknown_operations_and_broken_requests_are_soap_faults() {
    let handle = small().await;
    let answer = call(&handle, REQUESTS, "GetEverything", "").await;
    assert_eq!(answer.status, 500);
    assert!(answer.text().contains("did not recognize"));
    let path = "/acme/Webservices/ItfServiceRequests.asmx";
    for body in [&b"<soap:Env"[..], b"\xff\xfe", b""] {
        let answer = send(handle.addr(), "POST", path, &[], body).await.unwrap();
        assert_eq!(answer.status, 500);
        assert!(answer.text().contains("<faultcode>soap:Client</faultcode>"));
    }
    // An operation of another interface.
    let answer = call(&handle, REQUESTS, "GetUnitInformation", &property("x")).await;
    assert_eq!(answer.status, 500);
    // The property under a name the server does not know.
    let answer = call(
        &handle,
        REQUESTS,
        "GetServiceRequest_Search",
        "<Prop>x</Prop>",
    )
    .await;
    assert!(
        answer
            .text()
            .contains("Object reference not set to an instance of an object")
    );
}

#[tokio::test]
async fn wrong_credentials_come_in_three_forms_all_with_200() {
    let handle = small().await;
    let good = YardiCredentials::default();
    let wrong = |change: fn(&mut YardiCredentials)| {
        let mut with = good.clone();
        change(&mut with);
        credentials_of(&with)
    };
    let operation = "GetPropertyConfigurations";
    for change in [
        (|c| c.user = "other".into()) as fn(&mut YardiCredentials),
        |c| c.password = "other".into(),
        |c| c.server = "other".into(),
        |c| c.database = "other".into(),
    ] {
        let answer = raw_call(&handle, REQUESTS, operation, &wrong(change))
            .await
            .unwrap();
        assert_eq!(answer.status, 200);
        assert!(
            answer
                .text()
                .contains("<Message messageType=\"Error\">Login failed."),
            "{}",
            answer.text()
        );
        assert!(!answer.text().contains("<Property>"));
    }
    let answer = raw_call(
        &handle,
        REQUESTS,
        operation,
        &wrong(|c| c.entity = "other".into()),
    )
    .await
    .unwrap();
    assert_eq!(answer.status, 200);
    assert!(answer.text().contains("Result>Invalid Interface Entity</"));
    let answer = raw_call(
        &handle,
        REQUESTS,
        operation,
        &wrong(|c| c.license = "other".into()),
    )
    .await
    .unwrap();
    assert_eq!(answer.status, 200);
    assert!(
        answer
            .text()
            .contains("<GetPropertyConfigurationsResponse ")
    );
    assert!(!answer.text().contains("Result>"));
    // The platform has two spellings.
    let short = credentials().replace("SQL Server", "SQL");
    let answer = raw_call(&handle, REQUESTS, operation, &short)
        .await
        .unwrap();
    assert!(answer.text().contains("<Property>"));
}

#[tokio::test]
async fn interfaces_can_have_credentials_of_their_own() {
    let own = YardiCredentials {
        user: "residents".into(),
        ..YardiCredentials::default()
    };
    let handle = start(Options {
        yardi_interfaces: vec![("itfresidentdata".into(), own.clone())],
        ..options(Kind::Yardi)
    })
    .await;
    let operation = "GetPropertyConfigurations";
    assert!(
        call(&handle, RESIDENTS, operation, "")
            .await
            .text()
            .contains("Login failed.")
    );
    let answer = raw_call(&handle, RESIDENTS, operation, &credentials_of(&own))
        .await
        .unwrap();
    assert!(answer.text().contains("<Property>"));
    assert!(
        call(&handle, REQUESTS, operation, "")
            .await
            .text()
            .contains("<Property>")
    );
}

#[tokio::test]
async fn login_operations_and_the_mits_prefix() {
    let handle = small().await;
    let codes = property_codes(&handle).await;
    let interface = "ItfResidentTransactions20";
    let answer = call(
        &handle,
        interface,
        "GetResidentTransactions_Login",
        &property(&codes[0]),
    )
    .await
    .text();
    assert!(answer.contains("<GetResidentTransactions_LoginResult>"));
    assert!(answer.contains("xmlns:MITS=\"http://my-company.com/namespace\""));
    assert!(answer.contains("<MITS:Customer Type=\""));
    let answer = call(
        &handle,
        interface,
        "GetUnitInformation_Login",
        &property(&codes[0]),
    )
    .await
    .text();
    assert!(answer.contains("<UnitInformation xmlns=\"\">"));
    let answer = call(&handle, RESIDENTS, "GetResidents", &property(&codes[0]))
        .await
        .text();
    assert!(answer.contains("<MITS-ResidentData xmlns=\"\"><PropertyResidents>"));
}
