//! `send_arrow`: columns of Arrow data into records.
//!
//! A [`Plan`] says, from the schema alone, which column becomes what; whatever the schema forbids is an error before the
//! first record. A [`Batch`] holds the columns of one record batch in the shape in which they are read; chunks of its rows
//! become [`Rows`]. From the stream to the lanes it runs without the GIL, which is asked for only to wait, to look at
//! signals, and when something is wrong.
//!
//! The C interface is `pyo3-arrow`'s. What a producer of it says of its buffers has to be believed; what can be checked
//! (lengths, offsets, UTF-8) is, and what panics in the libraries is turned into an error.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type,
    UInt64Type,
};
use arrow_array::{
    Array, ArrayRef, ArrowPrimitiveType, BinaryArray, BinaryViewArray, FixedSizeBinaryArray, Int64Array,
    LargeBinaryArray, PrimitiveArray, RecordBatch, RecordBatchIterator, RecordBatchReader, StructArray,
};
use arrow_buffer::NullBuffer;
use arrow_schema::{ArrowError, DataType, Field, FieldRef, Fields, Schema, TimeUnit};
use penstock_core::batch::Header;
use penstock_core::bulk::{CHOOSE, Partitions, Rows, Timestamps};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyInt, PyString, PyTuple};

use crate::arrow_json::{self, Trouble};
use crate::bulk::Bulk;
use crate::bulk_result::BulkResult;
use crate::headers::Headers;
use crate::record::extract_partition;
use crate::sender::{Call, State, now_ms};

/// Rows that are encoded before they are appended.
const CHUNK_ROWS: usize = 4096;
/// Bytes of JSON that are written before they are appended.
const CHUNK_BYTES: usize = 1 << 20;
/// How long it runs without a look at signals (Ctrl-C).
const STRETCH: Duration = Duration::from_millis(50);

type Reader = Box<dyn RecordBatchReader + Send>;

/// What cannot be done with a column.
struct Wrong {
    /// The name or type is wrong: which exception.
    kind: fn(String) -> PyErr,
    message: String,
}

impl From<Wrong> for PyErr {
    fn from(wrong: Wrong) -> Self {
        (wrong.kind)(wrong.message)
    }
}

fn no_value(message: String) -> Wrong {
    Wrong { kind: PyValueError::new_err, message }
}

fn no_type(message: String) -> Wrong {
    Wrong { kind: PyTypeError::new_err, message }
}

/// How a column's cells become bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// Binary or text of any layout: as it is.
    Bytes,
    /// Java's Short, Integer, Long, Float and Double serializers: big-endian.
    Number,
    /// Java's Boolean serializer: one byte.
    Boolean,
    /// Nothing but null.
    Null,
}

/// Where a key or value comes from.
enum Source {
    /// Null for all.
    None,
    /// One column.
    Column(usize),
    /// A JSON object of these columns.
    Json(Vec<usize>),
}

/// Where a record goes.
enum Target {
    Choose,
    All(i32),
    Column(usize),
}

/// Which column becomes what.
struct Plan {
    schema: Arc<Schema>,
    key: Source,
    value: Source,
    target: Target,
    timestamp: Option<usize>,
    headers: Option<usize>,
}

/// What a caller gave as column names.
struct Names {
    value: Option<Given>,
    key: Option<Given>,
    target: Option<Given>,
    timestamp: Option<String>,
    headers: Option<String>,
}

enum Given {
    Column(String),
    Columns(Vec<String>),
    Number(i32),
}

impl Names {
    fn read(
        value: Option<&Bound<'_, PyAny>>,
        key: Option<&Bound<'_, PyAny>>,
        partition: Option<&Bound<'_, PyAny>>,
        timestamp: Option<&Bound<'_, PyAny>>,
        headers: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let columns = |name: &str, given: Option<&Bound<'_, PyAny>>| -> PyResult<Option<Given>> {
            let Some(given) = given.filter(|given| !given.is_none()) else { return Ok(None) };
            if let Ok(column) = given.cast::<PyString>() {
                return Ok(Some(Given::Column(column.to_str()?.to_owned())));
            }
            let names: Vec<String> = given.extract().map_err(|_| {
                PyTypeError::new_err(format!(
                    "{name} must be a column's name, a list of names or None, not {}",
                    given.get_type()
                ))
            })?;
            if names.is_empty() {
                return Err(PyValueError::new_err(format!("{name} is an empty list; name at least one column")));
            }
            Ok(Some(Given::Columns(names)))
        };
        let column = |name: &str, given: Option<&Bound<'_, PyAny>>| -> PyResult<Option<String>> {
            let Some(given) = given.filter(|given| !given.is_none()) else { return Ok(None) };
            match given.cast::<PyString>() {
                Ok(column) => Ok(Some(column.to_str()?.to_owned())),
                Err(_) => {
                    let kind = given.get_type();
                    Err(PyTypeError::new_err(format!("{name} must be a column's name or None, not {kind}")))
                }
            }
        };
        let target = match partition.filter(|partition| !partition.is_none()) {
            None => None,
            Some(name) if name.is_instance_of::<PyString>() => column("partition", Some(name))?.map(Given::Column),
            Some(number) if number.is_instance_of::<PyInt>() || number.is_instance_of::<PyBool>() => {
                extract_partition(Some(number))?.map(Given::Number)
            }
            Some(other) => {
                let kind = other.get_type();
                let why = format!("partition must be a column's name, an int or None, not {kind}");
                return Err(PyTypeError::new_err(why));
            }
        };
        Ok(Self {
            value: columns("value", value)?,
            key: columns("key", key)?,
            target,
            timestamp: column("timestamp", timestamp)?,
            headers: column("headers", headers)?,
        })
    }
}

