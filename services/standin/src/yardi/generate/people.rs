//! Seeded residents, their occupants and promotions.

use chrono::{Datelike, Days, NaiveDate};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::{FIRST_TENANT, Seeded};
use crate::words::{FIRST_NAMES, LAST_NAMES, email, phone, pick, weighted};
use crate::yardi::model::{Occupant, Person, Promotion, Resident};

impl Seeded {
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
