//! The seeded records: any one of them is made from the seed and its position alone, so
//! that half a million cost no memory.

use chrono::{Datelike, Days, NaiveDate, NaiveTime, TimeDelta};
use rand::{Rng, RngExt};
use rand_chacha::ChaCha8Rng;

use super::model::{
    Attachment, Content, Occupant, Person, Promotion, Property, Resident, ServiceRequest, Unit,
};
use crate::options::Options;
use crate::random::derive;
use crate::words::{
    ACCESS, CITIES, DETAILS, FIRST_NAMES, LAST_NAMES, PROBLEMS, STREETS, TECHNICIAN, email, phone,
    pick, weighted,
};

const FIRST_UNIT_ID: u64 = 30_000;
const FIRST_TENANT: u64 = 90_000;
const FIRST_REQUEST: u64 = 50_000;
const FIRST_ATTACHMENT: u64 = 700_000;

/// Statuses of open and closed service requests with their weights.
const STATUSES: &[(u32, &str)] = &[
    (18, "Call"),
    (16, "In Progress"),
    (10, "Scheduled"),
    (6, "On Hold"),
    (4, "Web"),
    (3, "Assessment"),
    (2, "Request Reassignment"),
    (24, "Work Completed"),
    (12, "Completed"),
    (5, "Canceled"),
];

/// How many records of each kind one property has, and how many came before it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Shares {
    pub units: u32,
    pub pseudo_units: u32,
    pub residents: u32,
    pub requests: u32,
    pub attachments: u32,
    before_units: u64,
    before_residents: u64,
    before_requests: u64,
    before_attachments: u64,
}

/// The seeded world.
#[derive(Debug)]
pub(crate) struct Seeded {
    seed: u64,
    epoch: NaiveDate,
    shares: Vec<Shares>,
    totals: Shares,
}

impl Seeded {
    pub(crate) fn new(options: &Options) -> Self {
        let count = options.properties.max(1);
        let records = options.records.max(1);
        let weight = |index: usize| -> u64 {
            if count >= 4 && (index == 1 || index == count - 1) {
                0
            } else {
                let mut random = derive(options.seed, "weight", index as u64, 0);
                random.random_range(60..160)
            }
        };
        let total_weight: u64 = (0..count).map(weight).sum::<u64>().max(1);
        let mut shares = Vec::with_capacity(count);
        let mut sum = Shares::default();
        for index in 0..count {
            let own = (records as u64 * weight(index)) / total_weight;
            let part = |percent: u64| u32::try_from(own * percent / 100).unwrap_or(u32::MAX);
            let mut share = Shares {
                units: part(22),
                residents: part(26),
                requests: part(35),
                attachments: part(10),
                ..Shares::default()
            };
            if count >= 4 && index == 1 {
                (
                    share.units,
                    share.residents,
                    share.requests,
                    share.attachments,
                ) = (1, 1, 1, 1);
            }
            if share.units > 20 {
                share.pseudo_units = if index == 0 { 4 } else { 2 };
            }
            share.before_units = sum.before_units;
            share.before_residents = sum.before_residents;
            share.before_requests = sum.before_requests;
            share.before_attachments = sum.before_attachments;
            sum.before_units += u64::from(share.units + share.pseudo_units);
            sum.before_residents += u64::from(share.residents);
            sum.before_requests += u64::from(share.requests);
            sum.before_attachments += u64::from(share.attachments);
            shares.push(share);
        }
        Self {
            seed: options.seed,
            epoch: options.epoch,
            shares,
            totals: sum,
        }
    }

    pub(crate) fn properties(&self) -> u32 {
        u32::try_from(self.shares.len()).unwrap_or(u32::MAX)
    }

    pub(crate) fn share(&self, property: u32) -> Shares {
        self.shares
            .get(property as usize)
            .copied()
            .unwrap_or_default()
    }

    /// The ids the first added records get.
    pub(crate) fn next_unit_id(&self) -> u64 {
        FIRST_UNIT_ID + self.totals.before_units
    }
    pub(crate) fn next_tenant(&self) -> u64 {
        FIRST_TENANT + self.totals.before_residents
    }
    pub(crate) fn next_request(&self) -> u64 {
        FIRST_REQUEST + self.totals.before_requests
    }
    pub(crate) fn next_attachment(&self) -> u64 {
        FIRST_ATTACHMENT + self.totals.before_attachments
    }