impl Plan {
    fn new(schema: Arc<Schema>, names: &Names) -> Result<Self, Wrong> {
        let find = |role: &str, name: &str| find(&schema, role, name);
        let target = match &names.target {
            None | Some(Given::Columns(_)) => Target::Choose,
            Some(Given::Number(number)) => Target::All(*number),
            Some(Given::Column(name)) => {
                let index = find("partition", name)?;
                if !schema.field(index).data_type().is_integer() {
                    return Err(unfit(&schema, index, "partition", "an integer column is needed; cast it to int32"));
                }
                Target::Column(index)
            }
        };
        let timestamp = names.timestamp.as_ref().map(|name| find("timestamp", name)).transpose()?;
        if let Some(index) = timestamp
            && !matches!(schema.field(index).data_type(), DataType::Int64 | DataType::Timestamp(_, _))
        {
            let why = "an Arrow timestamp is needed, or int64 with ms since the epoch; cast it to one of these";
            return Err(unfit(&schema, index, "timestamp", why));
        }
        let headers = names.headers.as_ref().map(|name| find("headers", name)).transpose()?;
        if let Some(index) = headers
            && !are_headers(schema.field(index).data_type())
        {
            let why = "a map from strings to binary or strings is needed, or a list of structs of these two";
            return Err(unfit(&schema, index, "headers", why));
        }
        let value = match &names.value {
            None => {
                // Everything but what only says where the record goes, or what is beside it.
                let routing = match target {
                    Target::Column(index) => Some(index),
                    _ => None,
                };
                let columns: Vec<usize> = (0..schema.fields().len())
                    .filter(|&index| Some(index) != routing && Some(index) != headers)
                    .collect();
                json(&schema, "value", columns)?
            }
            Some(given) => source(&schema, "value", given)?,
        };
        let key = names.key.as_ref().map_or(Ok(Source::None), |given| source(&schema, "key", given))?;
        Ok(Self { key, value, target, timestamp, headers, schema })
    }
}

fn find(schema: &Schema, role: &str, name: &str) -> Result<usize, Wrong> {
    let mut found = schema.fields().iter().enumerate().filter(|(_, field)| field.name() == name);
    match (found.next(), found.next()) {
        (Some((index, _)), None) => Ok(index),
        (Some(_), Some(_)) => Err(no_value(format!("{role}: there is more than one column {name:?}; rename them"))),
        (None, _) => {
            let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
            Err(no_value(format!("{role}: there is no column {name:?}; there are: {}", names.join(", "))))
        }
    }
}

fn unfit(schema: &Schema, index: usize, role: &str, why: &str) -> Wrong {
    let field = schema.field(index);
    no_type(format!("{role}: column {:?} is of type {}: {why}", field.name(), field.data_type()))
}

fn source(schema: &Schema, role: &str, given: &Given) -> Result<Source, Wrong> {
    match given {
        Given::Columns(names) => {
            let columns = names.iter().map(|name| find(schema, role, name)).collect::<Result<_, _>>()?;
            json(schema, role, columns)
        }
        Given::Column(name) => {
            let index = find(schema, role, name)?;
            form(schema.field(index).data_type()).ok_or_else(|| {
                let advice = format!(
                    "it has no bytes of its own; name it in a list ({role}=[{name:?}]) to write JSON, or cast it to \
                     binary, string, int16, int32, int64, float32, float64 or bool"
                );
                unfit(schema, index, role, &advice)
            })?;
            Ok(Source::Column(index))
        }
        Given::Number(_) => Ok(Source::None),
    }
}

fn json(schema: &Schema, role: &str, columns: Vec<usize>) -> Result<Source, Wrong> {
    if columns.is_empty() {
        return Err(no_value(format!("{role}: there is no column left to write")));
    }
    for (position, &index) in columns.iter().enumerate() {
        let field = schema.field(index);
        if let Err(why) = arrow_json::check(field.data_type()) {
            let advice = format!("{why}; cast it, or leave it out of {role}=[…]");
            return Err(unfit(schema, index, role, &advice));
        }
        if columns[..position].iter().any(|&other| schema.field(other).name() == field.name()) {
            let name = field.name();
            return Err(no_value(format!("{role}: there is more than one column {name:?}; rename them")));
        }
    }
    Ok(Source::Json(columns))
}

