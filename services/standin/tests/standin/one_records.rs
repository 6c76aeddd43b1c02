//! What ONE does with records.

use serde_json::{Value, json};

use crate::support::one::{begin, codes, graphql, location, mutate, query, request};
use crate::support::{ledger, post, records, send, stats};

#[tokio::test]
async fn the_reference_example_works_and_repeats_are_duplicates() {
    let (handle, token) = begin().await;
    let text = "mutation($in:[CreateLocationInput!]!){createLocation(input:$in){results{index locationNumber id success validationMessages{code field message}}}}";
    let input = json!({"in": [location("oakrun-12-304")]});
    let answer = graphql(&handle, &token, text, input.clone()).await.json();
    assert_eq!(
        answer,
        json!({"data":{"createLocation":{"results":[{"index":0,"locationNumber":"oakrun-12-304","id":"loc_1","success":true,"validationMessages":[]}]}}})
    );
    let answer = graphql(&handle, &token, text, input).await.json();
    assert_eq!(
        answer,
        json!({"data":{"createLocation":{"results":[{"index":0,"locationNumber":"oakrun-12-304","id":null,"success":false,
        "validationMessages":[{"code":"DUPLICATE","field":"locationNumber","message":"already exists"}]}]}}})
    );
    assert_eq!(records(&handle, "location").await.len(), 1);
    let stats = stats(&handle).await;
    assert_eq!(
        (
            &stats["created"],
            &stats["duplicates_refused"],
            &stats["duplicates_created"]
        ),
        (&json!(1), &json!(1), &json!(0))
    );
}

#[tokio::test]
async fn mixed_batches_are_judged_item_by_item() {
    let (handle, token) = begin().await;
    let mut bad = location("bad");
    bad["zipCode"] = json!(" ");
    bad["status"] = json!(2);
    let mut long = location("long");
    long["locationName"] = json!("x".repeat(201));
    let results = mutate(
        &handle,
        &token,
        "createLocation",
        "locationNumber",
        json!([location("a"), bad, location("a"), long]),
    )
    .await;
    assert_eq!(results[0]["success"], true);
    assert_eq!(codes(&results[1]), ["REQUIRED", "INVALID"]);
    assert_eq!(codes(&results[2]), ["DUPLICATE"]);
    assert_eq!(codes(&results[3]), ["TOO_LONG"]);

    let results = mutate(
        &handle,
        &token,
        "createServiceRequest",
        "referWONum",
        json!([
            request("r1", "a"),
            request("r2", "nowhere"),
            request("r1", "a")
        ]),
    )
    .await;
    assert_eq!(results[0]["id"], "wo_1");
    assert_eq!(codes(&results[1]), ["LOCATION_NOT_FOUND"]);
    assert_eq!(
        results[1]["validationMessages"][0]["field"],
        "locationNumber"
    );
    assert_eq!(codes(&results[2]), ["DUPLICATE"]);
    let resident = json!({"residentNumber": "t1", "locationNumber": "nowhere", "name": "Dana", "isPrimaryResident": true, "status": 1});
    let results = mutate(
        &handle,
        &token,
        "createResident",
        "residentNumber",
        json!([resident]),
    )
    .await;
    assert_eq!(codes(&results[0]), ["LOCATION_NOT_FOUND"]);
    let mut low = request("r3", "a");
    low["priority"] = json!("Low");
    low["callTime"] = json!("2025-03-04");
    let results = mutate(
        &handle,
        &token,
        "createServiceRequest",
        "referWONum",
        json!([low]),
    )
    .await;
    assert_eq!(codes(&results[0]), ["INVALID", "INVALID"]);

    let results = mutate(&handle, &token, "updateLocation", "locationNumber", json!([{"locationNumber": "a", "district": "North"}, {"locationNumber": "zz", "status": 0}, {"locationNumber": "a", "city": null}, {"locationNumber": "a", "region": "West"}, {"locationNumber": "a", "region": null}])).await;
    assert_eq!(
        (results[0]["success"].clone(), codes(&results[1])),
        (json!(true), vec!["NOT_FOUND"])
    );
    // Null clears a field of a record that is there, but not a needed one.
    assert_eq!(codes(&results[2]), ["REQUIRED"]);
    assert_eq!(
        (&results[3]["success"], &results[4]["success"]),
        (&json!(true), &json!(true))
    );
    let held = records(&handle, "location").await;
    assert_eq!(
        (&held[0]["district"], &held[0]["city"], &held[0]["writes"]),
        (&json!("North"), &json!("Elm"), &json!(4))
    );
    assert!(held[0].get("region").is_none());
    assert_eq!(held[0]["key"], "location:a");
    let keys = &ledger(&handle).await[1]["keys"];
    assert_eq!(
        *keys,
        json!(["location:a", "location:bad", "location:a", "location:long"])
    );
}

#[tokio::test]
async fn results_come_in_any_order() {
    let (handle, token) = begin().await;
    let mut turned = 0;
    for round in 0..6 {
        let items = json!([
            location(&format!("a{round}")),
            location(&format!("b{round}"))
        ]);
        let answer = graphql(
            &handle,
            &token,
            &query("createLocation", "locationNumber"),
            json!({"in": items}),
        )
        .await
        .json();
        turned += u32::from(answer["data"]["createLocation"]["results"][0]["index"] == 1);
    }
    assert_eq!(turned, 2);
}

