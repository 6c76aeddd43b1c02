//! What the Yardi stand-in holds now: the seeded records under an overlay of what changed.

use std::collections::HashMap;

use super::generate::Seeded;
use super::model::{Attachment, Promotion, Property, Resident, ServiceRequest, Unit};
use crate::options::Options;
use crate::random::derive;

/// Changes over the seeded records of one kind. A record is known by its property and its
/// position; deleted ones leave a gap.
#[derive(Debug)]
pub(crate) struct Overlay<T> {
    changed: HashMap<(u32, u32), Option<T>>,
    counts: Vec<u32>,
}

impl<T: Clone> Overlay<T> {
    fn new(counts: Vec<u32>) -> Self {
        Self {
            changed: HashMap::new(),
            counts,
        }
    }

    /// Positions in use, deleted ones included.
    pub(crate) fn count(&self, property: u32) -> u32 {
        self.counts.get(property as usize).copied().unwrap_or(0)
    }

    fn get(&self, property: u32, index: u32, seeded: impl FnOnce() -> T) -> Option<T> {
        if index >= self.count(property) {
            return None;
        }
        match self.changed.get(&(property, index)) {
            Some(changed) => changed.clone(),
            None => Some(seeded()),
        }
    }

    fn has(&self, property: u32, index: u32) -> bool {
        index < self.count(property)
            && self
                .changed
                .get(&(property, index))
                .is_none_or(Option::is_some)
    }

    fn put(&mut self, property: u32, index: u32, record: Option<T>) {
        self.changed.insert((property, index), record);
    }

    /// Makes room for one more and returns its position.
    fn grow(&mut self, property: u32) -> u32 {
        match self.counts.get_mut(property as usize) {
            Some(count) => {
                *count += 1;
                *count - 1
            }
            None => 0,
        }
    }
}

/// Everything the stand-in holds.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) seeded: Seeded,
    pub(crate) properties: Vec<Property>,
    units: Overlay<Unit>,
    residents: Overlay<Resident>,
    requests: Overlay<ServiceRequest>,
    attachments: Overlay<Attachment>,
    promotions: HashMap<u32, Vec<Promotion>>,
    /// Who lives where, for units whose people changed.
    occupancy: HashMap<(u32, String), Option<String>>,
    added_requests: HashMap<u64, (u32, u32)>,
    added_attachments: HashMap<u64, Vec<(u32, u32)>>,
    pub(crate) next_unit: u64,
    pub(crate) next_tenant: u64,
    next_request: u64,
    next_attachment: u64,
    pub(crate) edits_done: u64,
    seed: u64,
}

impl Held {
    pub(crate) fn new(options: &Options) -> Self {
        let seeded = Seeded::new(options);
        let shares: Vec<_> = (0..seeded.properties()).map(|p| seeded.share(p)).collect();
        Self {
            properties: (0..seeded.properties())
                .map(|p| seeded.property(p))
                .collect(),
            units: Overlay::new(shares.iter().map(|s| s.units + s.pseudo_units).collect()),
            residents: Overlay::new(shares.iter().map(|s| s.residents).collect()),
            requests: Overlay::new(shares.iter().map(|s| s.requests).collect()),
            attachments: Overlay::new(shares.iter().map(|s| s.attachments).collect()),
            promotions: HashMap::new(),
            occupancy: HashMap::new(),
            added_requests: HashMap::new(),
            added_attachments: HashMap::new(),
            next_unit: seeded.next_unit_id(),
            next_tenant: seeded.next_tenant(),
            next_request: seeded.next_request(),
            next_attachment: seeded.next_attachment(),
            edits_done: 0,
            seed: options.seed,
            seeded,
        }
    }

    /// The random numbers of the next edit.
    pub(crate) fn edit_random(&mut self) -> rand_chacha::ChaCha8Rng {
        self.edits_done += 1;
        derive(self.seed, "edit", self.edits_done, 0)
    }

    /// The property with this code now; blanks and letter case do not matter.
    pub(crate) fn property_by_code(&self, code: &str) -> Option<u32> {
        let code = code.trim();
        self.properties
            .iter()
            .find(|property| property.code.eq_ignore_ascii_case(code))
            .map(|property| property.index)
    }

    pub(crate) fn property_code(&self, property: u32) -> &str {
        self.properties
            .get(property as usize)
            .map_or("", |property| property.code.as_str())
    }

    pub(crate) fn unit_count(&self, property: u32) -> u32 {
        self.units.count(property)
    }
    pub(crate) fn resident_count(&self, property: u32) -> u32 {
        self.residents.count(property)
    }
    pub(crate) fn request_count(&self, property: u32) -> u32 {
        self.requests.count(property)
    }
    pub(crate) fn attachment_count(&self, property: u32) -> u32 {
        self.attachments.count(property)
    }

    pub(crate) fn unit(&self, property: u32, index: u32) -> Option<Unit> {
        self.units
            .get(property, index, || self.seeded.unit(property, index))
    }
    pub(crate) fn resident(&self, property: u32, index: u32) -> Option<Resident> {
        self.residents
            .get(property, index, || self.seeded.resident(property, index))
    }
    pub(crate) fn request(&self, property: u32, index: u32) -> Option<ServiceRequest> {
        self.requests
            .get(property, index, || self.seeded.request(property, index))
    }
    pub(crate) fn attachment(&self, property: u32, index: u32) -> Option<Attachment> {
        self.attachments
            .get(property, index, || self.seeded.attachment(property, index))
    }

