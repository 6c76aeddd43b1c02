//! The seeded records: any one of them is made from the seed and its position alone, so
//! that half a million cost no memory.

mod people;
mod requests;

use chrono::NaiveDate;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::model::{Property, Unit};
use crate::options::Options;
use crate::random::derive;
use crate::words::{CITIES, STREETS, pick};

pub(crate) use people::{full_name, person, t_code};
pub(crate) use requests::{draft, invented_bytes};

const FIRST_UNIT_ID: u64 = 30_000;
const FIRST_TENANT: u64 = 90_000;
const FIRST_REQUEST: u64 = 50_000;
const FIRST_ATTACHMENT: u64 = 700_000;

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
}
