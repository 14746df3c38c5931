//! Everything an operator looks at, in one value: for the page, the terminal and the figures.

use std::ops::Bound;

use serde::{Deserialize, Serialize};

use super::listed::Listed;
use super::record::Age;
use super::types::Status;
use super::{Growth, MountFigures, Volume};
use crate::clock::Timestamp;
use crate::error::Result;
use crate::ids::Ino;
use crate::index::{Table, schema};

/// Records of the index looked at in one step.
const STEP: usize = 4096;
/// Upper ends of the classes of ages, in days.
const AGE_DAYS: [u32; 6] = [1, 7, 30, 90, 180, 365];

/// How the volume is doing, has done, and is used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Overview {
    /// When all this was so.
    pub now: Timestamp,
    /// How it is doing.
    pub status: Status,
    /// How it grows.
    pub growth: Growth,
    /// What the mount was asked since the volume was opened; all zero without one.
    pub mount: MountFigures,
    /// How often sealed bytes were not what had been written.
    pub forged: u64,
}

/// Media of about one age.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgeClass {
    /// Younger than so many days, and not younger than the class before; none: older than all.
    pub days: Option<u32>,
    /// Media.
    pub media: u64,
    /// Bytes of them.
    pub bytes: u64,
}

impl Volume {
    /// How the volume is doing, has done, and is used.
    ///
    /// # Errors
    /// As [`Volume::status`].
    pub fn overview(&self) -> Result<Overview> {
        let status = self.status()?;
        // The same as for the status: of a disk that cannot be read the rest is told.
        let growth = self.growth().or_else(|e| self.as_far_as_can_be_read(e))?;
        Ok(Overview { now: self.clock.now(), status, growth, mount: self.meter.figures(), forged: self.forged() })
    }

    /// Media that age by a rule, by age. Held media and those with a retention of their own are not among them. Costs a walk
    /// over all media in the index.
    ///
    /// # Errors
    /// `Damaged`, `Io`.
    pub fn ages(&self) -> Result<Vec<AgeClass>> {
        self.settle();
        let now = self.clock.now().secs;
        let mut classes: Vec<AgeClass> =
            AGE_DAYS.into_iter().map(Some).chain([None]).map(|days| AgeClass { days, ..AgeClass::default() }).collect();
        let end = schema::age(Age::OWN, Timestamp { secs: i64::MIN, nanos: 0 }, Ino(0));
        let mut after = Vec::new();
        loop {
            let page = self.index.scan(Table::Ages, Bound::Excluded(&after), Bound::Excluded(&end), STEP)?;
            let Some((last, _)) = page.last() else { return Ok(classes) };
            after.clone_from(last);
            for (key, value) in page {
                let Some((_, when, _)) = schema::parse_age(&key) else { continue };
                let days = now.saturating_sub(when.secs).div_euclid(86_400);
                let class = classes.iter_mut().find(|class| class.days.is_none_or(|end| days < i64::from(end)));
                if let Some(class) = class {
                    class.media += 1;
                    class.bytes += Listed::decode(&value).map_or(0, |listed| listed.len);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Policy;
    use super::super::aging_tests::{Bench, put};
    use super::*;

    #[test]
    fn media_are_counted_by_their_age() {
        let bench = Bench::new(Policy { floor_bytes: 0, ..Policy::default() });
        let volume = bench.open();
        for (nth, days) in [400_u64, 80, 3, 0].into_iter().enumerate() {
            put(&volume, Ino::ROOT, &format!("{nth}"), &b"12345"[..=nth]);
            bench.pass(days * 86_400);
        }
        let held = put(&volume, Ino::ROOT, "held", b"held");
        volume.hold(held, true).unwrap();
        let found: Vec<_> = volume.ages().unwrap().iter().map(|c| (c.days, c.media, c.bytes)).collect();
        let expected = [
            (Some(1), 1, 4),
            (Some(7), 1, 3),
            (Some(30), 0, 0),
            (Some(90), 1, 2),
            (Some(180), 0, 0),
            (Some(365), 0, 0),
            (None, 1, 1),
        ];
        assert_eq!(found, expected);
        let overview = volume.overview().unwrap();
        assert_eq!((overview.status.media, overview.status.held, overview.forged), (5, 1, 0));
    }

    #[test]
    fn looking_at_a_medium_is_no_use_of_it() {
        let bench = Bench::new(Policy { age_by: super::super::AgeBy::Used, floor_bytes: 0, ..Policy::default() });
        let volume = bench.open();
        let ino = put(&volume, Ino::ROOT, "f", b"four");
        let before = volume.medium(ino, false).unwrap().used;
        bench.pass(40 * 86_400);
        let file = volume.open_to_look(ino).unwrap();
        let mut bytes = [0; 9];
        assert_eq!(volume.read(&file, 0, &mut bytes).unwrap(), 4);
        assert_eq!(bytes[..4], *b"four");
        volume.close(file);
        assert_eq!(volume.medium(ino, false).unwrap().used, before);
        volume.close(volume.open_medium(ino).unwrap());
        assert!(volume.medium(ino, false).unwrap().used > before);
    }
}
