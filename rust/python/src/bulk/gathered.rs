//! A chunk of a `send_many`: records gathered and serialized, then appended.

use penstock_core::append::{Partitions, Rows, Timestamps};
use penstock_core::wire::record_batch::Header;
use pyo3::prelude::*;
use smallvec::SmallVec;

use crate::bulk::call::Want;
use crate::bulk::column::{GivenColumn, GivenColumns, RowEntry};
use crate::bulk::work::Bulk;
use crate::record::arguments::extract_timestamp;
use crate::record::headers::{Headers, KeptHeaders};
use crate::record::serialize::{Kept, Payload, Serialize};
use crate::runtime::clock::now_ms;

/// Records gathered before they are appended.
pub const CHUNK_RECORDS: usize = 2048;
/// Bytes of keys and values gathered before they are appended.
const CHUNK_BYTES: usize = 512 * 1024;

/// A chunk of serialized records: the owners of the bytes that [`Rows`] borrows.
pub struct Gathered<'py> {
    pub values: Vec<Payload<'py>>,
    keys: Vec<Payload<'py>>,
    headers: Vec<Headers<'py>>,
    timestamps: Vec<i64>,
    bytes: usize,
}

impl<'py> Gathered<'py> {
    pub fn with_capacity(records: usize, columns: &GivenColumns) -> Self {
        let beside = |column: &Option<GivenColumn>| if column.is_some() { records } else { 0 };
        Self {
            values: Vec::with_capacity(records),
            keys: Vec::with_capacity(beside(&columns.keys)),
            headers: Vec::with_capacity(beside(&columns.headers)),
            timestamps: Vec::with_capacity(beside(&columns.timestamps)),
            bytes: 0,
        }
    }

    /// The same without a hold of the GIL, while an event loop runs.
    pub fn keep(self) -> KeptChunk {
        let keep = |payloads: Vec<Payload<'py>>| payloads.into_iter().map(Payload::keep).collect();
        let Self { values, keys, headers, timestamps, bytes } = self;
        let headers = headers.into_iter().map(Headers::keep).collect();
        KeptChunk { values: keep(values), keys: keep(keys), headers, timestamps, bytes }
    }

    /// Gather from a list or tuple that is the only column, as long as its entries need no call into Python: the fast way.
    /// The caller handles the entry at which it stops.
    pub fn take_values(&mut self, bulk: &Bulk<'_, 'py>, values: &mut GivenColumn) {
        let (py, serialize) = (bulk.py, &bulk.state.value);
        // In an event loop the chunk is one step, which the bytes bound: to append them takes most of its time. Where the
        // caller may wait, a chunk of any size can be appended without the GIL, and no record pays for a count.
        match (values, bulk.may_wait()) {
            (GivenColumn::List(list, at), true) => {
                let list = list.bind(py);
                self.take_borrowed::<false>(serialize, at, |at| list.get_item(at).ok());
            }
            (GivenColumn::List(list, at), false) => {
                let list = list.bind(py);
                self.take_borrowed::<true>(serialize, at, |at| list.get_item(at).ok());
            }
            (GivenColumn::Tuple(tuple, at), true) => {
                let tuple = tuple.bind(py);
                self.take_borrowed::<false>(serialize, at, |at| tuple.get_item(at).ok());
            }
            (GivenColumn::Tuple(tuple, at), false) => {
                let tuple = tuple.bind(py);
                self.take_borrowed::<true>(serialize, at, |at| tuple.get_item(at).ok());
            }
            (GivenColumn::Iterator(_) | GivenColumn::Awaited { .. }, _) => {}
        }
    }

    #[inline]
    fn take_borrowed<const COUNTED: bool>(
        &mut self,
        serialize: &Serialize,
        at: &mut usize,
        entry: impl Fn(usize) -> Option<Bound<'py, PyAny>>,
    ) {
        while self.values.len() < CHUNK_RECORDS
            && (!COUNTED || self.bytes < CHUNK_BYTES)
            && let Some(item) = entry(*at)
            && let Some(payload) = serialize.borrowed(item)
        {
            if COUNTED {
                self.bytes += payload.as_slice().ok().flatten().map_or(0, <[u8]>::len);
            }
            self.values.push(payload);
            *at += 1;
        }
    }

    pub fn is_full(&self) -> bool {
        self.values.len() >= CHUNK_RECORDS || self.bytes >= CHUNK_BYTES
    }

    #[inline]
    pub fn take(&mut self, bulk: &Bulk<'_, 'py>, entry: &RowEntry<'py>) -> PyResult<()> {
        let (py, state, topic) = (bulk.py, bulk.state, &bulk.topic);
        let headers = Headers::given(py, entry.headers.as_ref())?;
        let timestamp = match &entry.timestamp {
            None => None,
            Some(timestamp) => Some(extract_timestamp(Some(timestamp))?.unwrap_or_else(now_ms)),
        };
        let key = match &entry.key {
            None => None,
            Some(key) => Some(state.key.run(py, topic, &headers, key)?),
        };
        let value = state.value.run(py, topic, &headers, &entry.value)?;
        // All or nothing, so that the columns stay of one length.
        self.bytes += value.as_slice()?.map_or(0, <[u8]>::len);
        if let Some(key) = key {
            self.bytes += key.as_slice()?.map_or(0, <[u8]>::len);
            self.keys.push(key);
        }
        if entry.headers.is_some() {
            self.headers.push(headers);
        }
        self.timestamps.extend(timestamp);
        self.values.push(value);
        Ok(())
    }

    pub fn append(&self, bulk: &mut Bulk<'_, 'py>, partition: Option<i32>) -> PyResult<Option<Want>> {
        let values = self.values.iter().map(Payload::as_slice).collect::<PyResult<Vec<_>>>()?;
        let keys = self.keys.iter().map(Payload::as_slice).collect::<PyResult<Vec<_>>>()?;
        let owners = self.headers.iter().map(Headers::slices).collect::<PyResult<Vec<SmallVec<_>>>>()?;
        let headers: Vec<&[Header<'_>]> = owners.iter().map(|owner| &owner[..]).collect();
        let rows = Rows {
            values: &values,
            keys: &keys,
            headers: &headers,
            timestamps: if self.timestamps.is_empty() {
                Timestamps::All(now_ms())
            } else {
                Timestamps::Each(&self.timestamps)
            },
            partitions: partition.map_or(Partitions::Choose, |partition| Partitions::All(partition as u32)),
        };
        bulk.append(&rows)
    }
}

/// [`Gathered`] that outlives a hold of the GIL.
pub struct KeptChunk {
    values: Vec<Kept>,
    keys: Vec<Kept>,
    headers: Vec<KeptHeaders>,
    timestamps: Vec<i64>,
    bytes: usize,
}

impl KeptChunk {
    pub fn bind(self, py: Python<'_>) -> Gathered<'_> {
        let bind = |kept: Vec<Kept>| kept.into_iter().map(|kept| kept.bind(py)).collect();
        let Self { values, keys, headers, timestamps, bytes } = self;
        let headers = headers.into_iter().map(|headers| headers.bind(py)).collect();
        Gathered { values: bind(values), keys: bind(keys), headers, timestamps, bytes }
    }
}
