//! Which series a file's templates and instances make, remembered over the files that are opened together: most series
//! are in all of them, and putting labels together costs more than all else of an index.

use pitwatch_shared::model::{INSTANCE, Labels, MetricType};
use rustc_hash::FxHashMap;

use super::format::Outline;
use crate::index::{Index, SeriesId};

type Texts = Vec<(Box<str>, Box<str>)>;

/// The series of files opened so far. Templates and instances are numbered across files.
#[derive(Default)]
pub(crate) struct Known {
    templates: FxHashMap<(MetricType, Texts), u32>,
    instances: FxHashMap<Box<str>, u32>,
    series: FxHashMap<(u32, Option<u32>), SeriesId>,
}

/// One file's numbers as those across files.
pub(crate) struct Ids<'a> {
    known: &'a mut Known,
    templates: Vec<u32>,
    /// By symbol; found when it is asked for.
    instances: Vec<Option<u32>>,
}

impl Known {
    pub(crate) fn of(&mut self, outline: &Outline<'_>) -> Ids<'_> {
        let mut templates = Vec::with_capacity(outline.templates.len());
        for template in &outline.templates {
            let texts = template.pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
            let next = self.templates.len() as u32;
            templates.push(*self.templates.entry((template.kind, texts)).or_insert(next));
        }
        Ids { known: self, templates, instances: vec![None; outline.symbols.len()] }
    }
}

impl Ids<'_> {
    /// The number of a file's series in the index; `None` if its labels are none.
    pub(crate) fn series(
        &mut self,
        outline: &Outline<'_>,
        template: usize,
        instance: Option<usize>,
        index: &mut Index,
    ) -> Option<SeriesId> {
        let Known { instances, series, .. } = &mut *self.known;
        let number = instance.map(|symbol| {
            *self.instances[symbol].get_or_insert_with(|| {
                let next = instances.len() as u32;
                *instances.entry(outline.symbols[symbol].into()).or_insert(next)
            })
        });
        let key = (self.templates[template], number);
        if let Some(id) = series.get(&key) {
            return Some(*id);
        }
        let instance = instance.map(|symbol| (INSTANCE, outline.symbols[symbol]));
        let template = &outline.templates[template];
        let labels = Labels::new(template.pairs.iter().copied().chain(instance)).ok()?;
        let id = index.insert(&labels, template.kind);
        series.insert(key, id);
        Some(id)
    }
}