    /// Property and position of a seeded service request.
    pub(crate) fn find_request(&self, id: u64) -> Option<(u32, u32)> {
        let offset = id.checked_sub(FIRST_REQUEST)?;
        if offset >= self.totals.before_requests {
            return None;
        }
        let after = self
            .shares
            .partition_point(|share| share.before_requests <= offset);
        // Empty properties share their offset with the next one; step back to the owner.
        let owner = (0..after).rev().find(|at| {
            self.shares
                .get(*at)
                .is_some_and(|s| offset < s.before_requests + u64::from(s.requests))
        })?;
        let index = offset - self.shares.get(owner)?.before_requests;
        Some((u32::try_from(owner).ok()?, u32::try_from(index).ok()?))
    }

    fn random(&self, table: &str, property: u32, index: u32) -> ChaCha8Rng {
        derive(self.seed, table, u64::from(property), u64::from(index))
    }

    pub(crate) fn property(&self, index: u32) -> Property {
        let mut random = self.random("property", index, 0);
        // Consecutive streets from a seeded start, so that no two of the first sixteen
        // properties share a name.
        let start = derive(self.seed, "streets", 0, 0).random_range(0..STREETS.len());
        let street = STREETS[(start + index as usize) % STREETS.len()];
        let round = index as usize / STREETS.len();
        let mut code: String = street
            .chars()
            .filter(char::is_ascii_alphabetic)
            .collect::<String>()
            .to_lowercase();
        code.truncate(8);
        let mut marketing_name = street.to_owned();
        if round > 0 {
            code = format!("{code}{}", round + 1);
            marketing_name = format!("{street} {}", round + 1);
        }
        let renamed = index == 2;
        let former_codes = if renamed {
            vec![code.clone()]
        } else {
            Vec::new()
        };
        if renamed {
            code = format!("{code}tx");
        }
        let (city, state, postal) = *pick(&mut random, CITIES);
        Property {
            index,
            code,
            former_codes,
            address_line1: format!("{} {street} Dr", random.random_range(1..9_000)),
            marketing_name,
            city: city.to_owned(),
            state,
            postal_code: format!("{postal}{:02}", random.random_range(0..100)),
            accounting_month: self.epoch.format("%m/%Y").to_string(),
        }
    }

    /// The code of a seeded unit.
    pub(crate) fn unit_code(&self, property: u32, index: u32) -> String {
        let share = self.share(property);
        if index >= share.units {
            let pseudo = ["NONRESID", "WAIT", "WAIT_AFF", "RETAIL"];
            return pseudo[(index - share.units) as usize % pseudo.len()].to_owned();
        }
        // Twenty units to a building, four to a floor; single-family style in every fifth.
        let building = index / 20 + 1;
        let floor = (index % 20) / 4 + 1;
        let door = index % 4 + 1;
        if property % 5 == 4 {
            format!("{:04}", index + 1)
        } else {
            format!("{building:02}-{floor}{door:02}")
        }
    }

