//! Invented people, places and texts.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// First names.
pub(crate) const FIRST_NAMES: &[&str] = &[
    "Dana",
    "Kim",
    "José",
    "Mary Ann",
    "Oluwaseun",
    "Priya",
    "Zoë",
    "Liam",
    "Noah",
    "Olivia",
    "Emma",
    "Ava",
    "Mateo",
    "Sofía",
    "Lucas",
    "Mia",
    "Ethan",
    "Amelia",
    "Jun",
    "Mei",
    "Ravi",
    "Fatima",
    "Omar",
    "Ines",
    "Björn",
    "Astrid",
    "Chloé",
    "Marek",
    "Agnieszka",
    "Tomás",
    "Nadia",
    "Igor",
    "Yuki",
    "Ken",
    "Leila",
    "Samir",
    "Grace",
    "Henry",
    "Ruth",
    "Walter",
];

/// Last names.
pub(crate) const LAST_NAMES: &[&str] = &[
    "Poe",
    "Roe",
    "O'Brien",
    "Nguyen",
    "García",
    "Müller",
    "Smith-Jones",
    "Okafor",
    "Patel",
    "Kowalski",
    "Ivanova",
    "Tanaka",
    "Chen",
    "da Silva",
    "van Dijk",
    "MacLeod",
    "Haddad",
    "Lindqvist",
    "Moreau",
    "Rossi",
    "Novak",
    "Brown",
    "Walker",
    "Young",
    "Hill",
    "Baker",
    "Carter",
    "Diaz",
    "Reyes",
    "Long",
    "Price",
    "Bell",
    "Ward",
    "Fox",
    "Hunt",
    "Stone",
    "Lake",
    "Rivers",
    "Woods",
    "Field",
];

/// Streets, communities and cities.
pub(crate) const STREETS: &[&str] = &[
    "Oak Run",
    "Elm Court",
    "Cedar Bend",
    "Maple Terrace",
    "Birch Hollow",
    "Willow Creek",
    "Aspen Ridge",
    "Juniper Way",
    "Magnolia Park",
    "Sycamore Square",
    "Poplar Landing",
    "Hawthorn Mews",
    "Laurel Heights",
    "Chestnut Row",
    "Alder Pointe",
    "Spruce Meadows",
];

/// City, state and the start of its postal codes.
pub(crate) const CITIES: &[(&str, &str, &str)] = &[
    ("Elm", "TX", "750"),
    ("Harbor Falls", "FL", "327"),
    ("Stonebridge", "GA", "303"),
    ("Mill Valley", "NC", "275"),
    ("Prairie View", "IL", "606"),
    ("Silver Lake", "AZ", "852"),
    ("Fort Larch", "CO", "802"),
    ("Cañon Vista", "NM", "871"),
];

