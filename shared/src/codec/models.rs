//! What a chain has learnt about how its series change: a probability for each context of each decision, as a frame is worked
//! out with it and, smaller, as it is kept between frames.

use super::range::Probability;
use super::series::SIZE_MAX;

/// A history has 0 to 16 changes; the last two ticks count apart.
const HISTORY_CONTEXTS: usize = (u16::BITS as usize + 1) * 4;
/// One for each expected size, and one for series without a residual so far.
pub(super) const SIZE_CONTEXTS: usize = SIZE_MAX as usize + 2;
/// Decisions to each side of the expected size before the size is spelt out.
const SIZE_STEPS: usize = 12;
/// Decisions away from an expected size, downwards and upwards.
type Steps = [[Probability; SIZE_STEPS]; 2];

const STEPS_NEW: Steps = [[Probability::EVEN; SIZE_STEPS]; 2];

/// Every probability.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Models {
    pub(super) flat: Flat,
    /// A residual has one bit less, or more, than expected, and so on.
    pub(super) steps: [Steps; SIZE_CONTEXTS],
}

/// Those of all decisions but the many about sizes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Flat {
    /// The tick comes one interval after the last.
    pub(super) steady: Probability,
    /// Any quiet slot of a word changed, by whether that was so in the word before.
    pub(super) stirred: [Probability; 2],
    /// A slot changed, by its history.
    pub(super) changed: [Probability; HISTORY_CONTEXTS],
    /// Any change of a series with a scale is not a residual.
    pub(super) escapes: Probability,
    /// A change is not a residual, by whether some of late were not.
    pub(super) escape: [Probability; 2],
    /// What is not a residual brings a scale.
    pub(super) rescale: Probability,
    /// A residual has the expected size or more.
    pub(super) larger: [Probability; SIZE_CONTEXTS],
}

impl Models {
    /// Nothing learnt yet.
    pub(super) const NEW: Self = Self { flat: Flat::NEW, steps: [STEPS_NEW; SIZE_CONTEXTS] };

    /// Every probability, in the snapshot's order.
    pub(super) fn all(&mut self) -> impl Iterator<Item = &mut Probability> {
        let Flat { steady, stirred, changed, escapes, escape, rescale, larger } = &mut self.flat;
        let flat = stirred.iter_mut().chain(changed).chain(escape).chain(larger);
        [steady, escapes, rescale].into_iter().chain(flat).chain(self.steps.as_flattened_mut().as_flattened_mut())
    }
}

impl Flat {
    const NEW: Self = Self {
        steady: Probability::EVEN,
        stirred: [Probability::EVEN; 2],
        changed: [Probability::EVEN; HISTORY_CONTEXTS],
        escapes: Probability::EVEN,
        escape: [Probability::EVEN; 2],
        rescale: Probability::EVEN,
        larger: [Probability::EVEN; SIZE_CONTEXTS],
    };
}

/// [`Models`] without the sizes that no series has had: a collector holds ten thousand, most of small hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    flat: Flat,
    /// By expected size, ascending.
    steps: Vec<(u8, Steps)>,
}

impl Kept {
    /// Nothing learnt yet.
    pub(super) const NEW: Self = Self { flat: Flat::NEW, steps: Vec::new() };

    /// All of them.
    pub(super) fn models(&self) -> Models {
        let mut models = Models { flat: self.flat.clone(), ..Models::NEW };
        for (context, steps) in &self.steps {
            models.steps[usize::from(*context)] = *steps;
        }
        models
    }

    /// Replaces what was kept.
    pub(super) fn keep(&mut self, learnt: &Models) {
        self.flat.clone_from(&learnt.flat);
        let touched = learnt.steps.iter().enumerate().filter(|(_, steps)| **steps != STEPS_NEW);
        self.steps.clear();
        self.steps.reserve_exact(touched.clone().count());
        self.steps.extend(touched.map(|(context, steps)| (context as u8, *steps)));
    }
}