    pub(crate) fn unit(&self, property: u32, index: u32) -> Unit {
        let share = self.share(property);
        let mut random = self.random("unit", property, index);
        let home = self.property(property);
        let pseudo = index >= share.units;
        let code = self.unit_code(property, index);
        let (unit_type, bedrooms, half_bathrooms, square_feet, floorplan) = *pick(
            &mut random,
            &[
                ("st", 0, 2, 480, "Studio"),
                ("a1", 1, 2, 688, "1x1"),
                ("a2", 1, 3, 742, "1x1.5"),
                ("b1", 2, 2, 910, "2x1"),
                ("b2", 2, 4, 1_024, "2x2"),
                ("c1", 3, 4, 1_310, "3x2"),
            ],
        );
        let (economic_status, status_description) = if pseudo {
            if code.starts_with("WAIT") {
                ("Waitlist", "Waitlist")
            } else {
                ("nonresidential", "Excluded")
            }
        } else if random.random_bool(0.01) {
            ("Down", "Down")
        } else if self.vacant(property, index) {
            ("residential", "Vacant Unrented Ready")
        } else if random.random_bool(0.06) {
            ("residential", "Notice Unrented")
        } else {
            ("residential", "Occupied No Notice")
        };
        Unit {
            index,
            unique_id: FIRST_UNIT_ID + share.before_units + u64::from(index),
            pseudo,
            unit_type,
            bedrooms,
            half_bathrooms,
            square_feet: square_feet + random.random_range(0..20),
            market_rent: 780 + u32::from(bedrooms) * 310 + random.random_range(0..250),
            economic_status,
            status_description,
            floorplan,
            building: if random.random_bool(0.5) {
                String::new()
            } else {
                format!("Building {}", index / 20 + 1)
            },
            address_line1: format!("{} APT {code}", home.address_line1),
            city: home.city,
            state: home.state,
            postal_code: home.postal_code,
            code,
        }
    }

    /// Whether a seeded unit stands empty. The first never does: a promotion lives there.
    fn vacant(&self, property: u32, unit: u32) -> bool {
        unit > 0
            && self.share(property).units > 1
            && self.random("vacant", property, unit).random_bool(0.08)
    }

    pub(crate) fn t_code(&self, property: u32, index: u32) -> String {
        t_code(FIRST_TENANT + self.share(property).before_residents + u64::from(index))
    }

    /// Resident `index`. Residents `0..units` have lived or live in the unit of the same
    /// position; later ones are spread over the units and are past, future or applying.
    pub(crate) fn resident(&self, property: u32, index: u32) -> Resident {
        let share = self.share(property);
        let number = FIRST_TENANT + share.before_residents + u64::from(index);
        let mut random = self.random("resident", property, index);
        let own_unit = index < share.units;
        let unit_index = if own_unit {
            index
        } else {
            // The first past resident left the first unit to a promoted roommate.
            (index - share.units) * 7 % share.units.max(1)
        };
        let status = if own_unit && self.vacant(property, index) {
            "Past"
        } else if own_unit {
            weighted(
                &mut random,
                &[(88, "Current"), (9, "Notice"), (3, "Eviction")],
            )
        } else if index == share.units {
            "Past"
        } else {
            weighted(
                &mut random,
                &[
                    (70, "Past"),
                    (16, "Future"),
                    (9, "Applicant"),
                    (5, "Canceled"),
                ],
            )
        };
        let mut person = person(&mut random);
        let promoted = share.residents > share.units && share.units > 0 && index == 0;
        let mut p_code = format!("p{number:07}");
        let mut occupants = if index == share.units && share.units > 0 {
            // The prior tenant's roommate is promoted and no longer listed here.
            Vec::new()
        } else {
            occupants(&mut random, number)
        };
        let status = if promoted { "Current" } else { status };
        if promoted {
            let roommate = self.promoted_roommate(property);
            person = roommate.person;
            p_code = roommate.p_code;
            occupants.clear();
        }
        let (mut address_line1, mut city) = (String::new(), String::new());
        match random.random_range(0..200) {
            0 => address_line1 = std::mem::take(&mut person.email),
            1 => city = std::mem::take(&mut person.mobile_phone),
            2 => person.last = format!("*{}", person.last),
            3 => person.first = String::new(),
            4 => person.last = format!("{} *", person.last),
            _ => {}
        }
        let (lease_from, lease_to, move_in, move_out, notice) =
            self.lease_dates(&mut random, status);
        Resident {
            index,
            t_code: t_code(number),
            p_code,
            status,
            person,
            address_line1,
            city,
            unit_code: if share.units == 0
                || matches!(status, "Applicant" | "Canceled") && random.random_bool(0.5)
            {
                String::new()
            } else {
                self.unit_code(property, unit_index)
            },
            unit_square_feet: 480 + random.random_range(0..900),
            rent: random.random_range(700..2_600),
            lease_from,
            lease_to,
            move_in,
            move_out,
            notice,
            occupants,
        }
    }