fn form(data_type: &DataType) -> Option<Form> {
    match data_type {
        DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView
        | DataType::FixedSizeBinary(_)
        | DataType::Utf8
        | DataType::LargeUtf8
        | DataType::Utf8View => Some(Form::Bytes),
        DataType::Int16 | DataType::Int32 | DataType::Int64 | DataType::Float32 | DataType::Float64 => {
            Some(Form::Number)
        }
        DataType::Boolean => Some(Form::Boolean),
        DataType::Null => Some(Form::Null),
        DataType::Dictionary(_, values) => form(values),
        _ => None,
    }
}

fn is_bytes(data_type: &DataType) -> bool {
    matches!(form(data_type), Some(Form::Bytes | Form::Null))
}

fn are_headers(data_type: &DataType) -> bool {
    let entries = match data_type {
        DataType::Map(entries, _) | DataType::List(entries) | DataType::LargeList(entries) => entries,
        _ => return false,
    };
    let DataType::Struct(fields) = entries.data_type() else { return false };
    matches!(&fields[..], [key, value] if is_text(key.data_type()) && is_bytes(value.data_type()))
}

fn is_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(_, values) => is_text(values),
        _ => false,
    }
}

/// A column as bytes.
enum Cells {
    Binary(BinaryArray),
    Large(LargeBinaryArray),
    View(BinaryViewArray),
    Fixed(FixedSizeBinaryArray),
    /// Numbers, big-endian, of that many bytes each.
    Numbers(ArrayRef, Vec<u8>, usize),
    Dictionary {
        keys: Vec<usize>,
        nulls: Option<NullBuffer>,
        values: Box<Self>,
    },
    Null,
}

impl Cells {
    /// Text as binary, a dictionary as its values: mostly without copying.
    fn new(array: &ArrayRef) -> Result<Self, ArrowError> {
        Ok(match array.data_type() {
            DataType::Binary => Self::Binary(array.as_binary().clone()),
            DataType::LargeBinary => Self::Large(array.as_binary().clone()),
            DataType::BinaryView => Self::View(array.as_binary_view().clone()),
            DataType::FixedSizeBinary(_) => Self::Fixed(array.as_fixed_size_binary().clone()),
            DataType::Utf8 => Self::Binary(array.as_string::<i32>().clone().into()),
            DataType::LargeUtf8 => Self::Large(array.as_string::<i64>().clone().into()),
            DataType::Utf8View => Self::View(array.as_string_view().clone().to_binary_view()),
            DataType::Dictionary(_, _) => {
                let dictionary = array.as_any_dictionary();
                let values = Box::new(Self::new(dictionary.values())?);
                // Logical: there are nulls among the values, too.
                Self::Dictionary { keys: dictionary.normalized_keys(), nulls: array.logical_nulls(), values }
            }
            DataType::Int16 => Self::numbers::<Int16Type, 2>(array, i16::to_be_bytes),
            DataType::Int32 => Self::numbers::<Int32Type, 4>(array, i32::to_be_bytes),
            DataType::Int64 => Self::numbers::<Int64Type, 8>(array, i64::to_be_bytes),
            // Java's serializers write one NaN.
            DataType::Float32 => Self::numbers::<Float32Type, 4>(array, |number| {
                if number.is_nan() { 0x7fc0_0000_u32.to_be_bytes() } else { number.to_be_bytes() }
            }),
            DataType::Float64 => Self::numbers::<Float64Type, 8>(array, |number| {
                if number.is_nan() { 0x7ff8_0000_0000_0000_u64.to_be_bytes() } else { number.to_be_bytes() }
            }),
            DataType::Boolean => {
                let booleans = array.as_boolean();
                let bytes = (0..array.len()).map(|row| u8::from(booleans.value(row))).collect();
                Self::Numbers(Arc::clone(array), bytes, 1)
            }
            DataType::Null => Self::Null,
            other => return Err(ArrowError::NotYetImplemented(format!("{other} as bytes"))),
        })
    }

    fn numbers<T: ArrowPrimitiveType, const N: usize>(array: &ArrayRef, bytes: fn(T::Native) -> [u8; N]) -> Self {
        let numbers: &PrimitiveArray<T> = array.as_primitive();
        let mut all = Vec::with_capacity(numbers.len() * N);
        for &number in numbers.values() {
            all.extend_from_slice(&bytes(number));
        }
        Self::Numbers(Arc::clone(array), all, N)
    }