#[tokio::test]
async fn lists_find_by_keys_and_page_with_cursors() {
    let (handle, token) = begin().await;
    for start in [0, 25] {
        let items: Vec<Value> = (start..start + 25)
            .map(|n| location(&format!("k{n}")))
            .collect();
        mutate(
            &handle,
            &token,
            "createLocation",
            "locationNumber",
            json!(items),
        )
        .await;
    }
    let text = "query($filter:LocationFilter!,$first:Int!,$after:String){locations(filter:$filter,first:$first,after:$after){edges{node{id locationNumber}} pageInfo{hasNextPage endCursor}}}";
    let answer = graphql(
        &handle,
        &token,
        text,
        json!({"filter": {"locationNumbers": ["k3", "none", "k1"]}, "first": 3, "after": null}),
    )
    .await
    .json();
    assert_eq!(
        answer["data"]["locations"]["edges"],
        json!([{"node": {"id": "loc_2", "locationNumber": "k1"}}, {"node": {"id": "loc_4", "locationNumber": "k3"}}])
    );
    assert_eq!(
        answer["data"]["locations"]["pageInfo"],
        json!({"hasNextPage": false, "endCursor": null})
    );

    let mut after = Value::Null;
    let mut seen = Vec::new();
    loop {
        let answer = graphql(
            &handle,
            &token,
            text,
            json!({"filter": {"locationNumbers": []}, "first": 20, "after": after}),
        )
        .await
        .json();
        let page = &answer["data"]["locations"];
        seen.extend(
            page["edges"]
                .as_array()
                .unwrap()
                .iter()
                .map(|edge| edge["node"]["locationNumber"].clone()),
        );
        after = page["pageInfo"]["endCursor"].clone();
        if page["pageInfo"]["hasNextPage"] == false {
            break;
        }
    }
    assert_eq!(
        seen,
        (0..50).map(|n| json!(format!("k{n}"))).collect::<Vec<_>>()
    );
    let later = json!({"filter": {"updatedFrom": "2999-01-01T00:00:00Z", "clientId": "x"}, "first": 5, "after": null});
    let answer = graphql(&handle, &token, text, later).await.json();
    assert_eq!(answer["data"]["locations"]["edges"], json!([]));
    for variables in [
        json!({"filter": {"name": "x"}, "first": 1}),
        json!({"filter": {}, "first": 0}),
        json!({"filter": {}, "first": 1, "after": "x"}),
    ] {
        let answer = graphql(&handle, &token, text, variables).await.json();
        assert_eq!(answer["errors"][0]["extensions"]["code"], "BAD_USER_INPUT");
    }
}

#[tokio::test]
async fn files_have_a_size_limit_and_repeated_names_are_numbered() {
    use base64::Engine;
    let encode = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
    let (handle, token) = begin().await;
    mutate(
        &handle,
        &token,
        "createLocation",
        "locationNumber",
        json!([location("a")]),
    )
    .await;
    mutate(
        &handle,
        &token,
        "createServiceRequest",
        "referWONum",
        json!([request("r1", "a")]),
    )
    .await;
    let file = |number: &str, order: &str, bytes: &[u8]| json!([{"attachmentNumber": number, "referWONum": order, "fileName": "sink.jpg", "content": encode(bytes)}]);
    let upload = async |items: Value| {
        mutate(
            &handle,
            &token,
            "uploadAttachment",
            "attachmentNumber",
            items,
        )
        .await
        .swap_remove(0)
    };
    let first = upload(file("f1", "r1", b"one")).await;
    assert_eq!(
        (&first["id"], &first["fileName"]),
        (&json!("att_1"), &json!("sink.jpg"))
    );
    assert_eq!(
        upload(file("f2", "r1", b"two")).await["fileName"],
        "sink (2).jpg"
    );
    assert_eq!(
        codes(&upload(file("f1", "r1", b"one")).await),
        ["DUPLICATE"]
    );
    assert_eq!(
        codes(&upload(file("f3", "r9", b"x")).await),
        ["WORK_ORDER_NOT_FOUND"]
    );
    assert_eq!(
        upload(file("f4", "r1", &vec![0; 4_194_304])).await["success"],
        true
    );
    assert_eq!(
        codes(&upload(file("f5", "r1", &vec![0; 4_194_305])).await),
        ["TOO_LARGE"]
    );
    let held = records(&handle, "attachment").await;
    assert_eq!((held.len(), &held[0]["bytes"]), (3, &json!(3)));
    assert_eq!(
        held[0]["sha256"],
        "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"
    );
    let huge = vec![b' '; 8 * 1024 * 1024 + 1];
    let answer = send(handle.addr(), "POST", "/graphql", &[], &huge).await;
    assert!(answer.is_none_or(|answer| answer.status == 413));
}

#[tokio::test]
async fn people_edit_their_records() {
    let (handle, token) = begin().await;
    assert_eq!(
        post(&handle, "/_control/edits", &json!({"count": 1}))
            .await
            .status,
        400
    );
    mutate(
        &handle,
        &token,
        "createLocation",
        "locationNumber",
        json!([location("a")]),
    )
    .await;
    let order = json!({"count": 1, "only": ["location.update"]});
    assert_eq!(
        post(&handle, "/_control/edits", &order).await.json()["applied"],
        1
    );
    assert!(records(&handle, "location").await[0]["district"].is_string());
    let order = json!({"count": 1, "only": ["location.delete"]});
    assert_eq!(
        post(&handle, "/_control/edits", &order).await.json()["edits"][0]["key"],
        "location:a"
    );
    assert!(records(&handle, "location").await.is_empty());
}
