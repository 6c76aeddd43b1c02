//! Seeded service requests and their attachments.

use chrono::{Datelike, NaiveTime, TimeDelta};
use rand::{Rng, RngExt};
use rand_chacha::ChaCha8Rng;

use super::{FIRST_ATTACHMENT, FIRST_REQUEST, Seeded, full_name};
use crate::random::derive;
use crate::words::{ACCESS, DETAILS, PROBLEMS, TECHNICIAN, pick, weighted};
use crate::yardi::model::{Attachment, Content, ServiceRequest};

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

impl Seeded {
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