    fn push<'a>(&'a self, rows: std::ops::Range<usize>, out: &mut Vec<Option<&'a [u8]>>) {
        macro_rules! push {
            ($array:expr) => {
                if $array.null_count() == 0 {
                    out.extend(rows.map(|row| Some($array.value(row))))
                } else {
                    out.extend(rows.map(|row| $array.is_valid(row).then(|| $array.value(row))))
                }
            };
        }
        match self {
            Self::Binary(array) => push!(array),
            Self::Large(array) => push!(array),
            Self::View(array) => push!(array),
            Self::Fixed(array) => push!(array),
            Self::Numbers(array, bytes, size) => {
                out.extend(rows.map(|row| array.is_valid(row).then(|| &bytes[row * size..(row + 1) * size])));
            }
            Self::Dictionary { keys, nulls, values } => {
                for row in rows {
                    if nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
                        out.push(None);
                    } else {
                        values.push(keys[row]..keys[row] + 1, out);
                    }
                }
            }
            Self::Null => out.extend(rows.map(|_| None)),
        }
    }

    fn get(&self, row: usize) -> Option<&[u8]> {
        let mut one = Vec::with_capacity(1);
        self.push(row..row + 1, &mut one);
        one[0]
    }
}

/// A key's or value's cells in one record batch.
enum Column {
    None,
    Cells(Cells),
    Json(FieldRef, StructArray),
}

/// The headers in one record batch: those of row n are entries `ends[n]` to `ends[n + 1]`.
struct HeaderColumn {
    nulls: ArrayRef,
    ends: Vec<usize>,
    keys: Cells,
    values: Cells,
}

impl HeaderColumn {
    fn new(array: &ArrayRef) -> Result<Self, ArrowError> {
        let (ends, keys, values) = match array.data_type() {
            DataType::Map(_, _) => {
                let map = array.as_map();
                let ends = map.offsets().iter().map(|&end| end as usize).collect();
                (ends, Arc::clone(map.keys()), Arc::clone(map.values()))
            }
            DataType::List(_) => {
                let list = array.as_list::<i32>();
                let entries = list.values().as_struct();
                let ends = list.offsets().iter().map(|&end| end as usize).collect();
                (ends, Arc::clone(entries.column(0)), Arc::clone(entries.column(1)))
            }
            _ => {
                let list = array.as_list::<i64>();
                let entries = list.values().as_struct();
                let ends = list.offsets().iter().map(|&end| end as usize).collect();
                (ends, Arc::clone(entries.column(0)), Arc::clone(entries.column(1)))
            }
        };
        Ok(Self { nulls: Arc::clone(array), ends, keys: Cells::new(&keys)?, values: Cells::new(&values)? })
    }

    /// The headers of one row; an error if a name is null.
    fn push<'a>(&'a self, row: usize, out: &mut Vec<Header<'a>>) -> Result<(), String> {
        if self.nulls.is_null(row) {
            return Ok(());
        }
        for entry in self.ends[row]..self.ends[row + 1] {
            let Some(key) = self.keys.get(entry) else { return Err("the name of a header is null".to_owned()) };
            out.push(Header { key, value: self.values.get(entry) });
        }
        Ok(())
    }
}

/// One record batch, ready to be read.
struct Batch {
    rows: usize,
    key: Column,
    value: Column,
    partitions: Option<Int64Array>,
    timestamps: Option<Int64Array>,
    headers: Option<HeaderColumn>,
}

impl Batch {
    fn new(plan: &Plan, batch: &RecordBatch) -> Result<Self, ArrowError> {
        if batch.num_columns() != plan.schema.fields().len()
            || !batch.columns().iter().zip(plan.schema.fields()).all(|(a, b)| a.data_type() == b.data_type())
        {
            return Err(ArrowError::SchemaError("a batch has other columns than the schema says".to_owned()));
        }
        // The producer's word for lengths, offsets and UTF-8 is not taken.
        let used = |index: usize| -> Result<ArrayRef, ArrowError> {
            let array = batch.column(index);
            array.to_data().validate_full()?;
            Ok(Arc::clone(array))
        };
        let column = |source: &Source| -> Result<Column, ArrowError> {
            Ok(match source {
                Source::None => Column::None,
                Source::Column(index) => Column::Cells(Cells::new(&used(*index)?)?),
                Source::Json(columns) => {
                    let fields: Fields = columns.iter().map(|&index| plan.schema.fields()[index].clone()).collect();
                    // What a field says of nulls is not believed either: the arrays know.
                    let fields: Fields =
                        fields.iter().map(|field| field.as_ref().clone().with_nullable(true)).collect();
                    let arrays = columns.iter().map(|&index| used(index)).collect::<Result<Vec<_>, _>>()?;
                    let rows = StructArray::try_new_with_length(fields.clone(), arrays, None, batch.num_rows())?;
                    Column::Json(Arc::new(Field::new("row", DataType::Struct(fields), false)), rows)
                }
            })
        };
        let partitions = match plan.target {
            Target::Column(index) => Some(to_i64(&used(index)?)?),
            _ => None,
        };
        let timestamps = plan.timestamp.map(|index| used(index).and_then(|array| to_ms(&array))).transpose()?;
        Ok(Self {
            rows: batch.num_rows(),
            key: column(&plan.key)?,
            value: column(&plan.value)?,
            partitions,
            timestamps,
            headers: plan.headers.map(|index| used(index).and_then(|array| HeaderColumn::new(&array))).transpose()?,
        })
    }
}