    fn lease_dates(
        &self,
        random: &mut ChaCha8Rng,
        status: &str,
    ) -> (
        NaiveDate,
        NaiveDate,
        Option<NaiveDate>,
        Option<NaiveDate>,
        Option<NaiveDate>,
    ) {
        let epoch = self.epoch;
        let ago = |days: u64| epoch.checked_sub_days(Days::new(days)).unwrap_or(epoch);
        let ahead = |days: u64| epoch.checked_add_days(Days::new(days)).unwrap_or(epoch);
        let (from, move_in, move_out) = match status {
            "Past" => {
                let from = ago(random.random_range(500..1_500));
                let out = ago(random.random_range(10..450));
                (from, Some(from), Some(out))
            }
            "Future" | "Applicant" | "Canceled" => (ahead(random.random_range(3..90)), None, None),
            _ => {
                let from = ago(random.random_range(5..700));
                (from, Some(from), None)
            }
        };
        let mut to = from.checked_add_days(Days::new(364)).unwrap_or(from);
        if random.random_bool(0.004) {
            let year = if random.random_bool(0.5) { 5025 } else { 6065 };
            to = to.with_year(year).unwrap_or(to);
        }
        let notice = (status == "Notice").then(|| ago(random.random_range(1..50)));
        (from, to, move_in, move_out, notice)
    }

    fn promoted_roommate(&self, property: u32) -> Occupant {
        let share = self.share(property);
        let number = FIRST_TENANT + share.before_residents + u64::from(share.units);
        let mut random = self.random("promoted", property, 0);
        occupant(&mut random, number, 1)
    }

    /// The roommate promotion every property with past residents has had.
    pub(crate) fn promotion(&self, property: u32) -> Option<Promotion> {
        let share = self.share(property);
        if share.units == 0 || share.residents <= share.units {
            return None;
        }
        let prior = self.resident(property, share.units);
        let roommate = self.promoted_roommate(property);
        Some(Promotion {
            prior_tenant: prior.t_code,
            new_tenant: self.t_code(property, 0),
            old_roommate_code: roommate.r_code,
            person_code: roommate.p_code,
            unit_code: self.unit_code(property, 0),
            move_out: prior.move_out.unwrap_or(self.epoch),
        })
    }

    pub(crate) fn request(&self, property: u32, index: u32) -> ServiceRequest {
        let share = self.share(property);
        let mut random = self.random("request", property, index);
        let midnight = self.epoch.and_time(NaiveTime::MIN);
        // More recent ones than old ones.
        let square: f64 = random.random::<f64>();
        let age = 3_600.0 + square * square * 540.0 * 86_400.0;
        #[expect(clippy::cast_possible_truncation, reason = "under 50 million seconds")]
        let age = age as i64;
        let created = midnight - TimeDelta::seconds(age);
        let unit_index = random.random_range(0..share.units.max(1));
        let resident = (!self.vacant(property, unit_index) && random.random_bool(0.85))
            .then(|| self.resident(property, unit_index));
        let draft = draft(&mut random);
        let mut unit_code = if share.units == 0 || random.random_bool(0.012) {
            String::new()
        } else if share.pseudo_units > 0 && random.random_bool(0.005) {
            "NONRESID".to_owned()
        } else {
            self.unit_code(property, unit_index)
        };
        if index == 0 && share.units > 0 {
            unit_code = self.unit_code(property, 0);
        }
        let due = random.random_bool(0.4).then(|| {
            let due = created.date() + TimeDelta::days(random.random_range(1..10));
            if random.random_bool(0.006) {
                due.with_year(5025).unwrap_or(due)
            } else {
                due
            }
        });
        let status = weighted(&mut random, STATUSES);
        let mut history = vec![(
            if random.random_bool(0.3) {
                String::new()
            } else {
                "Call".to_owned()
            },
            created,
        )];
        let mut at = created;
        for step in path_to(status) {
            let gap = TimeDelta::seconds(random.random_range(600..400_000));
            if at + gap >= midnight {
                break;
            }
            at += gap;
            history.push(((*step).to_owned(), at));
        }
        let status = history
            .last()
            .map(|(status, _)| status.clone())
            .filter(|status| !status.is_empty())
            .unwrap_or_else(|| "Call".to_owned());
        let worked = history.len() > 2;
        ServiceRequest {
            index,
            id: FIRST_REQUEST + share.before_requests + u64::from(index),
            origin: draft.origin,
            unit_code,
            tenant_code: resident
                .as_ref()
                .map_or(String::new(), |r| r.t_code.clone()),
            description: draft.description,
            priority: draft.priority.to_owned(),
            category: draft.category.to_owned(),
            sub_category: draft.sub_category,
            permission_to_enter: draft.permission_to_enter,
            access_notes: draft.access_notes,
            problem_notes: String::new(),
            technician_notes: if worked {
                (*pick(&mut random, TECHNICIAN)).to_owned()
            } else {
                String::new()
            },
            tenant_caused: random.random_bool(0.04),
            requestor_name: match &resident {
                Some(r) if random.random_bool(0.97) => full_name(&r.person),
                None if random.random_bool(0.7) => "Front Office".to_owned(),
                _ => String::new(),
            },
            requestor_phone: resident.as_ref().map_or(String::new(), |r| {
                if r.person.mobile_phone.is_empty() {
                    r.person.home_phone.clone()
                } else {
                    r.person.mobile_phone.clone()
                }
            }),
            requestor_email: resident
                .as_ref()
                .map_or(String::new(), |r| r.person.email.clone()),
            created,
            due,
            created_by: if draft.origin == "OL" {
                "portal"
            } else {
                "office"
            }
            .to_owned(),
            updated: at,
            updated_by: format!("mgr{}", random.random_range(1..5)),
            status,
            history,
        }
    }

