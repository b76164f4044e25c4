// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Requests of the kernel: from the bytes of `read()` to an enum.

use super::{DriverError, uapi};

/// One request with the id that its answer needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// For [`super::Driver::answer`].
    pub id: u64,
    /// What to do.
    pub kind: RequestKind,
}

/// What the kernel asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// The driver above set DRIVER_OK: serve the queues.
    Start {
        /// Virtio feature bits that the driver accepted.
        features: u64,
        /// The queues have been in use before.
        resume: bool,
    },
    /// The driver above reset the device: serve the queues no longer.
    Stop,
    /// The driver above wrote to the config space.
    ConfigWrite {
        /// First byte.
        offset: u32,
        /// 1 to [`uapi::CONFIG_WRITE_MAX`] bytes.
        data: Vec<u8>,
    },
}

impl Request {
    /// Parses what `read()` returned.
    ///
    /// # Errors
    /// [`DriverError::BadRequest`] for a length, type or field that the ABI does not have.
    pub fn parse(bytes: &[u8]) -> Result<Self, DriverError> {
        if bytes.len() != uapi::REQUEST_SIZE {
            return Err(DriverError::BadRequest(format!("{} bytes", bytes.len())));
        }
        let flags = u32_at(bytes, 12)?;
        let kind = match u32_at(bytes, 8)? {
            uapi::REQUEST_START => RequestKind::Start {
                features: u64_at(bytes, uapi::REQUEST_FEATURES)?,
                resume: flags & uapi::START_RESUME != 0,
            },
            uapi::REQUEST_STOP => RequestKind::Stop,
            uapi::REQUEST_CONFIG_WRITE => config_write(bytes)?,
            other => return Err(DriverError::BadRequest(format!("type {other}"))),
        };
        Ok(Self {
            id: u64_at(bytes, 0)?,
            kind,
        })
    }
}

fn config_write(bytes: &[u8]) -> Result<RequestKind, DriverError> {
    let offset = u32_at(bytes, uapi::REQUEST_WRITE_OFFSET)?;
    let length = u32_at(bytes, uapi::REQUEST_WRITE_LENGTH)? as usize;
    let data = bytes
        .get(uapi::REQUEST_WRITE_DATA..)
        .and_then(|data| data.get(..length))
        .filter(|data| !data.is_empty() && data.len() <= uapi::CONFIG_WRITE_MAX)
        .ok_or_else(|| DriverError::BadRequest(format!("config write of {length} bytes")))?;
    Ok(RequestKind::ConfigWrite {
        offset,
        data: data.to_vec(),
    })
}

fn array_at<const N: usize>(bytes: &[u8], offset: usize) -> Result<[u8; N], DriverError> {
    bytes
        .get(offset..)
        .and_then(|bytes| bytes.first_chunk::<N>())
        .copied()
        .ok_or_else(|| DriverError::BadRequest("too short".into()))
}

fn u32_at(bytes: &[u8], offset: usize) -> Result<u32, DriverError> {
    Ok(u32::from_ne_bytes(array_at(bytes, offset)?))
}

fn u64_at(bytes: &[u8], offset: usize) -> Result<u64, DriverError> {
    Ok(u64::from_ne_bytes(array_at(bytes, offset)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(id: u64, kind: u32, flags: u32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = [
            &id.to_ne_bytes()[..],
            &kind.to_ne_bytes(),
            &flags.to_ne_bytes(),
            payload,
        ]
        .concat();
        bytes.resize(uapi::REQUEST_SIZE, 0);
        bytes
    }

    #[test]
    fn start_carries_features_and_resume() {
        let features = 0x1_0000_0001u64;
        for (flags, resume) in [(0, false), (uapi::START_RESUME, true)] {
            let request = Request::parse(&bytes(7, 1, flags, &features.to_ne_bytes())).unwrap();
            let kind = RequestKind::Start { features, resume };
            assert_eq!(request, Request { id: 7, kind });
        }
    }

    #[test]
    fn config_write_takes_exactly_its_bytes() {
        let write = |length: u32| {
            let head = [4u32.to_ne_bytes(), length.to_ne_bytes()].concat();
            Request::parse(&bytes(1, 3, 0, &[head, vec![0xab; 256]].concat()))
        };
        let kind = RequestKind::ConfigWrite {
            offset: 4,
            data: vec![0xab; 3],
        };
        assert_eq!(write(3).unwrap().kind, kind);
        assert!(write(256).is_ok());
        for length in [0, 257, u32::MAX] {
            assert!(
                matches!(write(length), Err(DriverError::BadRequest(_))),
                "{length}"
            );
        }
    }

    #[test]
    fn what_the_abi_does_not_have_is_an_error() {
        assert!(matches!(
            Request::parse(&bytes(1, 9, 0, &[])),
            Err(DriverError::BadRequest(_))
        ));
        assert!(matches!(
            Request::parse(&[0; 8]),
            Err(DriverError::BadRequest(_))
        ));
        assert!(matches!(
            Request::parse(&[]),
            Err(DriverError::BadRequest(_))
        ));
    }
}