/// Integers of any type. `arrow-cast` could do it, at the price of a megabyte for all that it can do besides.
fn to_i64(array: &ArrayRef) -> Result<Int64Array, ArrowError> {
    macro_rules! widened {
        ($($kind:ident => $t:ty),*) => {
            match array.data_type() {
                $(DataType::$kind => array.as_primitive::<$t>().unary(i64::from),)*
                // Beyond i64 it is no partition, and is told to be none.
                DataType::UInt64 => {
                    array.as_primitive::<UInt64Type>().unary(|number| i64::try_from(number).unwrap_or(i64::MAX))
                }
                other => return Err(ArrowError::NotYetImplemented(format!("{other} as integers"))),
            }
        };
    }
    Ok(widened!(
        Int8 => Int8Type, Int16 => Int16Type, Int32 => Int32Type, Int64 => Int64Type,
        UInt8 => UInt8Type, UInt16 => UInt16Type, UInt32 => UInt32Type
    ))
}

/// ms since the epoch; a time without a zone is taken for UTC. Begun milliseconds do not count, as in `send`.
fn to_ms(array: &ArrayRef) -> Result<Int64Array, ArrowError> {
    Ok(match array.data_type() {
        // Beyond 64 bits of ms there is no date that anybody means: the largest is refused by the broker, a negative here.
        DataType::Timestamp(TimeUnit::Second, _) => {
            array.as_primitive::<TimestampSecondType>().unary(|s| s.saturating_mul(1_000))
        }
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            array.as_primitive::<TimestampMillisecondType>().reinterpret_cast()
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            array.as_primitive::<TimestampMicrosecondType>().unary(|us| us.div_euclid(1_000))
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            array.as_primitive::<TimestampNanosecondType>().unary(|ns| ns.div_euclid(1_000_000))
        }
        _ => array.as_primitive::<Int64Type>().clone(),
    })
}

/// The buffers of a chunk that outlive a borrow.
#[derive(Default)]
struct Written {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

/// The rows of a chunk, borrowed from a batch and from what was written.
struct Encoded<'a> {
    keys: Vec<Option<&'a [u8]>>,
    values: Vec<Option<&'a [u8]>>,
    headers: Vec<Header<'a>>,
    /// By row, in `headers`.
    header_ends: Vec<usize>,
    partitions: Vec<i32>,
    timestamps: Vec<i64>,
}

/// A row that cannot be sent.
struct BadRow {
    /// What a user of `send` would get for it.
    kind: fn(String) -> PyErr,
    message: String,
}

/// Writes the JSON of `rows` until one fails, or it is enough for a chunk: as many as `into` has texts afterwards.
fn write_json(
    field: &FieldRef,
    array: &StructArray,
    rows: std::ops::Range<usize>,
    into: &mut Written,
) -> Result<Option<String>, ArrowError> {
    let trouble = Trouble::default();
    let options = arrow_json::options(&trouble);
    // Of these rows alone: what an encoder prepares, it prepares for all that it is given.
    let array = array.slice(rows.start, rows.len());
    let mut encoder = arrow_json::encoder(field, &array, &options)?;
    into.bytes.clear();
    into.ends.clear();
    into.ends.push(0);
    for row in 0..rows.len() {
        encoder.encode(row, &mut into.bytes);
        if let Some(what) = trouble.take() {
            return Ok(Some(what));
        }
        into.ends.push(into.bytes.len());
        if into.bytes.len() >= CHUNK_BYTES {
            break;
        }
    }
    Ok(None)
}

/// A stream of Arrow data, row by row.
struct Rowing {
    reader: Reader,
    plan: Plan,
    batch: Option<Batch>,
    /// The next row of `batch`.
    at: usize,
    key_text: Written,
    value_text: Written,
    end: bool,
}

/// What a look at the stream brought.
enum Look {
    Rows,
    End,
}

/// The stream is at its end, and not as it should be.
struct Broken(String);

impl Rowing {
    fn open(data: &Bound<'_, PyAny>, names: &Names) -> PyResult<Self> {
        let reader = open(data)?;
        let schema = guarded(|| Ok(reader.schema())).map_err(|Broken(why)| unreadable(&why))?;
        Ok(Self {
            plan: Plan::new(schema, names)?,
            reader,
            batch: None,
            at: 0,
            key_text: Written::default(),
            value_text: Written::default(),
            end: false,
        })
    }

    /// See to it that there is a batch with rows left.
    fn look(&mut self) -> Result<Look, Broken> {
        while self.batch.as_ref().is_none_or(|batch| self.at >= batch.rows) {
            self.batch = None;
            if self.end {
                return Ok(Look::End);
            }
            let (reader, plan) = (&mut self.reader, &self.plan);
            match guarded(|| reader.next().transpose()?.map(|batch| Batch::new(plan, &batch)).transpose()) {
                Ok(None) => self.end = true,
                Ok(Some(batch)) => {
                    self.batch = Some(batch);
                    self.at = 0;
                }
                Err(broken) => {
                    self.end = true;
                    return Err(broken);
                }
            }
        }
        Ok(Look::Rows)
    }

