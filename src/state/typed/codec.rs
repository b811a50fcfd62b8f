//! How typed values become bytes.

use std::any::type_name;
use std::borrow::Cow;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, ErrorKind, Result};

/// Encodes and decodes values of type `T`.
///
/// For keys (and for user keys of maps) equal values must give equal bytes: keys are compared as bytes.
/// So a `HashMap`, say, cannot be a part of a key.
pub trait Codec<T> {
    /// The name that goes into the state's schema. Two codecs of one name must understand each
    /// other's bytes, in every version of the program.
    fn name(&self) -> Cow<'_, str>;

    /// Appends the bytes of `value`.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if the value cannot be encoded.
    fn encode(&self, value: &T, out: &mut Vec<u8>) -> Result<()>;

    /// Reads a value from exactly these bytes.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if they are none.
    fn decode(&self, bytes: &[u8]) -> Result<T>;
}

/// Postcard, a compact binary form, through serde. The default.
///
/// Its name in the schema is `postcard:` and the Rust type's full name. That name changes if the type is
/// renamed or moved to another module, and says nothing about its fields; for state that shall
/// outlive such changes give a name of your own, with a version, by [`Postcard::named`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Postcard {
    name: Option<Cow<'static, str>>,
}

impl Postcard {
    /// The codec whose name in the schema is `postcard:` and `name`.
    pub fn named(name: impl Into<Cow<'static, str>>) -> Self {
        Self { name: Some(name.into()) }
    }
}

impl<T: Serialize + DeserializeOwned> Codec<T> for Postcard {
    fn name(&self) -> Cow<'_, str> {
        format!("postcard:{}", self.name.as_deref().unwrap_or_else(|| type_name::<T>())).into()
    }

    fn encode(&self, value: &T, out: &mut Vec<u8>) -> Result<()> {
        // `to_extend` takes the vector and gives it back, longer.
        *out = postcard::to_extend(value, std::mem::take(out)).map_err(|error| {
            Error::new(ErrorKind::InvalidInput, "encode a value", error.to_string())
                .with_object(type_name::<T>())
                .with_source(error)
        })?;
        Ok(())
    }

    fn decode(&self, bytes: &[u8]) -> Result<T> {
        const OPERATION: &str = "decode a value";
        match postcard::take_from_bytes(bytes) {
            Ok((value, [])) => Ok(value),
            Ok((_, rest)) => {
                let message = format!("{} bytes are left over", rest.len());
                Err(Error::corrupt(OPERATION, type_name::<T>(), message))
            }
            Err(error) => Err(Error::corrupt(OPERATION, type_name::<T>(), error.to_string()).with_source(error)),
        }
    }
}

/// Bytes as they are, for engines that encode values themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RawBytes;

impl Codec<Vec<u8>> for RawBytes {
    fn name(&self) -> Cow<'_, str> {
        "bytes".into()
    }

    fn encode(&self, value: &Vec<u8>, out: &mut Vec<u8>) -> Result<()> {
        out.extend_from_slice(value);
        Ok(())
    }

    fn decode(&self, bytes: &[u8]) -> Result<Vec<u8>> {
        Ok(bytes.to_vec())
    }
}