/// What people report: category, sub-category, sentence.
pub(crate) const PROBLEMS: &[(&str, &str, &str)] = &[
    (
        "Plumbing",
        "Drain",
        "Kitchen sink drains very slowly, water backs up & smells",
    ),
    (
        "Plumbing",
        "Faucet",
        "Bathroom faucet drips all night, the washer was replaced last year",
    ),
    (
        "Plumbing",
        "Toilet",
        "Toilet keeps running; handle must be held > 5 seconds to flush",
    ),
    (
        "Plumbing",
        "Water Heater",
        "No hot water since yesterday evening, pilot light is out",
    ),
    (
        "Plumbing",
        "Leak",
        "Water stain on the ceiling below the upstairs shower is growing",
    ),
    (
        "Electrical",
        "Outlet",
        "Two outlets in the bedroom are dead, breaker does not reset",
    ),
    (
        "Electrical",
        "Lighting",
        "Hallway light flickers when the dryer runs",
    ),
    (
        "Electrical",
        "Smoke Detector",
        "Smoke detector chirps every minute, battery < 1 month old",
    ),
    (
        "HVAC",
        "Cooling",
        "A/C blows warm air, thermostat says 68°F but it is 81°F inside",
    ),
    (
        "HVAC",
        "Heating",
        "Furnace starts and stops again after a few seconds",
    ),
    (
        "HVAC",
        "Filter",
        "Air filter is due, please bring size 16x25x1",
    ),
    (
        "Service",
        "Appliance",
        "Dishwasher leaves standing water & shows \"E24\"",
    ),
    (
        "Service",
        "Appliance",
        "Refrigerator is not cooling, food is getting warm",
    ),
    (
        "Service",
        "Lock",
        "Front door lock sticks, key has to be turned three times",
    ),
    (
        "Service",
        "Pest",
        "Ants along the kitchen window – they came back after the last visit",
    ),
    (
        "Other",
        "Window",
        "Living room window does not close completely, rain gets in",
    ),
    (
        "Other",
        "Paint",
        "Paint is peeling in the guest bath above the tub",
    ),
    (
        "Other",
        "Grounds",
        "Gate at the pool area does not latch, children can get in",
    ),
    (
        "Other",
        "Noise",
        "Rattling noise from the roof vent when it is windy",
    ),
    (
        "Service",
        "Flooring",
        "Carpet seam in the hallway came loose, somebody may trip",
    ),
];

/// What people add.
pub(crate) const DETAILS: &[&str] = &[
    "",
    "Please call before coming.",
    "Happens mostly in the morning.",
    "Same as last month, see the old request.",
    "We have a newborn, please do not ring the bell.",
    "I am home after 5pm; weekends are fine too.",
    "Photos were sent to the office.",
    "Neighbor in the next unit has it as well.",
    "Está peor cuando llueve.",
    "It is getting worse every day!",
    "Line one of two.\nLine two: dog's name is Rex <friendly>.",
];

/// How to get in.
pub(crate) const ACCESS: &[&str] = &[
    "",
    "Cat inside",
    "Dog in the second bedroom",
    "Key at the office",
    "Gate code 4417#",
    "Park in the visitor's lot",
    "Alarm is on, call first",
];

/// What technicians write.
pub(crate) const TECHNICIAN: &[&str] = &[
    "",
    "Trap cleared, retest Friday",
    "Part ordered",
    "Replaced cartridge, no more drip",
    "Nobody home, left a note",
    "Needs electrician",
    "Reset & tested OK",
];

/// One of a list. The lists here are never empty.
pub(crate) fn pick<'a, T>(random: &mut ChaCha8Rng, list: &'a [T]) -> &'a T {
    &list[random.random_range(0..list.len())]
}

/// One of a list by weight; the weights must not all be 0.
pub(crate) fn weighted<T: Copy>(random: &mut ChaCha8Rng, list: &[(u32, T)]) -> T {
    let total: u32 = list.iter().map(|(weight, _)| weight).sum();
    let mut at = random.random_range(0..total);
    for (weight, item) in list {
        if at < *weight {
            return *item;
        }
        at -= weight;
    }
    list[list.len() - 1].1
}

/// A telephone number in one of the spellings people use, from the range kept for fiction.
pub(crate) fn phone(random: &mut ChaCha8Rng) -> String {
    let area = random.random_range(201..990);
    let line = random.random_range(0..100);
    match random.random_range(0..5) {
        0 => format!("{area}-555-01{line:02}"),
        1 => format!("{area}55501{line:02}"),
        2 => format!("+1 {area} 555 01{line:02}"),
        _ => format!("({area}) 555-01{line:02}"),
    }
}

/// A mail address at a domain that cannot exist.
pub(crate) fn email(random: &mut ChaCha8Rng, first: &str, last: &str) -> String {
    let plain = |text: &str| {
        text.chars()
            .filter(char::is_ascii_alphanumeric)
            .collect::<String>()
            .to_lowercase()
    };
    let number = random.random_range(1..1000);
    format!("{}.{}{number}@example.test", plain(first), plain(last))
}
