//! Extension types of Arrow that change how values are written.

use arrow_schema::{DataType, Field};

/// The metadata of a field whose 128-bit decimals are unsigned integers. Put there by `source`.
pub const UNSIGNED: &str = "penstock.unsigned";

/// An extension type whose values are not written as its storage is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extension {
    Uuid,
    Bool8,
}

/// The extension type of a field, if Penstock knows it and it fits the type.
pub fn extension(field: &Field, data_type: &DataType) -> Option<Extension> {
    match (data_type, field.extension_type_name()?) {
        (DataType::FixedSizeBinary(16), "arrow.uuid") => Some(Extension::Uuid),
        (DataType::Int8, "arrow.bool8") => Some(Extension::Bool8),
        _ => None,
    }
}