    /// The service request a seeded attachment belongs to; about every fifth shares it with
    /// its predecessor.
    pub(crate) fn request_of_attachment(&self, property: u32, index: u32) -> u32 {
        let share = self.share(property);
        let index = if index % 5 == 4 { index - 1 } else { index };
        let at = u64::from(index) * u64::from(share.requests) / u64::from(share.attachments.max(1));
        u32::try_from(at).unwrap_or(0)
    }

    /// Seeded attachments of a seeded service request.
    pub(crate) fn attachments_of(&self, property: u32, request: u32) -> Vec<u32> {
        let share = self.share(property);
        if share.requests == 0 || share.attachments == 0 {
            return Vec::new();
        }
        let near = u64::from(request) * u64::from(share.attachments) / u64::from(share.requests);
        let near = u32::try_from(near).unwrap_or(0);
        (near.saturating_sub(1)..(near + 4).min(share.attachments))
            .filter(|index| self.request_of_attachment(property, *index) == request)
            .collect()
    }

    pub(crate) fn attachment(&self, property: u32, index: u32) -> Attachment {
        let share = self.share(property);
        let mut random = self.random("attachment", property, index);
        let request = self.request(property, self.request_of_attachment(property, index));
        let number = random.random_range(1..9_999);
        let (file_name, attachment_type) = match random.random_range(0..5) {
            0 => (format!("estimate-{number:04}.pdf"), "Work Order"),
            1 => (format!("note {number}.txt"), "Correspondence"),
            _ => (format!("IMG_{number:04}.jpg"), "Photo"),
        };
        Attachment {
            index,
            id: FIRST_ATTACHMENT + share.before_attachments + u64::from(index),
            service_request_id: request.id,
            file_name,
            attachment_type: attachment_type.to_owned(),
            description: if random.random_bool(0.3) {
                String::new()
            } else {
                request.brief()
            },
            created: request.created + TimeDelta::seconds(random.random_range(5..1_800)),
            content: Content::Invented {
                bytes: random.random_range(200..3_000),
            },
        }
    }
}

/// A new service request's freely invented part.
pub(crate) struct Draft {
    pub origin: &'static str,
    pub description: String,
    pub priority: &'static str,
    pub category: &'static str,
    pub sub_category: String,
    pub permission_to_enter: bool,
    pub access_notes: String,
}