    /// The next chunk: `then` gets it. Also the row behind it if that one cannot be sent.
    fn chunk<T>(&mut self, then: impl FnOnce(&Rows<'_>) -> T) -> Result<(T, usize, Option<BadRow>), Broken> {
        let Some(batch) = &self.batch else { return Err(Broken("there is no batch (a bug in Penstock)".to_owned())) };
        let mut end = batch.rows.min(self.at + CHUNK_ROWS);
        let mut bad: Option<BadRow> = None;
        for (column, into) in [(&batch.key, &mut self.key_text), (&batch.value, &mut self.value_text)] {
            if let Column::Json(field, array) = column {
                let at = self.at;
                let trouble = guarded(|| write_json(field, array, at..end, into))?;
                if at + into.ends.len() - 1 < end {
                    end = at + into.ends.len() - 1;
                    bad = None; // it lies behind
                }
                if let Some(why) = trouble {
                    let message = format!("the row cannot be written as JSON: {why}");
                    bad = Some(BadRow { kind: PyValueError::new_err, message });
                }
            }
        }
        let mut encoded = Encoded {
            keys: Vec::new(),
            values: Vec::with_capacity(end - self.at),
            headers: Vec::new(),
            header_ends: vec![0],
            partitions: Vec::new(),
            timestamps: Vec::new(),
        };
        // These may end the chunk earlier, at a row that cannot be sent.
        let now = now_ms();
        for row in self.at..end {
            let target = batch.partitions.as_ref().map(|all| all.is_valid(row).then(|| all.value(row)));
            let time = batch.timestamps.as_ref().map(|all| if all.is_valid(row) { all.value(row) } else { now });
            let headers = batch.headers.as_ref().map(|all| all.push(row, &mut encoded.headers));
            let problem = match (target, time, &headers) {
                (Some(Some(number)), _, _) if i32::try_from(number).is_ok_and(|number| number >= 0) => None,
                (Some(Some(number)), _, _) => {
                    Some(format!("partition must lie between 0 and 2147483647, not {number}"))
                }
                _ => None,
            };
            let problem = problem.or_else(|| match time {
                Some(ms) if ms < 0 => Some(format!("timestamp must not be negative (ms since the epoch), not {ms}")),
                _ => None,
            });
            let problem = problem.or_else(|| headers.and_then(Result::err));
            if let Some(message) = problem {
                encoded.headers.truncate(encoded.header_ends.last().copied().unwrap_or_default());
                bad = Some(BadRow { kind: PyValueError::new_err, message });
                end = row;
                break;
            }
            encoded.partitions.extend(target.map(|number| number.map_or(CHOOSE, |number| number as i32)));
            encoded.timestamps.extend(time);
            if batch.headers.is_some() {
                encoded.header_ends.push(encoded.headers.len());
            } else if batch.partitions.is_none() && batch.timestamps.is_none() {
                break; // there is nothing to look at
            }
        }
        let rows = self.at..end;
        for (column, text, out) in
            [(&batch.key, &self.key_text, &mut encoded.keys), (&batch.value, &self.value_text, &mut encoded.values)]
        {
            match column {
                Column::None => {}
                Column::Cells(cells) => cells.push(rows.clone(), out),
                Column::Json(_, _) => {
                    out.extend((0..rows.len()).map(|row| Some(&text.bytes[text.ends[row]..text.ends[row + 1]])));
                }
            }
        }
        if matches!(batch.value, Column::None) {
            encoded.values.resize(rows.len(), None);
        }
        let slices: Vec<&[Header<'_>]> = if encoded.headers.is_empty() {
            Vec::new()
        } else {
            encoded.header_ends.windows(2).map(|ends| &encoded.headers[ends[0]..ends[1]]).collect()
        };
        let chunk = Rows {
            values: &encoded.values,
            keys: &encoded.keys,
            headers: &slices,
            timestamps: if batch.timestamps.is_some() {
                Timestamps::Each(&encoded.timestamps)
            } else {
                Timestamps::All(now)
            },
            partitions: match (&self.plan.target, batch.partitions.is_some()) {
                (Target::All(number), _) => Partitions::All(*number as u32),
                (_, true) => Partitions::Each(&encoded.partitions),
                (_, false) => Partitions::Choose,
            },
        };
        Ok((then(&chunk), rows.len(), bad))
    }
}

fn guarded<T>(act: impl FnOnce() -> Result<T, ArrowError>) -> Result<T, Broken> {
    match catch_unwind(AssertUnwindSafe(act)) {
        Ok(Ok(made)) => Ok(made),
        Ok(Err(error)) => Err(Broken(error.to_string())),
        Err(panic) => {
            let why = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("no words");
            Err(Broken(format!("the data does not keep to the Arrow format ({why})")))
        }
    }
}

fn unreadable(why: &str) -> PyErr {
    PyValueError::new_err(format!("the Arrow data cannot be read: {why}"))
}

fn open(data: &Bound<'_, PyAny>) -> PyResult<Reader> {
    let py = data.py();
    // A stream first: a table has both, and its batches need not be put together.
    if data.hasattr(intern!(py, "__arrow_c_stream__"))? {
        return guarded_py(|| data.extract::<pyo3_arrow::PyRecordBatchReader>()?.into_reader());
    }
    if data.hasattr(intern!(py, "__arrow_c_array__"))? {
        return guarded_py(|| {
            let batch = data.extract::<pyo3_arrow::PyRecordBatch>()?.into_inner();
            let schema = batch.schema();
            let reader: Reader = Box::new(RecordBatchIterator::new([Ok(batch)], schema));
            Ok(reader)
        });
    }
    let hint = if data.hasattr(intern!(py, "collect"))? { " (collect() it first?)" } else { "" };
    Err(PyTypeError::new_err(format!(
        "data must be Arrow data (a table, a record batch, a stream or a data frame: anything with __arrow_c_stream__ or \
         __arrow_c_array__), not {}{hint}",
        data.get_type()
    )))
}

fn guarded_py<T>(act: impl FnOnce() -> PyResult<T>) -> PyResult<T> {
    match catch_unwind(AssertUnwindSafe(act)) {
        Ok(made) => made,
        Err(_) => Err(unreadable("it does not keep to the Arrow format; a column of structs with nulls is no table")),
    }
}

/// What stopped a stretch without the GIL.
enum Stop {
    End,
    Signals,
    /// The chunk at hand is the caller's.
    Chunk,
    Bad(BadRow),
    Broken(String),
}

/// See `Sender.send_arrow`.
#[expect(clippy::too_many_arguments, reason = "the call's own")]
pub fn send_arrow<'py>(
    state: &State,
    py: Python<'py>,
    topic: &Bound<'py, PyAny>,
    data: &Bound<'py, PyAny>,
    value: Option<&Bound<'py, PyAny>>,
    key: Option<&Bound<'py, PyAny>>,
    partition: Option<&Bound<'py, PyAny>>,
    timestamp: Option<&Bound<'py, PyAny>>,
    headers: Option<&Bound<'py, PyAny>>,
) -> PyResult<BulkResult> {
    let names = Names::read(value, key, partition, timestamp, headers)?;
    let mut bulk = Bulk::begin(state, py, topic, "send_arrow")?;
    let mut rowing = Rowing::open(data, &names)?;
    let partitioned = !matches!(rowing.plan.target, Target::Choose);
    if state.records_go_one_by_one(partitioned.then_some(0)) {
        one_by_one(&mut bulk, &mut rowing)?;
        return Ok(bulk.end());
    }
    let shared = Arc::clone(&state.core.shared);
    while bulk.goes_on() {
        let (rowing, buffering) = (&mut rowing, &mut bulk.buffering);
        let stop = py.detach(|| {
            let until = Instant::now() + STRETCH;
            loop {
                match rowing.look() {
                    Ok(Look::Rows) => {}
                    Ok(Look::End) => return Stop::End,
                    Err(Broken(why)) => return Stop::Broken(why),
                }
                match rowing.chunk(|rows| rows.values.is_empty() || buffering.append(&shared, rows)) {
                    Ok((true, count, bad)) => {
                        rowing.at += count;
                        if let Some(bad) = bad {
                            return Stop::Bad(bad);
                        }
                    }
                    Ok((false, _, _)) => return Stop::Chunk,
                    Err(Broken(why)) => return Stop::Broken(why),
                }
                if Instant::now() >= until {
                    return Stop::Signals;
                }
            }
        });
        match stop {
            Stop::End => break,
            Stop::Signals => py.check_signals()?,
            Stop::Bad(bad) => {
                rowing.at += 1;
                bulk.refuse((bad.kind)(bad.message))?;
            }
            Stop::Broken(why) => bulk.stop(unreadable(&why))?,
            Stop::Chunk => {
                // The same chunk once more, since its rows are the same: for waits, errors and the first record.
                match rowing.chunk(|rows| bulk.append(rows)) {
                    Ok((appended, count, _)) => {
                        appended?;
                        rowing.at += count;
                    }
                    Err(Broken(why)) => bulk.stop(unreadable(&why))?,
                }
            }
        }
    }
    if !bulk.goes_on() {
        // What is left of the batch at hand was given; what the stream would have brought later was not.
        let left = rowing.batch.as_ref().map_or(0, |batch| batch.rows.saturating_sub(rowing.at));
        bulk.refuse_rest(left as u64);
    }
    py.detach(|| drop(rowing));
    Ok(bulk.end())
}

