//! One record batch, its columns in the shape in which they are read: as bytes, mostly without copying.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type,
    UInt64Type,
};
use arrow_array::{
    Array, ArrayRef, ArrowPrimitiveType, BinaryArray, BinaryViewArray, FixedSizeBinaryArray, Int64Array,
    LargeBinaryArray, PrimitiveArray, RecordBatch, StructArray,
};
use arrow_buffer::NullBuffer;
use arrow_schema::{ArrowError, DataType, Field, FieldRef, Fields, TimeUnit};
use penstock_core::wire::record_batch::Header;

use crate::bulk::arrow::extension::{Extension, extension};
use crate::bulk::arrow::json;
use crate::bulk::arrow::plan::{ColumnSource, Plan, Target};
use crate::record::serialize::{UUID_TEXT, write_uuid};

/// A column as bytes.
pub enum Cells {
    Binary(BinaryArray),
    Large(LargeBinaryArray),
    View(BinaryViewArray),
    Fixed(FixedSizeBinaryArray),
    /// Numbers, big-endian, or other bytes that had to be made, of that many bytes each.
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
    fn new(field: &Field, array: &ArrayRef) -> Result<Self, ArrowError> {
        match extension(field, array.data_type()) {
            // As Java's serializer of UUIDs.
            Some(Extension::Uuid) => {
                let ids = array.as_fixed_size_binary();
                let mut all = Vec::with_capacity(array.len() * UUID_TEXT);
                (0..array.len()).for_each(|row| write_uuid(ids.value(row), &mut all));
                Ok(Self::Numbers(Arc::clone(array), all, UUID_TEXT))
            }
            Some(Extension::Bool8) => {
                let numbers = array.as_primitive::<Int8Type>().values();
                let bytes = numbers.iter().map(|&number| u8::from(number != 0)).collect();
                Ok(Self::Numbers(Arc::clone(array), bytes, 1))
            }
            None => Self::of_type(array),
        }
    }

    fn of_type(array: &ArrayRef) -> Result<Self, ArrowError> {
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
                let values = Box::new(Self::of_type(dictionary.values())?);
                // Logical: there are nulls among the values, too.
                Self::Dictionary { keys: json::dictionary_keys(dictionary)?, nulls: array.logical_nulls(), values }
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

    pub fn push<'a>(&'a self, rows: std::ops::Range<usize>, out: &mut Vec<Option<&'a [u8]>>) {
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
pub enum Column {
    None,
    Cells(Cells),
    Json(FieldRef, StructArray),
}

/// The headers in one record batch: those of row n are entries `ends[n]` to `ends[n + 1]`.
pub struct HeaderColumn {
    nulls: ArrayRef,
    ends: Vec<usize>,
    keys: Cells,
    values: Cells,
}

impl HeaderColumn {
    /// None if the column has no headers: it is nothing but null.
    fn new(array: &ArrayRef) -> Result<Option<Self>, ArrowError> {
        let (ends, entries): (Vec<usize>, ArrayRef) = match array.data_type() {
            DataType::Null => return Ok(None),
            DataType::Map(_, _) => {
                let map = array.as_map();
                (map.offsets().iter().map(|&end| end as usize).collect(), Arc::new(map.entries().clone()))
            }
            DataType::List(_) => {
                let list = array.as_list::<i32>();
                (list.offsets().iter().map(|&end| end as usize).collect(), Arc::clone(list.values()))
            }
            _ => {
                let list = array.as_list::<i64>();
                (list.offsets().iter().map(|&end| end as usize).collect(), Arc::clone(list.values()))
            }
        };
        let (keys, values) = match entries.data_type() {
            DataType::Struct(fields) => {
                let columns = entries.as_struct().columns();
                (Cells::new(&fields[0], &columns[0])?, Cells::new(&fields[1], &columns[1])?)
            }
            // A list of nulls, which are no headers: an error of the rows that have some.
            _ => (Cells::Null, Cells::Null),
        };
        Ok(Some(Self { nulls: Arc::clone(array), ends, keys, values }))
    }

    /// The headers of one row; an error if a name is null.
    pub fn push<'a>(&'a self, row: usize, out: &mut Vec<Header<'a>>) -> Result<(), String> {
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
pub struct Batch {
    pub rows: usize,
    pub key: Column,
    pub value: Column,
    pub partitions: Option<Int64Array>,
    pub timestamps: Option<Int64Array>,
    pub headers: Option<HeaderColumn>,
}

impl Batch {
    pub fn new(plan: &Plan, batch: &RecordBatch) -> Result<Self, ArrowError> {
        if batch.num_columns() != plan.schema.fields().len()
            || !batch.columns().iter().zip(plan.schema.fields()).all(|(a, b)| a.data_type() == b.data_type())
        {
            return Err(ArrowError::SchemaError("a batch has other columns than the schema says".to_owned()));
        }
        // Lengths, offsets and UTF-8 of the producer are checked.
        let used = |index: usize| -> Result<ArrayRef, ArrowError> {
            let array = batch.column(index);
            array.to_data().validate_full()?;
            Ok(Arc::clone(array))
        };
        let column = |source: &ColumnSource| -> Result<Column, ArrowError> {
            Ok(match source {
                ColumnSource::None => Column::None,
                ColumnSource::Column(index) => Column::Cells(Cells::new(plan.schema.field(*index), &used(*index)?)?),
                ColumnSource::Json(columns) => {
                    let fields: Fields = columns.iter().map(|&index| plan.schema.fields()[index].clone()).collect();
                    // Nor does a field decide about nulls: the arrays do.
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
        let timestamps = plan.timestamp.map(|index| used(index).map(|array| to_ms(&array))).transpose()?;
        Ok(Self {
            rows: batch.num_rows(),
            key: column(&plan.key)?,
            value: column(&plan.value)?,
            partitions,
            timestamps,
            headers: match plan.headers {
                Some(index) => HeaderColumn::new(&used(index)?)?,
                None => None,
            },
        })
    }
}

/// Integers of any type. `arrow-cast` could do it, at the price of a megabyte for all that it can do besides.
fn to_i64(array: &ArrayRef) -> Result<Int64Array, ArrowError> {
    macro_rules! widened {
        ($($kind:ident => $t:ty),*) => {
            match array.data_type() {
                $(DataType::$kind => array.as_primitive::<$t>().unary(i64::from),)*
                // Beyond i64 it is no partition, and is refused as such.
                DataType::UInt64 => {
                    array.as_primitive::<UInt64Type>().unary(|number| i64::try_from(number).unwrap_or(i64::MAX))
                }
                DataType::Null => Int64Array::new_null(array.len()),
                other => return Err(ArrowError::NotYetImplemented(format!("{other} as integers"))),
            }
        };
    }
    Ok(widened!(
        Int8 => Int8Type, Int16 => Int16Type, Int32 => Int32Type, Int64 => Int64Type,
        UInt8 => UInt8Type, UInt16 => UInt16Type, UInt32 => UInt32Type
    ))
}

/// ms since the epoch; a time without a zone is taken for UTC. Rounded down to ms, as in `send`.
fn to_ms(array: &ArrayRef) -> Int64Array {
    match array.data_type() {
        // Beyond 64 bits of ms there is no valid date: brokers refuse it.
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
        DataType::Null => Int64Array::new_null(array.len()),
        _ => array.as_primitive::<Int64Type>().clone(),
    }
}
