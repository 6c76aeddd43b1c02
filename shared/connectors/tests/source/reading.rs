//! The declarative engine against a small server: pagination, slices, filters, answers.

use futures::StreamExt as _;
use serde_json::{Value, json};
use sluice_connectors::source::{Page, SliceRequest};
use sluice_core::{ErrorClass, run::RunKind};

use crate::{
    manifest::{ok, read, records, request, source},
    server::Server,
};

fn query(uri: &axum::http::Uri, name: &str) -> Option<String> {
    let url = format!("http://x{uri}").parse::<url::Url>().unwrap();
    url.query_pairs()
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.into_owned())
}

/// Items 0..total in pages of two, by `offset`.
fn items(uri: &axum::http::Uri, total: usize) -> Value {
    let offset: usize = query(uri, "offset").map_or(0, |text| text.parse().unwrap());
    let ids: Vec<_> = (offset..total)
        .take(2)
        .map(|id| json!({"id": id}))
        .collect();
    json!({"items": ids})
}

const OFFSET: &str = r#"
streams:
  - $parameters: {name: items, path: /items, page_size: 2}
    primary_key: [[id]]
    retriever:
      requester:
        url_base: "{{ config['url'] }}"
        authenticator: {type: BearerAuthenticator, api_token: "{{ config['token'] }}"}
      record_selector:
        extractor: {field_path: [items]}
        record_filter: {condition: "{{ record.id != 3 }}"}
      paginator:
        type: DefaultPaginator
        page_size_option: {inject_into: request_parameter, field_name: limit}
        page_token_option: {type: RequestOption, inject_into: request_parameter, field_name: offset}
        pagination_strategy: {type: OffsetIncrement}
    transformations:
      - {type: AddFields, fields: [{path: [twice], value: "{{ record.id * 2 }}"}, {path: [text], value: "{{ record.id }}", value_type: string}]}
"#;

#[tokio::test]
async fn pages_are_read_to_the_end_and_records_filtered_and_transformed() {
    let server = Server::start(|asked, _| ok(items(&asked.uri, 5))).await;
    let source = source(OFFSET, &server);
    assert_eq!(source.streams()[0].primary_key, ["id"]);
    let records = records(&source, "items").await;
    assert_eq!(records.len(), 4);
    assert_eq!(records[2], json!({"id": 2, "twice": 4, "text": "2"}));
    let asked = server.asked();
    let offsets: Vec<_> = asked
        .iter()
        .map(|asked| query(&asked.uri, "offset"))
        .collect();
    assert_eq!(offsets, [None, Some("2".into()), Some("4".into())]);
    assert!(asked.iter().all(|asked| {
        asked.body.is_empty()
            && query(&asked.uri, "limit").as_deref() == Some("2")
            && asked.header("authorization") == "Bearer planted-secret"
    }));
}

/// I4: a server that ignores the offset ends the slice with an error, and the pages are kept.
#[tokio::test]
async fn a_server_that_repeats_itself_is_noticed() {
    let server = Server::start(|_, _| ok(json!({"items": [{"id": 1}, {"id": 2}]}))).await;
    let pages = read(&source(OFFSET, &server), "items").await;
    assert!(pages.len() <= 3);
    let last = pages.into_iter().last().unwrap().unwrap();
    assert_eq!(last.error.unwrap().code(), "pagination_loop");
    assert!(!last.body.is_empty());
}

const NESTED: &str = r##"
definitions:
  requester: {url_base: "{{ config['url'] }}"}
  parents:
    $parameters: {name: parents, path: parents}
    retriever:
      requester: {$ref: "#/definitions/requester"}
      record_selector: {extractor: {field_path: []}}
  children:
    $parameters: {name: children, path: "children/{{ stream_slice.parent }}/{{ stream_partition['kind'] }}"}
    incremental_sync:
      type: DatetimeBasedCursor
      cursor_field: updated
      datetime_format: "%Y-%m-%d"
      start_datetime: "{{ config['start'] }}"
      step: P5D
      cursor_granularity: P1D
      lookback_window: P2D
      start_time_option: {inject_into: request_parameter, field_name: from}
      end_time_option: {inject_into: request_parameter, field_name: to}
    retriever:
      requester: {$ref: "#/definitions/requester"}
      record_selector: {extractor: {field_path: [data, "*"]}}
      partition_router:
        - type: SubstreamPartitionRouter
          parent_stream_configs:
            - {stream: "#/definitions/parents", parent_key: id, partition_field: parent, extra_fields: [[name]]}
        - {type: ListPartitionRouter, values: [a, b], cursor_field: kind, request_option: {inject_into: header, field_name: X-Kind}}
streams: ["#/definitions/parents", "#/definitions/children"]
check: {stream_names: [children]}
"##;

