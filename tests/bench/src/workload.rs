//! The records of the benchmarks: about 1 KB of JSON each, the same for everybody.

use serde_json::{Value, json};

/// Records of one page.
pub const PAGE: u64 = 1_000;

/// Fields of a record that its mapping leaves out.
pub const UNMAPPED: [&str; 3] = ["notes", "manager", "amenities"];

/// One record. In round 1 every tenth differs from round 0.
pub fn record(index: u64, round: u32) -> Value {
    let changed = round > 0 && index.is_multiple_of(10);
    json!({
        "id": format!("u{index:08}"),
        "name": format!("Unit {index} of the long avenue, second entrance from the left"),
        "property": format!("p{:04}", index / 1_000),
        "unit": format!("{}-{}", index % 40, index % 1_000),
        "street": format!("{} Benchmark Avenue APT {}", index % 9_999, index % 1_000),
        "city": "Springfield",
        "state": "TX",
        "zip": format!("{:05}", 70_000 + index % 9_999),
        "building": format!("B{}", index % 40),
        "plan": "2x2 corner, with balcony to the south and a view over the park",
        "beds": index % 5,
        "baths": 1.5,
        "area": 500 + index % 900,
        "rent": 1_000 + index % 700,
        "status": if changed { "Vacant Unrented Ready" } else { "Occupied No Notice" },
        "notes": "Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod tempor incididunt ut \
                  labore et dolore magna aliqua. Ut enim ad minim veniam, quis nostrud exercitation ullamco laboris \
                  nisi ut aliquip ex ea commodo consequat. Duis aute irure dolor in reprehenderit in voluptate velit.",
        "manager": "Property management office, ground floor, open from Monday to Friday, nine to five",
        "amenities": ["pool", "gym", "garage", "laundry", "pets allowed", "dishwasher"],
    })
}

/// A page's body as the source sends it.
pub fn page(offset: u64, total: u64, round: u32) -> String {
    let records: Vec<Value> = (offset..(offset + PAGE).min(total))
        .map(|index| record(index, round))
        .collect();
    json!({ "records": records }).to_string()
}