/// A row as Python objects: value, key, partition, timestamp, headers.
struct Row<'py> {
    value: Bound<'py, PyAny>,
    key: Bound<'py, PyAny>,
    partition: Option<i32>,
    timestamp: Option<i64>,
    headers: Bound<'py, PyTuple>,
}

/// The rows of the next chunk, and the one behind it that cannot be sent. Empty at the end.
fn python_rows<'py>(py: Python<'py>, rowing: &mut Rowing) -> Result<(PyResult<Vec<Row<'py>>>, Option<BadRow>), Broken> {
    if matches!(py.detach(|| rowing.look())?, Look::End) {
        return Ok((Ok(Vec::new()), None));
    }
    let timed = rowing.plan.timestamp.is_some();
    let (rows, count, bad) = rowing.chunk(|rows| {
        let bytes = |bytes: Option<&[u8]>| match bytes {
            Some(bytes) => PyBytes::new(py, bytes).into_any(),
            None => py.None().into_bound(py),
        };
        (0..rows.values.len())
            .map(|row| {
                let headers: Vec<_> = rows
                    .headers(row)
                    .iter()
                    .map(|header| (String::from_utf8_lossy(header.key).into_owned(), bytes(header.value)))
                    .collect();
                Ok(Row {
                    value: bytes(rows.values[row]),
                    key: bytes(rows.key(row)),
                    partition: match rows.partitions {
                        Partitions::Choose => None,
                        Partitions::All(number) => Some(number as i32),
                        Partitions::Each(each) => Some(each[row]).filter(|&number| number != CHOOSE),
                    },
                    timestamp: match rows.timestamps {
                        Timestamps::Each(each) if timed => Some(each[row]),
                        _ => None,
                    },
                    headers: PyTuple::new(py, headers)?,
                })
            })
            .collect()
    })?;
    rowing.at += count + usize::from(bad.is_some());
    Ok((rows, bad))
}

