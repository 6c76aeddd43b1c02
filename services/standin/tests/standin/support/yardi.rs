//! Yardi calls as a client makes them.

use sluice_standin::{Handle, Kind, YardiCredentials};

use super::{Answer, options, records, send, start};

pub fn credentials() -> String {
    credentials_of(&YardiCredentials::default())
}

pub fn credentials_of(with: &YardiCredentials) -> String {
    format!(
        "<UserName>{}</UserName><Password>{}</Password><ServerName>{}</ServerName><Database>{}</Database>\
         <Platform>SQL Server</Platform><InterfaceEntity>{}</InterfaceEntity><InterfaceLicense>{}</InterfaceLicense>",
        with.user, with.password, with.server, with.database, with.entity, with.license
    )
}

pub fn envelope(interface: &str, operation: &str, inner: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?><soap:Envelope xmlns:soap=\"http://schemas.xmlsoap.org/soap/envelope/\"><soap:Body>\
         <{operation} xmlns=\"http://tempuri.org/YSI.Interfaces.WebServices/{interface}\">{inner}</{operation}></soap:Body></soap:Envelope>"
    )
}

pub async fn raw_call(
    handle: &Handle,
    interface: &str,
    operation: &str,
    inner: &str,
) -> Option<Answer> {
    let action =
        format!("\"http://tempuri.org/YSI.Interfaces.WebServices/{interface}/{operation}\"");
    send(
        handle.addr(),
        "POST",
        &format!("/acme/Webservices/{interface}.asmx"),
        &[
            ("Content-Type", "text/xml; charset=utf-8"),
            ("SOAPAction", &action),
        ],
        envelope(interface, operation, inner).as_bytes(),
    )
    .await
}

/// A call with good credentials.
pub async fn call(handle: &Handle, interface: &str, operation: &str, inner: &str) -> Answer {
    raw_call(
        handle,
        interface,
        operation,
        &format!("{}{inner}", credentials()),
    )
    .await
    .unwrap()
}

/// The texts of all elements of this name, without attributes considered.
pub fn texts(xml: &str, name: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = xml;
    while let Some(at) = rest.find(&format!("<{name}")) {
        rest = &rest[at + name.len() + 1..];
        if !rest.starts_with(['>', ' ', '/']) {
            continue;
        }
        let Some(end) = rest.find('>') else { break };
        if rest[..end].ends_with('/') {
            found.push(String::new());
            continue;
        }
        let Some(close) = rest.find(&format!("</{name}>")) else {
            break;
        };
        found.push(rest[end + 1..close].to_owned());
    }
    found
}

pub const REQUESTS: &str = "ItfServiceRequests";
pub const RESIDENTS: &str = "ItfResidentData";

pub async fn small() -> Handle {
    start(options(Kind::Yardi)).await
}

pub async fn property_codes(handle: &Handle) -> Vec<String> {
    records(handle, "property")
        .await
        .iter()
        .map(|one| one["code"].as_str().unwrap().to_owned())
        .collect()
}

pub fn property(code: &str) -> String {
    format!("<YardiPropertyId>{code}</YardiPropertyId>")
}