/// Invents what somebody reports.
pub(crate) fn draft(random: &mut ChaCha8Rng) -> Draft {
    let (category, sub_category, sentence) = *pick(random, PROBLEMS);
    let detail = *pick(random, DETAILS);
    Draft {
        origin: weighted(random, &[(50, "OL"), (35, "PH"), (15, "WI")]),
        description: if detail.is_empty() {
            sentence.to_owned()
        } else {
            format!("{sentence}. {detail}")
        },
        priority: weighted(
            random,
            &[
                (25, "Low"),
                (40, "Med"),
                (20, "High"),
                (5, "24 hours"),
                (10, "Emergency"),
            ],
        ),
        category,
        sub_category: if random.random_bool(0.03) {
            String::new()
        } else {
            sub_category.to_owned()
        },
        permission_to_enter: random.random_bool(0.6),
        access_notes: (*pick(random, ACCESS)).to_owned(),
    }
}

/// Invents a person.
pub(crate) fn person(random: &mut ChaCha8Rng) -> Person {
    let first = *pick(random, FIRST_NAMES);
    let last = *pick(random, LAST_NAMES);
    Person {
        first: first.to_owned(),
        middle: if random.random_bool(0.2) {
            "J".to_owned()
        } else {
            String::new()
        },
        last: last.to_owned(),
        email: if random.random_bool(0.9) {
            email(random, first, last)
        } else {
            String::new()
        },
        home_phone: if random.random_bool(0.3) {
            phone(random)
        } else {
            String::new()
        },
        office_phone: if random.random_bool(0.1) {
            phone(random)
        } else {
            String::new()
        },
        mobile_phone: if random.random_bool(0.85) {
            phone(random)
        } else {
            String::new()
        },
    }
}

/// Up to two people who live with tenant `number`.
fn occupants(random: &mut ChaCha8Rng, number: u64) -> Vec<Occupant> {
    let count = weighted(random, &[(78, 0), (17, 1), (5, 2)]);
    (1..=count)
        .map(|place| occupant(random, number, place))
        .collect()
}

/// Occupant `place` (1 to 9) of tenant `number`.
fn occupant(random: &mut ChaCha8Rng, number: u64, place: u64) -> Occupant {
    let relationship = *pick(random, &["Roommate", "Spouse", "Child", "Occupant"]);
    let code = number * 10 + place;
    Occupant {
        r_code: format!("r{code:07}"),
        p_code: format!("p9{code:07}"),
        relationship,
        responsible: relationship != "Child" && random.random_bool(0.5),
        person: person(random),
    }
}

/// First and last name with one blank between, whatever is missing.
pub(crate) fn full_name(person: &Person) -> String {
    format!("{} {}", person.first, person.last)
        .trim()
        .to_owned()
}

/// The tenant code of a number.
pub(crate) fn t_code(number: u64) -> String {
    format!("t{number:07}")
}

/// The statuses a request goes through to reach `status`.
fn path_to(status: &str) -> &'static [&'static str] {
    match status {
        "In Progress" => &["In Progress"],
        "Scheduled" => &["Scheduled"],
        "On Hold" => &["In Progress", "On Hold"],
        "Web" => &["Web"],
        "Assessment" => &["Assessment"],
        "Request Reassignment" => &["Scheduled", "Request Reassignment"],
        "Work Completed" => &["Scheduled", "In Progress", "Work Completed"],
        "Completed" => &["In Progress", "Work Completed", "Completed"],
        "Canceled" => &["Canceled"],
        _ => &[],
    }
}

/// The bytes of an invented attachment.
pub(crate) fn invented_bytes(id: u64, file_name: &str, bytes: u32) -> Vec<u8> {
    let head: &[u8] = match file_name.rsplit('.').next() {
        Some("pdf") => b"%PDF-1.4\n",
        Some("jpg") => b"\xff\xd8\xff\xe0\x00\x10JFIF\x00",
        _ => b"Note\n",
    };
    let mut content = head.to_vec();
    let start = content.len();
    content.resize(start.max(bytes as usize), 0);
    if let Some(rest) = content.get_mut(start..) {
        derive(id, "content", 0, 0).fill_bytes(rest);
        if head == b"Note\n" {
            for byte in rest {
                *byte = b'a' + *byte % 26;
            }
        }
    }
    content
}