#[tokio::test]
async fn parents_lists_and_windows_multiply_into_slices() {
    let server = Server::start(|asked, _| {
        if asked.uri.path() == "/parents" {
            ok(json!([{"id": 1, "name": "one"}, {"id": 2}, {"id": 1}, {"name": "no id"}]))
        } else {
            let to = query(&asked.uri, "to").unwrap();
            ok(json!({"data": {"x": {"updated": to}, "y": {"updated": "junk"}}}))
        }
    })
    .await;
    let source = source(NESTED, &server);
    source.check().await.unwrap();
    let slices = source.slices(&request("children")).await.unwrap();
    let partitions: Vec<_> = slices
        .iter()
        .map(|slice| slice["partition"].clone())
        .collect();
    assert_eq!(
        partitions,
        [
            json!({"parent": 1, "parent_slice": {}, "kind": "a"}),
            json!({"parent": 1, "parent_slice": {}, "kind": "b"}),
            json!({"parent": 2, "parent_slice": {}, "kind": "a"}),
            json!({"parent": 2, "parent_slice": {}, "kind": "b"}),
        ]
    );
    assert_eq!(slices[0]["extra"], json!({"name": "one"}));
    let pages: Vec<Page> = source
        .read("children", &slices[1], None)
        .map(Result::unwrap)
        .collect()
        .await;
    let asked = server.asked();
    let last = asked.last().unwrap();
    assert_eq!(last.uri.path(), "/children/1/b");
    assert_eq!(last.header("x-kind"), "b");
    let states: Vec<_> = pages
        .iter()
        .map(|page| page.state.clone().unwrap())
        .collect();
    let key = r#"{"kind":"b","parent":1,"parent_slice":{}}"#;
    assert_eq!(
        states,
        [
            (key.to_owned(), json!({"updated": "2025-01-05"})),
            (key.to_owned(), json!({"updated": "2025-01-10"})),
        ]
    );
    let again = SliceRequest {
        kind: RunKind::Incremental,
        states: vec![states[1].clone()],
        ..request("children")
    };
    let slices = source.slices(&again).await.unwrap();
    assert_eq!(slices[1]["cursor"]["start"], "2025-01-08T00:00:00.000000Z");
    assert_eq!(slices[0]["cursor"]["start"], "2025-01-01T00:00:00.000000Z");
}

const LINKS: &str = r#"
streams:
  - name: items
    retriever:
      requester:
        url: "{{ config['url'] }}/items"
        error_handler:
          type: DefaultErrorHandler
          response_filters:
            - {http_codes: [404], action: IGNORE}
            - {error_message_contains: "try again", action: RETRY}
            - {predicate: "{{ response.get('failed') }}", action: FAIL, error_message: "said {{ response.failed }}", sluice: {class: conflict, code: test_failed, hint: "look"}}
          backoff_strategies: [{type: WaitTimeFromHeader, header: x-wait}]
          max_retries: 1
      record_selector: {extractor: {field_path: []}}
      paginator:
        type: DefaultPaginator
        page_token_option: {type: RequestPath}
        pagination_strategy: {type: CursorPagination, cursor_value: "{{ headers['link']['next']['url'] }}", stop_condition: "{{ 'next' not in headers.get('link', {}) }}"}
"#;

#[tokio::test]
async fn links_in_headers_lead_to_the_next_page() {
    let server = Server::start(|asked, before| {
        let host = asked.header("host").to_owned();
        let link = format!(
            "<http://{host}/items?page=2>; rel=\"next\", <http://{host}/items?page=9>; rel=\"last\""
        );
        let headers = if before == 0 {
            vec![("link", link)]
        } else {
            Vec::new()
        };
        (
            200,
            headers,
            json!([{"id": before}]).to_string().into_bytes(),
        )
    })
    .await;
    let records = records(&source(LINKS, &server), "items").await;
    assert_eq!(records, [json!({"id": 0}), json!({"id": 1})]);
    assert_eq!(server.asked()[1].uri.to_string(), "/items?page=2");
}

#[tokio::test]
async fn answers_mean_what_the_handlers_say() {
    // 404 is ignored: a page without records.
    let server = Server::start(|_, _| (404, Vec::new(), b"{\"id\": 1}".to_vec())).await;
    let pages = read(&source(LINKS, &server), "items").await;
    assert!(pages[0].as_ref().unwrap().records.is_empty());

    // A failure inside 200 has the class and code given to it, and no part of the answer.
    let server = Server::start(|_, _| ok(json!({"failed": "Dana Poe"}))).await;
    let error = read(&source(LINKS, &server), "items")
        .await
        .remove(0)
        .unwrap_err();
    assert_eq!(
        (error.class(), error.code()),
        (ErrorClass::Conflict, "test_failed")
    );
    assert!(!error.chain().contains("Dana"));
    assert_eq!(error.advice(), Some("look"));

    // A wait that is too long is left to the caller.
    let server = Server::start(|_, _| {
        (
            503,
            vec![("x-wait", "3000".to_owned())],
            b"{\"error\": \"try again\"}".to_vec(),
        )
    })
    .await;
    let error = read(&source(LINKS, &server), "items")
        .await
        .remove(0)
        .unwrap_err();
    assert_eq!(error.class(), ErrorClass::TargetError);
    assert_eq!(error.wait().unwrap().as_secs(), 3001);
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn a_retry_that_helps_counts_its_calls() {
    let server = Server::start(|_, before| {
        if before == 0 {
            (503, vec![("x-wait", "0.001".to_owned())], b"{}".to_vec())
        } else {
            ok(json!([{"id": 1}]))
        }
    })
    .await;
    let page = read(&source(LINKS, &server), "items")
        .await
        .remove(0)
        .unwrap();
    assert_eq!((page.calls, page.records.len()), (2, 1));
}

#[tokio::test]
async fn cut_off_json_is_handed_over_as_an_error_with_its_bytes() {
    let server = Server::start(|_, _| (200, Vec::new(), b"{\"items\": [{\"id\"".to_vec())).await;
    let page = read(&source(OFFSET, &server), "items")
        .await
        .remove(0)
        .unwrap();
    assert_eq!(page.error.unwrap().code(), "json_invalid");
    assert_eq!(page.body, b"{\"items\": [{\"id\""[..]);
}