fn one_by_one(bulk: &mut Bulk<'_, '_>, rowing: &mut Rowing) -> PyResult<()> {
    let py = bulk.py;
    let topic = bulk.topic_name();
    while bulk.goes_on() {
        let (rows, bad) = match python_rows(py, rowing) {
            Ok(rows) => rows,
            Err(Broken(why)) => return bulk.stop(unreadable(&why)),
        };
        let rows = rows?;
        if rows.is_empty() && bad.is_none() {
            return Ok(());
        }
        let count = rows.len();
        for (at, row) in rows.into_iter().enumerate() {
            let call = Call {
                topic: topic.clone(),
                value: row.value,
                key: row.key,
                partition: row.partition,
                timestamp: row.timestamp,
                headers: Headers::of_tuple(row.headers)?,
                callback: None,
                serialized: true,
                observed: false,
            };
            bulk.one(&call)?;
            if !bulk.goes_on() {
                let behind = rowing.batch.as_ref().map_or(0, |batch| batch.rows.saturating_sub(rowing.at));
                bulk.refuse_rest((count - at - 1 + usize::from(bad.is_some()) + behind) as u64);
                return Ok(());
            }
        }
        if let Some(bad) = bad {
            bulk.refuse((bad.kind)(bad.message))?;
        }
        py.check_signals()?;
    }
    Ok(())
}

/// The records that `send_arrow` would send, one by one as (value, key, partition, timestamp, headers).
#[pyclass(module = "penstock._native")]
pub struct ArrowRecords {
    rowing: std::sync::Mutex<(Rowing, Option<BadRow>)>,
}

#[pymethods]
impl ArrowRecords {
    #[new]
    #[pyo3(signature = (data, *, value = None, key = None, partition = None, timestamp = None, headers = None))]
    fn new(
        data: &Bound<'_, PyAny>,
        value: Option<&Bound<'_, PyAny>>,
        key: Option<&Bound<'_, PyAny>>,
        partition: Option<&Bound<'_, PyAny>>,
        timestamp: Option<&Bound<'_, PyAny>>,
        headers: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let names = Names::read(value, key, partition, timestamp, headers)?;
        Ok(Self { rowing: (Rowing::open(data, &names)?, None).into() })
    }

    /// The records of the next rows; empty at the end. A row that cannot be sent raises, and ends it.
    #[expect(clippy::type_complexity, reason = "one record's fields")]
    fn take<'py>(
        &self,
        py: Python<'py>,
    ) -> PyResult<Vec<(Bound<'py, PyAny>, Bound<'py, PyAny>, Option<i32>, Option<i64>, Bound<'py, PyTuple>)>> {
        let mut state = self.rowing.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut bad = state.1.take();
        let mut rows = Vec::new();
        if bad.is_none() {
            let read = python_rows(py, &mut state.0).map_err(|Broken(why)| unreadable(&why))?;
            (rows, bad) = (read.0?, read.1);
        }
        if let Some(bad) = bad {
            if rows.is_empty() {
                return Err((bad.kind)(bad.message));
            }
            state.1 = Some(bad); // after those before it
        }
        Ok(rows.into_iter().map(|row| (row.value, row.key, row.partition, row.timestamp, row.headers)).collect())
    }
}
