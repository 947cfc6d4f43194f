//! How well the records of each topic compress.

use std::collections::HashMap;
use std::sync::Arc;

use crate::sync::Mutex;

/// How much smaller than its records a batch of a topic is likely to be (Java's `CompressionRatioEstimator`): a batch that
/// compressed worse raises the estimate at once, one that compressed better lowers it a little.
///
/// Kept per producer, where Java's is the JVM's: a producer has one codec, and two producers may send different records to
/// one topic.
#[derive(Debug, Default)]
pub struct Ratios(Mutex<HashMap<Arc<str>, f32>>);

impl Ratios {
    /// The first estimate of a topic.
    const FIRST: f32 = 1.0;
    /// A batch that compressed better lowers the estimate by no more.
    const BETTER: f32 = 0.005;
    /// A batch that compressed worse raises it by no less.
    const WORSE: f32 = 0.05;

    /// Compressed bytes per byte of records, as far as is known.
    pub fn estimate(&self, topic: &str) -> f32 {
        self.0.lock().get(topic).copied().unwrap_or(Self::FIRST)
    }

    /// A batch compressed to `observed` bytes per byte.
    pub fn observe(&self, topic: &Arc<str>, observed: f32) {
        let mut ratios = self.0.lock();
        let known = ratios.entry(Arc::clone(topic)).or_insert(Self::FIRST);
        if observed > *known {
            *known = observed.max(*known + Self::WORSE);
        } else {
            *known = observed.max(*known - Self::BETTER);
        }
    }

    /// A batch was too large for its broker: expect no compression until batches show it again.
    pub fn reset(&self, topic: &Arc<str>, observed: f32) {
        self.0.lock().insert(Arc::clone(topic), observed.max(Self::FIRST));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_estimate_rises_at_once_and_falls_slowly() {
        let (ratios, topic) = (Ratios::default(), Arc::from("t"));
        let close = |expected: f32| assert!((ratios.estimate("t") - expected).abs() < 1e-6, "{}", ratios.estimate("t"));
        close(1.0);
        ratios.observe(&topic, 0.2);
        close(0.995);
        ratios.observe(&topic, 0.993);
        close(0.993);
        ratios.observe(&topic, 0.994);
        close(1.043);
        ratios.observe(&topic, 1.2);
        close(1.2);
        ratios.reset(&topic, 0.3);
        close(1.0);
        ratios.reset(&topic, 1.1);
        close(1.1);
        assert!((ratios.estimate("another") - 1.0).abs() < 1e-6);
    }
}
