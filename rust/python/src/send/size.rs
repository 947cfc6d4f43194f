//! The check that a record fits into a batch and a request.

use penstock_core::compression::Codec;
use penstock_core::wire::record_batch::{BATCH_HEADER_LEN, Header, record_len_upper_bound};
use pyo3::prelude::*;
use pyo3::types::{PyInt, PyString};

use crate::runtime::errors::{self, Quick};
use crate::runtime::upcalls;
use crate::send::state::State;

impl State {
    /// Raise for a record that no batch, or no request, can hold.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "on the path of each record")]
    pub fn check_size(
        &self,
        py: Python<'_>,
        topic: &Bound<'_, PyString>,
        partition: Option<u32>,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header<'_>],
    ) -> Quick<()> {
        let config = &self.core.shared.config;
        let size = record_len_upper_bound(key, value, headers) + BATCH_HEADER_LEN;
        // The smallest of the limits below.
        if size <= config.max_request_size.min(config.buffer_memory) && config.batch_size <= config.buffer_memory {
            return Ok(());
        }
        Err(self.too_large(py, topic, partition, size).into())
    }

    #[cold]
    fn too_large(&self, py: Python<'_>, topic: &Bound<'_, PyString>, partition: Option<u32>, size: usize) -> PyErr {
        let config = &self.core.shared.config;
        let (batch, memory) = (config.batch_size, config.buffer_memory);
        let compressed = config.compression.codec != Codec::None;
        let larger = |setting: &str, limit: usize| {
            let before = if compressed { ", counted before compression as in Java" } else { "" };
            format!(
                "a record of {size} bytes (serialized, with its batch header{before}) is larger than {setting} = {limit}"
            )
        };
        let (message, hint) = if size > config.max_request_size {
            // Else the class's own hint: the brokers have a limit too.
            let hint = "Raise max.request.size here, whatever the record compresses to: the broker's limit, \
                        message.max.bytes (max.message.bytes of the topic), counts the compressed batch. Or send smaller \
                        records.";
            (larger("max.request.size", config.max_request_size), compressed.then_some(hint))
        } else if size > memory {
            (larger("buffer.memory", memory), Some("Send smaller records, or raise buffer.memory."))
        } else {
            let message = format!("a batch of batch.size = {batch} bytes is larger than buffer.memory = {memory}");
            (message, Some("Raise buffer.memory, or lower batch.size."))
        };
        let mut context = vec![("topic", topic.clone().into_any())];
        if let Some(partition) = partition {
            context.push(("partition", PyInt::new(py, partition).into_any()));
        }
        if let Some(hint) = hint {
            context.push(("hint", PyString::new(py, hint).into_any()));
        }
        errors::error(py, &upcalls::RECORD_TOO_LARGE_ERROR, &message, &context)
    }
}