    pub(crate) fn put_unit(&mut self, property: u32, unit: Unit) {
        self.units.put(property, unit.index, Some(unit));
    }
    pub(crate) fn put_resident(&mut self, property: u32, resident: Resident) {
        let lives_here = matches!(resident.status, "Current" | "Notice" | "Eviction");
        if lives_here && !resident.unit_code.is_empty() {
            self.occupancy.insert(
                (property, resident.unit_code.clone()),
                Some(resident.t_code.clone()),
            );
        } else if self.lives_in(property, &resident.unit_code, resident.index)
            == Some(resident.t_code.clone())
        {
            self.occupancy
                .insert((property, resident.unit_code.clone()), None);
        }
        self.residents.put(property, resident.index, Some(resident));
    }
    pub(crate) fn put_request(&mut self, property: u32, request: ServiceRequest) {
        self.requests.put(property, request.index, Some(request));
    }

    pub(crate) fn add_unit(&mut self, property: u32, mut unit: Unit) -> Unit {
        unit.index = self.units.grow(property);
        unit.unique_id = self.next_unit;
        self.next_unit += 1;
        self.put_unit(property, unit.clone());
        unit
    }

    /// Adds a resident whose codes were made from [`Self::next_tenant`].
    pub(crate) fn add_resident(&mut self, property: u32, mut resident: Resident) -> Resident {
        resident.index = self.residents.grow(property);
        self.next_tenant += 1;
        self.put_resident(property, resident.clone());
        resident
    }

    pub(crate) fn add_request(
        &mut self,
        property: u32,
        mut request: ServiceRequest,
    ) -> ServiceRequest {
        request.index = self.requests.grow(property);
        request.id = self.next_request;
        self.next_request += 1;
        self.added_requests
            .insert(request.id, (property, request.index));
        self.put_request(property, request.clone());
        request
    }

    pub(crate) fn add_attachment(
        &mut self,
        property: u32,
        mut attachment: Attachment,
    ) -> Attachment {
        attachment.index = self.attachments.grow(property);
        attachment.id = self.next_attachment;
        self.next_attachment += 1;
        self.added_attachments
            .entry(attachment.service_request_id)
            .or_default()
            .push((property, attachment.index));
        self.attachments
            .put(property, attachment.index, Some(attachment.clone()));
        attachment
    }

    pub(crate) fn remove_unit(&mut self, property: u32, index: u32) {
        self.units.put(property, index, None);
    }
    pub(crate) fn remove_resident(&mut self, property: u32, resident: &Resident) {
        if self.lives_in(property, &resident.unit_code, resident.index)
            == Some(resident.t_code.clone())
        {
            self.occupancy
                .insert((property, resident.unit_code.clone()), None);
        }
        self.residents.put(property, resident.index, None);
    }
    pub(crate) fn remove_attachment(&mut self, property: u32, index: u32) {
        self.attachments.put(property, index, None);
    }

    /// Removes a service request with its attachments, and says how many those were.
    pub(crate) fn remove_request(&mut self, property: u32, request: &ServiceRequest) -> usize {
        let attachments = self.attachments_of(property, request.id);
        for attachment in &attachments {
            self.remove_attachment(property, attachment.index);
        }
        self.requests.put(property, request.index, None);
        attachments.len()
    }

    /// Where a service request is.
    pub(crate) fn find_request(&self, id: u64) -> Option<(u32, u32)> {
        self.added_requests
            .get(&id)
            .copied()
            .or_else(|| self.seeded.find_request(id))
    }

    /// Positions of the attachments of one service request.
    fn attachment_positions(&self, property: u32, request: u64) -> Vec<u32> {
        let seeded = match self.seeded.find_request(request) {
            Some((own, index)) if own == property => self.seeded.attachments_of(property, index),
            _ => Vec::new(),
        };
        let added = self.added_attachments.get(&request).into_iter().flatten();
        seeded
            .into_iter()
            .chain(
                added
                    .filter(|(own, _)| *own == property)
                    .map(|(_, index)| *index),
            )
            .filter(|index| self.attachments.has(property, *index))
            .collect()
    }

    /// Whether a service request has attachments.
    pub(crate) fn has_attachments(&self, property: u32, request: u64) -> bool {
        !self.attachment_positions(property, request).is_empty()
    }

    /// The attachments of one service request.
    pub(crate) fn attachments_of(&self, property: u32, request: u64) -> Vec<Attachment> {
        self.attachment_positions(property, request)
            .into_iter()
            .filter_map(|index| self.attachment(property, index))
            .collect()
    }

    /// The tenant code of who lives in a unit now. `index` is the unit's position, by which
    /// seeded residents are found.
    pub(crate) fn lives_in(&self, property: u32, unit_code: &str, index: u32) -> Option<String> {
        if let Some(known) = self.occupancy.get(&(property, unit_code.to_owned())) {
            return known.clone();
        }
        let resident = self.resident(property, index)?;
        (resident.unit_code == unit_code
            && matches!(resident.status, "Current" | "Notice" | "Eviction"))
        .then_some(resident.t_code)
    }

    pub(crate) fn promotions(&self, property: u32) -> Vec<Promotion> {
        let live = self
            .promotions
            .get(&property)
            .into_iter()
            .flatten()
            .cloned();
        self.seeded
            .promotion(property)
            .into_iter()
            .chain(live)
            .collect()
    }

    pub(crate) fn add_promotion(&mut self, property: u32, promotion: Promotion) {
        self.promotions.entry(property).or_default().push(promotion);
    }

    /// Gives a property another code.
    pub(crate) fn rename(&mut self, property: u32, code: &str) -> bool {
        if self.property_by_code(code).is_some() {
            return false;
        }
        match self.properties.get_mut(property as usize) {
            Some(property) => {
                let former = std::mem::replace(&mut property.code, code.to_owned());
                property.former_codes.push(former);
                true
            }
            None => false,
        }
    }
}
